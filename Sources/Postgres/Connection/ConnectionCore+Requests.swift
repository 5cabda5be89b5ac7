import PostgresProtocol
import PostgresTransport
import Synchronization

/// The caller's part: a request into the queue, and the wait for its reply.
extension ConnectionCore {
    /// How long a thread may wait for the socket.
    enum ReadBound {
        /// A caller of the asynchronous API, on a thread of the cooperative pool.
        case poll
        /// A caller of the blocking API, whose thread is its own.
        case unbounded
    }

    @inline(__always)
    func wait(_ bound: ReadBound) -> Bool {
        switch bound {
        case .poll: channel.waitReadable(microseconds: ReaderPolicy.pollMicroseconds)
        // Again after a signal.
        case .unbounded: channel.waitReadable() || channel.waitReadable(until: .never)
        }
    }

    enum Begun {
        /// The caller has both roles: send, and read.
        case reads(Int)
        /// Queued; `flush` says that the caller is to send.
        case queued(Int, flush: Bool)
        case noRoom
    }

    // MARK: Beginning

    /// One lock: encode, queue, and decide who sends and who reads.
    ///
    /// - Parameter writer: the lease that the statement is part of.
    @inline(__always)
    func begin(
        _ query: PostgresQuery, _ formats: ResultFormats, _ mode: ConnectionState.Mode, as writer: Int?, mayRead: Bool,
        blocking: Bool
    ) throws(PostgresError) -> Begun {
        if query.storage.sealed.pointee.bytes >= LargeParameters.minimum {
            return try beginLarge(query, formats, mode, as: writer, mayRead: mayRead, blocking: blocking)
        }
        let onLoop = loop.isCurrent
        return try state.withLock { state throws(PostgresError) in
            guard state.hasRoom(for: writer), state.closed == nil else { return try refuse(&state, writer) }
            let start = state.encodedBytes
            let request = try state.encode(query, formats, mode, sync: true)
            return enqueue(
                &state, InFlight(request: request, formats: formats, startOffset: start), mayRead: mayRead,
                blocking: blocking, onLoop: onLoop)
        }
    }

    /// Puts a request that is encoded in `pending` into the queue.
    @inline(__always)
    func enqueue(
        _ state: inout ConnectionState, _ request: consuming InFlight, mayRead: Bool, blocking: Bool, onLoop: Bool
    ) -> Begun {
        let number = state.queue.nextNumber
        let wasEmpty = state.queue.isEmpty
        if wasEmpty {
            state.policy.streak &+= 1
            if mayRead, !state.sending, canRead(&state, blocking: blocking) {
                state.reader = .caller
                arm(&state)
                takeSenderRole(&state)
                // This thread is the reader now, and nothing else is in flight.
                begin(request)
                state.queue.append(request)
                return .reads(number)
            }
            state.queue.append(request)
            state.sentAt = monotonicNanoseconds()
        } else {
            state.queue.append(request)
            state.policy.overlapped()
            state.sentAt = 0
        }
        if state.reader == .nobody {
            if !wasEmpty,
                let begun = enqueuedBehindReset(&state, number, mayRead: mayRead, blocking: blocking, onLoop: onLoop)
            {
                return begun
            }
            state.reader = .loop
            arm(&state)
        }
        if state.sending || state.turnScheduled { return .queued(number, flush: false) }
        if wasEmpty, !onLoop {
            takeSenderRole(&state)
            return .queued(number, flush: true)
        }
        state.turnScheduled = true
        loop.scheduleTurn(self)
        return .queued(number, flush: false)
    }

    @inline(__always)
    private func canRead(_ state: inout ConnectionState, blocking: Bool) -> Bool {
        switch state.reader {
        case .caller: return false
        case .loop:
            if state.loopReads || state.policy.streak < ReaderPolicy.aloneBeforeReading || !state.listeners.isEmpty {
                return false
            }
        case .nobody: break
        }
        return blocking || state.policy.isFast
    }

    // MARK: One statement

    /// The way of a statement that its caller can read by itself: no suspension, and no asynchronous function is entered.
    enum Attempt {
        case done(Reply)
        /// The caller waits.
        case pending(Int)
        case noRoom
    }

    @inline(__always)
    func attempt(
        _ query: PostgresQuery, _ formats: ResultFormats, _ mode: ConnectionState.Mode, as writer: Int? = nil
    ) throws(PostgresError) -> Attempt {
        if let failure = query.storage.sealed.pointee.failure { throw failure.naming(query.sql) }
        if Task.isCancelled { throw .cancelled(.notSent) }
        let permit = callersMayRead && !loop.isCurrent && PollPermit.take()
        defer { if permit { PollPermit.giveBack() } }
        switch try begin(query, formats, mode, as: writer, mayRead: permit, blocking: false) {
        case .reads(let number):
            guard let own = readOwnReply(number, .poll) else { return .pending(number) }
            // A pause is due: the reply is parked, and taken after it.
            guard own.isYieldDue else { return .done(own.reply) }
            state.withLock { $0.parked[number] = own.reply }
            return .pending(number)
        case .queued(let number, let flush):
            if flush { pump(permit ? .waits : .none) }
            return .pending(number)
        case .noRoom: return .noRoom
        }
    }

    /// Runs one statement in its own Sync group.
    ///
    /// What was refused for a reason of the statement cache's, or of the types we left to the server, is sent once more.
    nonisolated(nonsending) func perform(
        _ query: PostgresQuery, _ formats: ResultFormats, as writer: Int? = nil
    ) async throws(PostgresError) -> Reply {
        try await finish(query, formats, try attempt(query, formats, .cached, as: writer), as: writer)
    }

    /// The rest of a statement that could not be done at once.
    nonisolated(nonsending) func finish(
        _ query: PostgresQuery, _ formats: ResultFormats, _ begun: Attempt, as writer: Int? = nil
    ) async throws(PostgresError) -> Reply {
        var attempt = begun
        var mode = ConnectionState.Mode.cached
        let limits = waitLimits()
        while true {
            let reply: Reply
            switch attempt {
            case .done(let done): reply = done
            case .pending(let number): reply = await wait(for: number, limits)
            case .noRoom:
                try await waitForRoom(for: writer, until: limits.deadline)
                attempt = try self.attempt(query, formats, mode, as: writer)
                continue
            }
            guard let error = reply.error else { return reply }
            guard let next = nextMode(after: reply, mode, query) else { throw error.naming(query.sql) }
            mode = next
            attempt = try self.attempt(query, formats, mode, as: writer)
        }
    }

    /// How a statement that failed is worth sending once more, if it is.
    func nextMode(
        after reply: Reply, _ mode: ConnectionState.Mode, _ query: PostgresQuery
    ) -> ConnectionState.Mode? {
        // In a transaction the statement may not run twice, and cannot: the transaction has failed.
        guard reply.end.status == .idle else { return nil }
        switch (reply.retry, mode) {
        case (.unnamed, .cached): return .unnamed
        case (.stringsAsText, .cached), (.stringsAsText, .unnamed):
            return query.storage.sealed.pointee.textParameters > 0 ? .stringsAsText : nil
        default: return nil
        }
    }

    struct OwnReply {
        let reply: Reply
        let isYieldDue: Bool
    }

    /// Sends, and reads until the reply is there, on the calling thread.
    ///
    /// - Returns: nil if the poll ran out, or somebody else has to read: then the loop reads, and the caller waits.
    @inline(__always)
    func readOwnReply(_ number: Int, _ bound: ReadBound) -> OwnReply? {
        readingSince = monotonicNanoseconds()
        pump(.waitsUnlessReadable)
        while true {
            var outcome = ReadOutcome()
            do {
                guard waitOrPause(bound) else {
                    giveRoleToLoop()
                    return nil
                }
                if try receive() > 0 {
                    outcome = drain(wanted: number)
                    if channel.isEncrypted, channel.hasUnsentBytes { flush() }
                }
            } catch {
                lost(error, holding: .reader)
                return takeParked(number)
            }
            if outcome.gaveRoleBack, let reply = outcome.reply {
                return OwnReply(reply: reply, isYieldDue: outcome.isYieldDue)
            }
            switch leaveOrGoOn(hasReply: outcome.reply != nil, bound) {
            case .closed:
                leaveAfterClose()
                if let reply = outcome.reply { return OwnReply(reply: reply, isYieldDue: false) }
                return takeParked(number)
            case .left: return outcome.reply.map { OwnReply(reply: $0, isYieldDue: false) }
            case .reads: continue
            }
        }
    }

    private enum Reading {
        case closed
        case left
        case reads
    }

    /// After a read that did not bring just what was wanted.
    @inline(never)
    private func leaveOrGoOn(hasReply: Bool, _ bound: ReadBound) -> Reading {
        let elapsed = monotonicNanoseconds() &- readingSince
        let reading = state.withLock { state -> Reading in
            if state.closed != nil { return .closed }
            guard hasReply else { return .reads }
            state.policy.measured(elapsed)
            if state.queue.isEmpty, state.listeners.isEmpty {
                state.reader = .nobody
            } else {
                state.reader = .loop
                state.policy.overlapped()
                arm(&state)
            }
            return .left
        }
        if case .reads = reading, case .poll = bound, elapsed > UInt64(ReaderPolicy.pollMicroseconds) &* 1000 {
            giveRoleToLoop()
            return .left
        }
        return reading
    }

    private func giveRoleToLoop() {
        let isClosed = state.withLock { state in
            if state.closed != nil { return true }
            state.policy.waitedInVain()
            state.unsuspended = 0
            state.reader = .loop
            arm(&state)
            return false
        }
        if isClosed { leaveAfterClose() }
    }

    /// The connection was closed while this thread was its reader: what is left of the queue is the reader's to answer.
    func leaveAfterClose() {
        let reason = state.withLock { $0.closed }
        if let reason { fail(reason, holding: .reader) }
    }

    private func takeParked(_ number: Int) -> OwnReply? {
        state.withLock { $0.parked.removeValue(forKey: number) }.map { OwnReply(reply: $0, isYieldDue: false) }
    }

    // MARK: Waiting

    /// Suspends until the reply is there. Cancelling the task ends the wait, not the statement: its reply is read and thrown away
    /// when it comes, so that replies never shift.
    nonisolated(nonsending) func wait(for number: Int, _ limits: WaitLimits? = nil) async -> Reply {
        if let reply = await takeAfterYield(number) { return reply }
        let limits = limits ?? waitLimits()
        guard limits.isPlain else { return await waitOrStop(for: number, limits).0 }
        defer { Handover.resumed() }
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                if let reply = claim(number, .continuation(continuation)) { continuation.resume(returning: reply) }
            }
        } onCancel: {
            stop(number, .cancelled, sendsRequest: false)
        }
    }

    /// A reply that is there already was read by its own caller, who has read without a pause for a while: others get a turn.
    nonisolated(nonsending) func takeAfterYield(_ number: Int) async -> Reply? {
        let reply = state.withLock { state in
            state.parked.isEmpty ? nil : state.parked.removeValue(forKey: number)
        }
        if reply != nil { await Task.yield() }
        return reply
    }

    /// Registers who waits; returns the reply if it is there already.
    func claim(_ number: Int, _ waiter: InFlight.Waiter) -> Reply? {
        state.withLock { state in
            state.unsuspended = 0
            if !state.parked.isEmpty, let reply = state.parked.removeValue(forKey: number) { return reply }
            let found = state.queue.update(number) { request -> Reply? in
                if case .cancelled = request.waiter {
                    request.waiter = .abandoned
                    return Reply(error: .cancelled(.unknown))
                }
                request.waiter = waiter
                return nil
            }
            return found ?? Reply(error: .internalFailure("request \(number) is neither in flight nor answered"))
        }
    }

    /// Until the sender has caught up. The caller then tries again; if its task was cancelled, it finds that out itself.
    ///
    /// - Parameter evenIfCancelled: the caller has to go on, cancelled or not, and would spin.
    /// - Throws: if the caller itself has the connection for itself, under another number.
    nonisolated(nonsending) func waitForRoom(
        for writer: Int? = nil, evenIfCancelled: Bool = false
    ) async throws(PostgresError) {
        try refuseToWaitForItself(as: writer)
        let number = state.withLock { state in
            state.roomNumber &+= 1
            return state.roomNumber
        }
        await withTaskCancellationHandler {
            _ = await withUnsafeContinuation { (continuation: UnsafeContinuation<Reply, Never>) in
                if !waitForRoom(number, .continuation(continuation), writer, evenIfCancelled) {
                    continuation.resume(returning: Reply())
                }
            }
        } onCancel: {
            if !evenIfCancelled { stopWaitingForRoom(number) }
        }
    }

    /// False if there is room by now, or never will be.
    func waitForRoom(
        _ number: Int, _ waiter: InFlight.Waiter, _ writer: Int?, _ evenIfCancelled: Bool = false
    ) -> Bool {
        state.withLock { state in
            if state.exclusiveWriter == ConnectionState.resetIsDue, state.closed == nil { state.writeReset() }
            guard state.closed == nil, !state.isWorthTrying(for: writer), evenIfCancelled || !waiter.isCancelledTask
            else {
                return false
            }
            state.waitingForRoom.append(ConnectionState.RoomWaiter(number: number, waiter: waiter, writer: writer))
            return true
        }
    }
}

extension PostgresError {
    static func cancelled(_ outcome: Outcome) -> PostgresError {
        let message =
            switch outcome {
            case .notSent: "the task was cancelled before the statement was sent"
            case .rejected: "the task was cancelled, and the statement with it"
            case .succeeded: "the task was cancelled; the statement ended before, and its rows are lost"
            case .aborted, .unknown:
                "the task was cancelled while the statement was on its way; it runs to its end on the server"
            }
        return PostgresError(code: .cancelled, message: message, outcome: outcome)
    }
}
