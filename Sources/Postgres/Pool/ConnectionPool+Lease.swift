import PostgresProtocol
import PostgresTransport
import Synchronization

/// Getting a connection, using it, and giving it back.
extension ConnectionPool {
    private enum Asked {
        case lease(Lease)
        case wait(WaiterQueue.ID)
        case failed(PostgresError)
    }

    /// - Parameters:
    ///   - dead: what the caller was given, and gives back in the same step, so that nobody gets in between.
    ///   - since: when the caller asked first; nil if it does now.
    private func ask(
        _ use: PoolStateMachine.Use, insteadOf dead: Lease?, _ since: inout PoolStateMachine.Time?
    ) -> Asked {
        let deadline = PostgresScope.current?.deadline.nanoseconds ?? PoolStateMachine.never
        return update { state, now in
            if let dead { giveBackDead(dead, &state, now) }
            let asked = since
            if since == nil { since = now }
            switch state.machine.acquire(use, now: now, until: deadline, since: asked) {
            case .granted(let granted):
                guard let lease = lease(granted, state) else {
                    return .failed(.internalFailure("a slot of the pool has no connection"))
                }
                return .lease(lease)
            case .wait(let waiter): return .wait(waiter)
            case .failed(let failure):
                return .failed(PostgresError(failure, PostgresClient.Statistics(state.machine), options))
            }
        }
    }

    func lease(_ granted: PoolStateMachine.Granted, _ state: borrowing State) -> Lease? {
        guard let core = state.entries[granted.id.slot].core else { return nil }
        return Lease(id: granted.id, core: core, carriesReset: granted.carriesReset, isJoined: granted.isJoined)
    }

    // MARK: Acquiring

    /// A connection that is alive, as far as this machine knows.
    ///
    /// - Parameter unsettled: what the caller has got already, if nothing is known of it.
    nonisolated(nonsending) func acquire(
        _ use: PoolStateMachine.Use, unsettled: Lease? = nil
    ) async throws(PostgresError) -> Lease {
        guard let observation else { return try await acquireUnobserved(use, unsettled) }
        let running = observation.begin(.acquire, statements: 0)
        do throws(PostgresError) {
            let lease = try await acquireUnobserved(use, unsettled)
            observation.end(running, Observation.Counts())
            return lease
        } catch {
            observation.end(running, Observation.Counts(error: error))
            throw error
        }
    }

    private nonisolated(nonsending) func acquireUnobserved(
        _ use: PoolStateMachine.Use, _ unsettled: Lease?
    ) async throws(PostgresError) -> Lease {
        var since: PoolStateMachine.Time?
        var dead: Lease?
        if let unsettled {
            if await isAlive(unsettled) { return unsettled }
            dead = unsettled
        }
        while true {
            let lease: Lease
            switch ask(use, insteadOf: dead, &since) {
            case .lease(let found): lease = found
            case .failed(let error): throw error
            case .wait(let waiter):
                switch await wait(waiter) {
                case .lease(let granted): lease = granted
                case .failed(let error): throw error
                }
            }
            if await isAlive(lease) { return lease }
            dead = lease
        }
    }

    /// An idle connection, if there is one: without suspending.
    ///
    /// - Parameter unsettled: set to it instead if it takes waiting to learn whether it is alive.
    @inline(__always)
    private func acquireAtOnce(_ use: PoolStateMachine.Use, _ unsettled: inout Lease?) -> Lease? {
        let found = update { state, now -> Lease? in
            guard state.machine.canGrantAtOnce(use, now),
                case .granted(let granted) = state.machine.acquire(use, now: now)
            else { return nil }
            return lease(granted, state)
        }
        guard let found else { return nil }
        if found.isJoined { return found }
        switch found.core.checkOut(resets: found.carriesReset) {
        case .isAlive: return found
        case .isUnsettled: unsettled = found
        case .isDead: update { state, now in giveBackDead(found, &state, now) }
        }
        return nil
    }

    nonisolated(nonsending) private func isAlive(_ lease: Lease) async -> Bool {
        if lease.isJoined { return true }
        return await lease.core.isAlive(resets: lease.carriesReset)
    }

    /// A connection that died while nobody used it goes back, to be closed.
    private func giveBackDead(_ lease: Lease, _ state: inout State, _ now: PoolStateMachine.Time) {
        state.machine.release(lease.id, .broken, resetPending: true, needsReset: false, now: now)
    }

    nonisolated(nonsending) private func wait(_ waiter: WaiterQueue.ID) async -> Grant {
        defer { Handover.resumed() }
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Grant, Never>) in
                let early = state.withLock { state -> Grant? in
                    if case .answered(let grant)? = state.waiting.removeValue(forKey: waiter) { return grant }
                    state.waiting[waiter] = .suspended(continuation)
                    return nil
                }
                if let early { continuation.resume(returning: early) }
            }
        } onCancel: {
            cancel(waiter)
        }
    }

    /// If it was given a connection meanwhile, it gets that: it finds out by itself that it was cancelled, and gives it back.
    private func cancel(_ waiter: WaiterQueue.ID) {
        let grant = Grant.failed(
            PostgresError(code: .cancelled, message: "the task was cancelled while it waited for a connection"))
        let continuation = update { state, now -> UnsafeContinuation<Grant, Never>? in
            guard state.machine.cancel(waiter, now: now) else { return nil }
            if case .suspended(let continuation)? = state.waiting.removeValue(forKey: waiter) { return continuation }
            state.waiting[waiter] = .answered(grant)
            return nil
        }
        Handover.resumes()
        continuation?.resume(returning: grant)
    }

    // MARK: Giving back

    /// - Returns: whether the connection is of no use any more.
    @discardableResult
    func giveBack(_ lease: Lease, isKept: Bool = false, hadUserCode: Bool = false) -> Bool {
        let found = lease.core.inspect()
        let needsReset =
            switch options.reset {
            // A shared connection is in use by others while one of its users ends.
            case .always: hadUserCode || options.sharedStatements <= 1
            case .afterLeases: hadUserCode
            case .never: false
            }
        // Who joins others on a connection does not check it out, so no reset could ride with the first: it comes at once.
        let resetsAtOnce = needsReset && options.sharedStatements > 1 && found.condition == .clean
        let condition = resetsAtOnce ? .dirty : found.condition
        update { state, now in
            state.machine.release(
                lease.id, isKept ? max(.kept, condition) : condition, resetPending: found.isResetPending,
                needsReset: needsReset && !resetsAtOnce, now: now)
        }
        return found.condition == .broken
    }

    /// The connection itself, for users' code.
    func takeConnection(of lease: Lease) -> PostgresConnection {
        let connection = state.withLock { state -> PostgresConnection? in
            var connection: PostgresConnection?
            if state.machine.isCurrent(lease.id) { swap(&connection, &state.entries[lease.id.slot].connection) }
            return connection
        }
        // The client was shut down in this moment.
        return connection ?? PostgresConnection(core: lease.core)
    }

    /// Nobody but the user is to have a reference when the next one gets the connection: a caller on its way out would be taken for
    /// somebody who keeps it. So it is consumed, and moved into its place.
    func giveBack(_ lease: Lease, _ connection: consuming PostgresConnection) {
        let isKept = !isKnownUniquelyReferenced(&connection)
        var returned: PostgresConnection? = consume connection
        if !isKept {
            state.withLock { state in
                if state.machine.isCurrent(lease.id) { swap(&state.entries[lease.id.slot].connection, &returned) }
            }
        }
        giveBack(lease, isKept: isKept, hadUserCode: true)
        withExtendedLifetime(returned) {}
    }

    // MARK: Statements

    nonisolated(nonsending) func perform(
        _ query: PostgresQuery, _ formats: ResultFormats
    ) async throws(PostgresError) -> Reply {
        var unsettled: Lease?
        if observation == nil, let lease = acquireAtOnce(.shared, &unsettled) {
            do throws(PostgresError) {
                let attempt = try lease.core.attempt(query, formats, .cached)
                let reply: Reply
                if case .done(let done) = attempt, done.error == nil {
                    reply = done
                } else {
                    reply = try await lease.core.finish(query, formats, attempt)
                }
                giveBack(lease)
                return reply
            } catch {
                guard isWorthRetrying(error, isLost: giveBack(lease)) else { throw error }
            }
        }
        return try await retrying(.shared, unsettled: unsettled, givesBack: true) { (lease) throws(PostgresError) in
            lease.core.observation == nil
                ? try await lease.core.perform(query, formats)
                : try await lease.core.performObserved(query, formats)
        }
    }

    nonisolated(nonsending) func run(
        _ pipeline: PostgresPipeline
    ) async throws(PostgresError) -> [Reply] {
        try await retrying(.exclusive, givesBack: true) { (lease) throws(PostgresError) in
            try await lease.core.run(pipeline, connection: lease.core)
        }
    }

    /// Uses a connection, and another one if it turns out that the first was closed before anything was sent.
    ///
    /// - Parameters:
    ///   - unsettled: what the caller has got already.
    ///   - givesBack: also after success.
    nonisolated(nonsending) func retrying<Result>(
        _ use: PoolStateMachine.Use, unsettled: Lease? = nil, givesBack: Bool = false,
        _ body: (Lease) async throws(PostgresError) -> Result
    ) async throws(PostgresError) -> Result {
        var attemptsLeft = 3
        var unsettled = unsettled
        while true {
            attemptsLeft -= 1
            let lease = try await acquire(use, unsettled: unsettled)
            unsettled = nil
            do throws(PostgresError) {
                let result = try await body(lease)
                if givesBack { giveBack(lease) }
                return result
            } catch {
                guard isWorthRetrying(error, isLost: giveBack(lease)), attemptsLeft > 0 else { throw error }
            }
        }
    }

    private func isWorthRetrying(_ error: PostgresError, isLost: Bool) -> Bool {
        isLost && error.outcome == .notSent && error.code != .cancelled && !state.withLock { $0.machine.isShutDown }
    }
}
