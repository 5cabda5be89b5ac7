import PostgresProtocol
import PostgresTransport
import Synchronization

/// The blocking API's way through a transaction: step for step that of the asynchronous one.
extension TransactionFlow {
    static func beginBlocking(
        _ core: ConnectionCore, connection: any AnyObject & Sendable, _ begin: PostgresQuery
    ) throws(PostgresError) -> TransactionFlow {
        TransactionFlow(core, connection: connection, begin: begin, writer: try core.leaseBlocking())
    }

    // MARK: Statements

    /// A statement when the flow is not plain.
    func performBlocking(
        _ query: PostgresQuery, _ formats: ResultFormats, as writer: Int
    ) throws(PostgresError) -> Reply {
        if let problem = core.state.withLock({ $0.problem(of: query) }) { throw problem }
        let replies = try runAtomicallyBlocking([PostgresPipeline.Item(query: query, formats: formats)], as: writer)
        guard let reply = replies.first else { throw .internalFailure("a statement without a reply") }
        if let error = reply.error { throw error }
        return reply
    }

    /// Statements in one group, behind the leads.
    func runAtomicallyBlocking(
        _ items: [PostgresPipeline.Item], as writer: Int
    ) throws(PostgresError) -> [Reply] {
        let leads = try claimLeadsBlocking(closing: false)
        let replies: [Reply]
        do {
            replies = try core.runBlocking(leads.map(\.item) + items, .atomic, as: writer)
        } catch {
            giveBack(leads)
            throw error
        }
        settle(leads, replies)
        return Array(replies.dropFirst(leads.count))
    }

    /// Sends the leads on their own, for what cannot ride with them.
    func openBlocking(as writer: Int) throws(PostgresError) {
        while !isPlain {
            let leads = try claimLeadsBlocking(closing: false)
            let replies: [Reply]
            do {
                replies = try core.runBlocking(leads.map(\.item), .atomic, as: writer)
            } catch {
                giveBack(leads)
                throw error
            }
            settle(leads, replies)
            if let error = replies.compactMap(\.error).first(where: { $0.outcome != .aborted }) { throw error }
        }
    }

    func runBlocking(
        _ pipeline: PostgresPipeline, as writer: Int
    ) throws(PostgresError) -> [Reply] {
        let items = pipeline.items
        if items.isEmpty { return [] }
        try core.check(items)
        switch pipeline.sync {
        case .atomic:
            return isPlain
                ? try core.runBlocking(items, .atomic, as: writer) : try runAtomicallyBlocking(items, as: writer)
        case .isolated:
            // With a Sync behind BEGIN, the statements would run outside if it failed.
            try openBlocking(as: writer)
            return try core.runBlocking(items, .isolated, as: writer)
        case .savepoints:
            let leads = try claimLeadsBlocking(closing: false)
            let woven = SavepointPipeline(leads.map(\.item), items, end: SavepointPipeline.release)
            let replies: [Reply]
            do {
                replies = try core.runBlocking(woven.items, woven.placement, as: writer)
            } catch {
                giveBack(leads)
                throw error
            }
            settle(leads, woven.frame(replies))
            if woven.failure(replies) != nil { noteFailure() }
            return woven.settledInside(replies)
        }
    }

    private func claimLeadsBlocking(closing: Bool) throws(PostgresError) -> [Lead] {
        if let leads = try claim(closing: closing) { return leads }
        var deadline = closing ? core.endDeadline() : core.waitLimits().deadline
        while true {
            if let leads = try claim(closing: closing) { return leads }
            if let passed = deadline, passed.hasPassed {
                if !closing { throw .timedOut(.notSent) }
                core.close(because: "a transaction could not be ended in time")
                deadline = nil
            }
            let number = nextWaitNumber()
            let thread = BlockedThread()
            guard wait(number, .thread(thread), evenIfCancelled: true) else { continue }
            let timer = deadline.map { core.loop.schedule(at: $0) { self.stopWaiting(number) } }
            _ = thread.wait()
            if let timer { core.loop.cancel(timer) }
        }
    }

    // MARK: Nested

    func releaseBlocking(_ savepoint: Savepoint) throws(PostgresError) {
        guard let last = beginEnd(of: savepoint.writer) else { return }
        defer { close(savepoint, last) }
        let leads = try claimLeadsBlocking(closing: true)
        giveBack(leads)
        if takeBack(savepoint) || releaseLater(savepoint) { return }
        let failure: PostgresError
        do {
            let replies = try runAtomicallyBlocking(
                [PostgresPipeline.Item(savepoint.releaseQuery)], as: last)
            guard let error = replies.compactMap(\.error).first else { return }
            failure = error
        } catch { failure = error }
        rollBackBlocking(to: savepoint, as: last)
        throw failure.with(
            message: "the nested transaction was rolled back, because a statement in it had failed: \(failure.message)",
            hint: "let the error of a statement end the body")
    }

    func rollBackBlocking(to savepoint: Savepoint) {
        guard let last = beginEnd(of: savepoint.writer) else { return }
        rollBackBlocking(to: savepoint, as: last)
        close(savepoint, last)
    }

    private func rollBackBlocking(to savepoint: Savepoint, as last: Int) {
        guard let leads = try? claimLeadsBlocking(closing: true) else { return }
        if leads.contains(where: { $0.opens == savepoint.writer }) {
            giveBack(leads)
            _ = takeBack(savepoint)
            return
        }
        do {
            try core.runToTheEndBlocking(savepoint.rollBackText, as: last)
            rolledBack(to: savepoint)
        } catch { doom(error) }
    }

    // MARK: The end

    /// Commits, the last statements and COMMIT in one group.
    ///
    /// - Throws: when nothing was sent.
    func commitBlocking(
        _ items: [PostgresPipeline.Item] = [], _ sync: PostgresPipeline.Sync = .atomic, as writer: Int
    ) throws(PostgresError) -> Committed {
        try core.check(items)
        if isBegun || !items.isEmpty, PostgresScope.hasEnded { throw .timedOutBeforeCommit }
        guard let last = beginEnd(of: writer) else { throw noted(.leaseEnded) }
        let leads = try claimLeadsBlocking(closing: true)
        switch planEnd(leads, items) {
        case .nothing:
            finish(.rolledBack, last)
            return Committed()
        case .doomed(let error):
            rollBackBlocking(as: last, error)
            throw error
        case .group: break
        }
        let group = CommitGroup(leads.map(\.item), items, sync)
        let replies: [Reply]
        do {
            replies = try core.runBlocking(group.items, group.placement, as: last, .isToBeKnown)
        } catch {
            giveBack([])
            rollBackBlocking(as: last, error)
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
            rollBackBlocking(as: last, error)
        case .unknown(let error):
            failure = error
            finish(.unknown, last, error)
        }
        return Committed(replies: group.settled(replies, failure), error: failure)
    }

    /// The end of a body that returned; it may have committed by itself.
    func commitUnlessEndedBlocking() throws(PostgresError) {
        let committed = end == nil ? try commitAloneBlocking() : Committed(error: endError)
        if let error = committed.error { throw error }
    }

    private func commitAloneBlocking() throws(PostgresError) -> Committed {
        // Where nothing is sent, nothing is told.
        guard core.observation != nil, isBegun else { return try commitBlocking(as: writer) }
        return try core.observedBlocking(.commit, sql: "COMMIT") {
            () throws(PostgresError) -> Committed in try commitBlocking(as: writer)
        }
    }

    /// Rolls back what is open.
    func rollBackBlocking() {
        guard end == nil, let last = beginEnd(of: writer) else { return }
        if (try? claimLeadsBlocking(closing: true)) != nil { giveBack([]) }
        guard core.observation != nil, isBegun else {
            rollBackBlocking(as: last, nil)
            return
        }
        _ = try? core.observedBlocking(.rollback, sql: "ROLLBACK") {
            () throws(PostgresError) -> Committed in Committed(error: rollBackBlocking(as: last, nil))
        }
    }

    /// - Returns: what the server said against it.
    @discardableResult
    private func rollBackBlocking(as last: Int, _ cause: PostgresError?) -> PostgresError? {
        var failure: PostgresError?
        if isBegun {
            do {
                try core.runToTheEndBlocking("ROLLBACK", as: last)
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
