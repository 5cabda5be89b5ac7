import PostgresProtocol
import PostgresTransport
import Synchronization

/// What a pool asks of a connection: whether it is alive, in what state it comes back, and to forget what its user did.
extension ConnectionCore {
    enum CheckOut {
        case isAlive
        case isDead
        /// The loop is about to learn it.
        case isUnsettled
    }

    /// Before a connection that nobody used is used: whether it is alive, as far as this machine knows without waiting.
    ///
    /// - Parameter resets: the session is to be reset with the next request.
    @inline(__always)
    func checkOut(resets: Bool) -> CheckOut {
        let found = state.withLock { state -> Idle in
            let found = lookAtIdle(&state)
            if resets, found == .quiet || found == .hasBytes {
                state.exclusiveWriter = ConnectionState.resetIsDue
            }
            return found
        }
        switch found {
        case .quiet: return .isAlive
        case .dead: return .isDead
        case .unsettled: return .isUnsettled
        case .hasBytes: return readWhileIdle() ? .isAlive : .isDead
        }
    }

    /// The same, waiting for the loop, if that reads what nobody asked for.
    nonisolated(nonsending) func isAlive(resets: Bool) async -> Bool {
        // Who floods us is not waited for.
        for _ in 0..<100 {
            switch checkOut(resets: resets) {
            case .isAlive: return true
            case .isDead: return false
            // A job of the loop runs behind its reading.
            case .isUnsettled: await Task(executorPreference: loop) {}.value
            }
        }
        return false
    }

    private enum Idle {
        case quiet
        case dead
        case unsettled
        /// The caller is the reader now.
        case hasBytes
    }

    /// The descriptor is open while `closed` is nil and the lock is held.
    @inline(__always)
    private func lookAtIdle(_ state: inout ConnectionState) -> Idle {
        if state.closed != nil { return .dead }
        if state.loopReads {
            // Mostly the loop has the last bytes of a reply behind it. Else it has a notice, or the server's last words.
            return !state.loopMayHold && channel.socket.waiting == .nothing ? .quiet : .unsettled
        }
        if state.reader == .caller { return channel.socket.waiting == .nothing ? .quiet : .dead }
        switch channel.socket.waiting {
        case .nothing where !(channel.isEncrypted && channel.mayHoldMore):
            return inbound.hasFarewell ? .dead : .quiet
        case .nothing, .bytes:
            state.reader = .caller
            arm(&state)
            return .hasBytes
        case .end: return .dead
        }
    }

    /// Nobody asked for what is there: notices and parameters, or the server's last words.
    @inline(never)
    private func readWhileIdle() -> Bool {
        var isOpen = true
        do {
            // Who floods us is not waited for.
            for _ in 0..<16 {
                let space = inbound.buffer.space()
                let count = try channel.receive(into: space)
                guard count > 0 else { break }
                inbound.buffer.received(count)
                inbound.buffer.growIfFull(count, of: space.count)
                isOpen = drain(wanted: -1).isOpen
                if !isOpen || count < space.count { break }
            }
        } catch {
            lost(error, holding: .reader)
            return false
        }
        if channel.isEncrypted, channel.hasUnsentBytes { flush() }
        guard isOpen else { return false }
        let isFarewell = inbound.hasFarewell
        let isClosed = state.withLock { state in
            if state.closed != nil { return true }
            state.reader = state.queue.isEmpty && state.listeners.isEmpty ? .nobody : .loop
            arm(&state)
            return false
        }
        if isClosed { leaveAfterClose() }
        return !isClosed && !isFarewell
    }

    struct Inspection {
        var condition = PoolStateMachine.Condition.clean
        /// The user sent nothing, so neither was the reset that was to go with it.
        var isResetPending = false
    }

    /// In what state a user leaves the connection.
    @inline(__always)
    func inspect() -> Inspection {
        state.withLock { state in
            let isResetPending = state.exclusiveWriter == ConnectionState.resetIsDue
            // Who has it for himself still, or is in the middle of a pipeline, will not end that any more.
            // A request to cancel ends by itself, in bounded time, and so does a cursor that was left.
            let isEnding = state.exclusiveWriter != nil && state.exclusiveWriter == state.endingLease
            let isLeft = state.exclusiveWriter != nil && !isResetPending && state.cancelGate == nil && !isEnding
            if state.closed != nil || isLeft {
                return Inspection(condition: .broken, isResetPending: isResetPending)
            }
            let isInTransaction = isInTransaction.load(ordering: .relaxed)
            return Inspection(
                condition: isInTransaction
                    ? .dirty : state.queue.isEmpty && state.cancelGate == nil && !isEnding ? .clean : .busy,
                isResetPending: isResetPending)
        }
    }

    // MARK: Resetting

    /// Waits for what is in flight, ends the transaction, and resets the session.
    ///
    /// - Returns: false if the connection is not to be used any more.
    nonisolated(nonsending) func bringIntoOrder(resets: Bool) async -> Bool {
        let isBusy = state.withLock { state in
            if state.exclusiveWriter == ConnectionState.resetIsDue { state.exclusiveWriter = nil }
            return !state.queue.isEmpty || state.exclusiveWriter != nil
        }
        do {
            // An empty Query is answered behind all else, and tells whether a transaction is open.
            if isBusy { _ = try await script("") }
            let isOpen = isInTransaction.load(ordering: .relaxed)
            if isOpen, resets {
                _ = try await script("ROLLBACK; \(unsafeSQL: ConnectionState.resetSQL)")
            } else if resets {
                _ = try await script("\(unsafeSQL: ConnectionState.resetSQL)")
            } else if isOpen {
                _ = try await script("ROLLBACK")
            }
        } catch {
            return false
        }
        return inspect().condition == .clean
    }

    /// The reset that went ahead of a user's first request was answered.
    ///
    /// - Returns: false if it failed: then the connection is closed, and nothing of what it says is believed.
    func finishReset(_ result: StatementResult) -> Bool {
        guard case .rejected(let report)? = result.failure else { return true }
        // What came behind it ran, or is about to, in a session of which nothing is known.
        fail(
            PostgresError(report, outcome: .unknown, sql: nil).with(
                message: "resetting the session failed: \(report.message)", hint: "the connection is closed"))
        return false
    }

    /// The caller's request stands behind a reset that waits to be sent with it; nothing else is in flight.
    ///
    /// - Returns: nil if it is not so.
    @inline(never)
    func enqueuedBehindReset(
        _ state: inout ConnectionState, _ number: Int, mayRead: Bool, blocking: Bool, onLoop: Bool
    ) -> Begun? {
        guard state.resetNumber == number &- 1, state.queue.count == 2, !state.sending, !state.turnScheduled else {
            return nil
        }
        state.policy.streak = 0
        if mayRead, blocking || state.policy.isFast {
            state.reader = .caller
            arm(&state)
            takeSenderRole(&state)
            return .reads(number)
        }
        guard !onLoop else { return nil }
        state.reader = .loop
        arm(&state)
        takeSenderRole(&state)
        return .queued(number, flush: true)
    }
}

extension ConnectionState {
    /// The `exclusiveWriter` of a connection whose session is to be reset before anybody writes. No caller has this number, so it
    /// finds no room, and on the way to wait for it writes the reset.
    static let resetIsDue = -1

    /// Manual, "DISCARD": all of DISCARD ALL but the prepared statements and the plans, which are the statement cache's. In one
    /// Query, which is one transaction; DISCARD ALL may not be in one.
    static let resetSQL =
        "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD SEQUENCES; DISCARD TEMP"

    /// Puts the reset into the queue. It leaves in one piece with the request that comes next.
    mutating func writeReset() {
        let start = pending.count
        // It is short, and has no NUL: nothing can be wrong with it.
        guard let request = try? outbound.script(ConnectionState.resetSQL, into: &pending) else { return }
        exclusiveWriter = nil
        var entry = InFlight(request: request, formats: .text, startOffset: encodedBytes)
        encodedBytes &+= pending.count &- start
        entry.waiter = .abandoned
        entry.collector = .reset
        resetNumber = queue.nextNumber
        queue.append(entry)
    }
}
