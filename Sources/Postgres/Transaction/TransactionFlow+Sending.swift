import PostgresProtocol
import PostgresTransport
import Synchronization

/// The asynchronous API's way through a transaction.
extension TransactionFlow {
    nonisolated(nonsending) static func begin(
        _ core: ConnectionCore, connection: any AnyObject & Sendable, _ begin: PostgresQuery
    ) async throws(PostgresError) -> TransactionFlow {
        TransactionFlow(core, connection: connection, begin: begin, writer: try await core.lease())
    }

    // MARK: Statements

    /// A statement when the flow is not plain.
    nonisolated(nonsending) func perform(
        _ query: PostgresQuery, _ formats: ResultFormats, as writer: Int
    ) async throws(PostgresError) -> Reply {
        if let problem = core.state.withLock({ $0.problem(of: query) }) { throw problem }
        let replies = try await runAtomically([PostgresPipeline.Item(query: query, formats: formats)], as: writer)
        guard let reply = replies.first else { throw .internalFailure("a statement without a reply") }
        if let error = reply.error { throw error }
        return reply
    }

    /// Statements in one group, behind the leads.
    nonisolated(nonsending) func runAtomically(
        _ items: [PostgresPipeline.Item], as writer: Int
    ) async throws(PostgresError) -> [Reply] {
        let leads = try await claimLeads(cancellable: true)
        let replies: [Reply]
        do {
            replies = try await core.run(leads.map(\.item) + items, .atomic, as: writer)
        } catch {
            giveBack(leads)
            throw error
        }
        settle(leads, replies)
        return Array(replies.dropFirst(leads.count))
    }

    /// Sends the leads on their own, for what cannot ride with them.
    nonisolated(nonsending) func open(as writer: Int) async throws(PostgresError) {
        while !isPlain {
            let leads = try await claimLeads(cancellable: true)
            let replies: [Reply]
            do {
                replies = try await core.run(leads.map(\.item), .atomic, as: writer)
            } catch {
                giveBack(leads)
                throw error
            }
            settle(leads, replies)
            if let error = replies.compactMap(\.error).first(where: { $0.outcome != .aborted }) { throw error }
        }
    }

    nonisolated(nonsending) func run(
        _ pipeline: PostgresPipeline, as writer: Int
    ) async throws(PostgresError) -> [Reply] {
        let items = pipeline.items
        if items.isEmpty { return [] }
        try core.check(items)
        switch pipeline.sync {
        case .atomic:
            return isPlain
                ? try await core.run(items, .atomic, as: writer) : try await runAtomically(items, as: writer)
        case .isolated:
            // With a Sync behind BEGIN, the statements would run outside if it failed.
            try await open(as: writer)
            return try await core.run(items, .isolated, as: writer)
        case .savepoints:
            let leads = try await claimLeads(cancellable: true)
            let woven = SavepointPipeline(leads.map(\.item), items, end: SavepointPipeline.release)
            let replies: [Reply]
            do {
                replies = try await core.run(woven.items, woven.placement, as: writer)
            } catch {
                giveBack(leads)
                throw error
            }
            settle(leads, woven.frame(replies))
            if woven.failure(replies) != nil { noteFailure() }
            return woven.settledInside(replies)
        }
    }

    /// - Parameter cancellable: false at the end, whose time is never up: then the connection is closed, and whoever has the leads
    ///   gives them back.
    nonisolated(nonsending) private func claimLeads(cancellable: Bool) async throws(PostgresError) -> [Lead] {
        if let leads = try claim(closing: !cancellable) { return leads }
        var deadline = cancellable ? core.waitLimits().deadline : core.endDeadline()
        var wasCancelled = Task.isCancelled
        while true {
            if Task.isCancelled {
                if cancellable { throw .cancelled(.notSent) }
                if !wasCancelled { deadline = core.endDeadline() }
                wasCancelled = true
            }
            if let leads = try claim(closing: !cancellable) { return leads }
            if let passed = deadline, passed.hasPassed {
                if cancellable { throw .timedOut(.notSent) }
                core.close(because: "a transaction could not be ended in time")
                deadline = nil
            }
            let number = nextWaitNumber()
            let isDeaf = wasCancelled
            var timer: EventLoop.Timer?
            await withTaskCancellationHandler {
                _ = await withUnsafeContinuation { (continuation: UnsafeContinuation<Reply, Never>) in
                    guard wait(number, .continuation(continuation), evenIfCancelled: isDeaf) else {
                        return continuation.resume(returning: Reply())
                    }
                    timer = deadline.map { core.loop.schedule(at: $0) { self.stopWaiting(number) } }
                }
            } onCancel: {
                if !isDeaf { stopWaiting(number) }
            }
            if let timer { core.loop.cancel(timer) }
        }
    }

    // MARK: Nested

    nonisolated(nonsending) func release(_ savepoint: Savepoint) async throws(PostgresError) {
        guard let last = beginEnd(of: savepoint.writer) else { return }
        defer { close(savepoint, last) }
        let leads = try await claimLeads(cancellable: false)
        giveBack(leads)
        if takeBack(savepoint) || releaseLater(savepoint) { return }
        let failure: PostgresError
        do {
            let replies = try await runAtomically(
                [PostgresPipeline.Item(savepoint.releaseQuery)], as: last)
            guard let error = replies.compactMap(\.error).first else { return }
            failure = error
        } catch { failure = error }
        await rollBack(to: savepoint, as: last)
        throw failure.with(
            message: "the nested transaction was rolled back, because a statement in it had failed: \(failure.message)",
            hint: "let the error of a statement end the body")
    }

    nonisolated(nonsending) func rollBack(to savepoint: Savepoint) async {
        guard let last = beginEnd(of: savepoint.writer) else { return }
        await rollBack(to: savepoint, as: last)
        close(savepoint, last)
    }

    nonisolated(nonsending) private func rollBack(to savepoint: Savepoint, as last: Int) async {
        guard let leads = try? await claimLeads(cancellable: false) else { return }
        if leads.contains(where: { $0.opens == savepoint.writer }) {
            giveBack(leads)
            _ = takeBack(savepoint)
            return
        }
        do {
            try await core.runToTheEnd(savepoint.rollBackText, as: last)
            rolledBack(to: savepoint)
        } catch { doom(error) }
    }

    // MARK: The end

    /// Commits, the last statements and COMMIT in one group. From when they are sent, cancelling does not end the wait at once: what
    /// became of a COMMIT is worth knowing (`Patience`).
    ///
    /// - Throws: when nothing was sent.
    nonisolated(nonsending) func commit(
        _ items: [PostgresPipeline.Item] = [], _ sync: PostgresPipeline.Sync = .atomic, as writer: Int
    ) async throws(PostgresError) -> Committed {
        try core.check(items)
        if isBegun || !items.isEmpty {
            if Task.isCancelled { throw .cancelledBeforeCommit }
            if PostgresScope.hasEnded { throw .timedOutBeforeCommit }
        }
        guard let last = beginEnd(of: writer) else { throw noted(.leaseEnded) }
        let leads = try await claimLeads(cancellable: false)
        switch planEnd(leads, items) {
        case .nothing:
            finish(.rolledBack, last)
            return Committed()
        case .doomed(let error):
            await rollBack(as: last, error)
            throw error
        case .group: break
        }
        let group = CommitGroup(leads.map(\.item), items, sync)
        let replies: [Reply]
        do {
            replies = try await core.run(group.items, group.placement, as: last, .isToBeKnown)
        } catch {
            giveBack([])
            await rollBack(as: last, error)
            throw error
        }
        settleEnd()
        var failure: PostgresError?
        switch Self.outcome(ofCommit: group.frame(replies)) {
        case .committed: finish(.committed, last)
        case .rolledBack(let error):
            failure = error
            finish(.rolledBack, last, error)
        case .open(let error):
            failure = error
            await rollBack(as: last, error)
        case .unknown(let error):
            failure = error
            finish(.unknown, last, error)
        }
        return Committed(replies: group.settled(replies, failure), error: failure)
    }

    /// The end of a body that returned; it may have committed by itself.
    nonisolated(nonsending) func commitUnlessEnded() async throws(PostgresError) {
        let committed = end == nil ? try await commitAlone() : Committed(error: endError)
        if let error = committed.error { throw error }
    }

    nonisolated(nonsending) private func commitAlone() async throws(PostgresError) -> Committed {
        // Where nothing is sent, nothing is told.
        guard core.observation != nil, isBegun else { return try await commit(as: writer) }
        return try await core.observed(.commit, sql: "COMMIT") {
            () async throws(PostgresError) -> Committed in try await commit(as: writer)
        }
    }

    /// Rolls back what is open, cancelled or not.
    nonisolated(nonsending) func rollBack() async {
        guard end == nil, let last = beginEnd(of: writer) else { return }
        if (try? await claimLeads(cancellable: false)) != nil { giveBack([]) }
        guard core.observation != nil, isBegun else {
            await rollBack(as: last, nil)
            return
        }
        _ = try? await core.observed(.rollback, sql: "ROLLBACK") {
            () async throws(PostgresError) -> Committed in Committed(error: await rollBack(as: last, nil))
        }
    }

    /// - Returns: what the server said against it.
    @discardableResult
    nonisolated(nonsending) private func rollBack(as last: Int, _ cause: PostgresError?) async -> PostgresError? {
        var failure: PostgresError?
        if isBegun {
            do {
                try await core.runToTheEnd("ROLLBACK", as: last)
            } catch {
                // What the server cannot roll back now, the end of the session does.
                core.fail(error.with(outcome: .unknown))
                failure = error
            }
        }
        finish(.rolledBack, last, cause)
        return failure
    }
}

extension PostgresError {
    fileprivate static var cancelledBeforeCommit: PostgresError {
        PostgresError(
            code: .cancelled, message: "the task was cancelled before COMMIT was sent; the transaction is rolled back",
            outcome: .aborted)
    }

    static var timedOutBeforeCommit: PostgresError {
        PostgresError(
            code: .timedOut, message: "the deadline passed before COMMIT was sent; the transaction is rolled back",
            outcome: .aborted)
    }
}
