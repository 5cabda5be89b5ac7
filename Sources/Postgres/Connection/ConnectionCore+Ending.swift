import PostgresProtocol
import PostgresTransport
import Synchronization

/// What has to come to its end, cancelled or not: COMMIT, ROLLBACK, and the like.
///
/// Cancelling the task does not end these waits, but gives them a deadline: `cancelTimeout` from then on. Nor does a deadline
/// just end them, for what was sent would go on, as a part of whatever comes next on the connection. A COMMIT is cancelled, for
/// the server then tells what became of it. Where that is not possible, or to no avail, the connection is closed.
enum Patience: Sendable {
    /// Cancelling the task ends the wait.
    case usual
    /// What became of it has to be known.
    case isToBeKnown
    /// The same, and it has to happen, past any deadline.
    case hasToHappen
}

/// What happens to a request that has to come to its end, when its time is up.
enum LastResort: Sendable {
    case asksServer
    case closes
    /// It is in its place in the queue, and that is enough: nobody waits for it any more, as for a statement past its deadline.
    case leaves
}

extension ConnectionCore {
    /// - Parameter reason: why there is a deadline.
    nonisolated(nonsending) func waitForEnd(
        of number: Int, until deadline: Deadline?, _ resort: LastResort, _ reason: StopReason = .timedOut
    ) async -> (Reply, StopReason?) {
        // What was stopped when it was sent may have its reply by now: it is settled wherever that is found.
        if var reply = await takeAfterYield(number) {
            let found = settleStop(of: number, &reply)
            return (reply, found)
        }
        var timer: EventLoop.Timer?
        var reply = await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Reply, Never>) in
                if let reply = claim(number, .continuation(continuation)) {
                    return continuation.resume(returning: reply)
                }
                timer = deadline.map { press(number, resort, reason, at: $0) }
            }
        } onCancel: {
            // It finds nothing to do if the request has ended by then.
            _ = press(number, resort, .cancelled, at: Deadline(after: limits.cancelTimeout))
        }
        Handover.resumed()
        if let timer { loop.cancel(timer) }
        let found = settleStop(of: number, &reply)
        return (reply, found)
    }

    /// The same on a thread of the blocking API.
    func waitForEndBlocking(
        of number: Int, until deadline: Deadline?, _ resort: LastResort
    ) -> (Reply, StopReason?) {
        let thread = BlockedThread()
        var reply: Reply
        if let early = claim(number, .thread(thread)) {
            reply = early
        } else {
            let timer = deadline.map { press(number, resort, .timedOut, at: $0) }
            reply = thread.wait()
            if let timer { loop.cancel(timer) }
        }
        let found = settleStop(of: number, &reply)
        return (reply, found)
    }

    private func press(
        _ number: Int, _ resort: LastResort, _ reason: StopReason, at deadline: Deadline
    ) -> EventLoop.Timer {
        loop.schedule(at: deadline) { self.press(number, resort, reason) }
    }

    /// Time is up.
    private func press(_ number: Int, _ resort: LastResort, _ reason: StopReason) {
        let cause = "the end of a transaction, or the like, was not answered in time"
        switch resort {
        case .closes: if isInFlight(number) { close(because: cause, telling: (number, reason)) }
        case .leaves:
            // A cancelled task is no reason either to let a server that is gone keep the connection.
            let waiter = state.withLock { state in leave(number, .timedOut, &state) }
            resume(waiter, Reply(error: reason.error(.unknown)))
            watchOverdue()
        case .asksServer:
            let gate = state.withLock { state -> CancelGate? in
                guard let closed = closeGate(for: number, &state) else { return nil }
                state.stopped[number] = Stopped(reason: reason, flight: closed.pipeline)
                return closed
            }
            if let gate { return startCancelling(gate) }
            // It is being cancelled, and that has a bound of its own; or others are before it, and may not be cut off at once.
            guard isInFlight(number) else { return }
            _ = press(number, .closes, reason, at: Deadline(after: limits.cancelTimeout))
        }
    }

    private func isInFlight(_ number: Int) -> Bool { state.withLock { $0.queue.update(number) { _ in } != nil } }

    // MARK: ROLLBACK

    /// Runs constant SQL by the simple protocol, which neither a failed transaction nor a lost prepared statement can refuse,
    /// cancelled or not. If it is not answered in time, the connection is closed.
    nonisolated(nonsending) func runToTheEnd(_ sql: String, as writer: Int) async throws(PostgresError) {
        let flight = Flight([])
        if Task.isCancelled || PostgresScope.hasEnded { stopAbandoned() }
        let reply = try await finishToTheEnd(as: writer, .closes) { () throws(PostgresError) in
            try beginSimple(sql, flight, as: writer, blocking: false)
        }
        try settleSimple(reply, flight, sql)
    }

    /// One request that has to be sent, and to come to its end, cancelled or not.
    ///
    /// - Throws: when it was not sent.
    nonisolated(nonsending) func finishToTheEnd(
        as writer: Int?, _ resort: LastResort, _ begin: () throws(PostgresError) -> Begun
    ) async throws(PostgresError) -> Reply {
        var deadline = endDeadline()
        var wasCancelled = Task.isCancelled
        while true {
            switch try begin() {
            case .reads(let number): return await waitForEnd(of: number, until: deadline, resort).0
            case .queued(let number, let flush):
                if flush { pump() }
                let deadline = endDeadline()
                // Cancelled by now, it has that deadline for that reason.
                return await waitForEnd(of: number, until: deadline, resort, Task.isCancelled ? .cancelled : .timedOut)
                    .0
            case .noRoom:
                if Task.isCancelled, !wasCancelled {
                    wasCancelled = true
                    deadline = endDeadline()
                }
                try await waitForRoom(for: writer, until: deadline, evenIfCancelled: wasCancelled)
            }
        }
    }

    /// A request whose end nobody waits for: it is sent as soon as there is room, whenever that is.
    ///
    /// - Throws: when it never can be sent.
    nonisolated(nonsending) func finishLater(
        as writer: Int? = nil, _ begin: () throws(PostgresError) -> Begun
    ) async throws(PostgresError) {
        while true {
            if let number = launch(try begin()) {
                _ = await waitForEnd(of: number, until: endDeadline(), .leaves)
                return
            }
            try await waitForRoom(for: writer)
        }
    }

    /// Sends what was begun by somebody who does not read its reply.
    ///
    /// - Returns: its number; nil if there was no room.
    func launch(_ begun: Begun) -> Int? {
        switch begun {
        case .reads(let number): return number
        case .queued(let number, let flush):
            if flush { pump() }
            return number
        case .noRoom: return nil
        }
    }

    func runToTheEndBlocking(_ sql: String, as writer: Int) throws(PostgresError) {
        try refuseOnLoop()
        let flight = Flight([])
        let deadline = endDeadline()
        if PostgresScope.hasEnded { stopAbandoned() }
        while true {
            switch try beginSimple(sql, flight, as: writer, blocking: true) {
            case .reads(let number):
                if let own = readOwnReply(number, deadline == nil ? .unbounded : .poll) {
                    return try settleSimple(own.reply, flight, sql)
                }
                return try settleSimple(waitForEndBlocking(of: number, until: deadline, .closes).0, flight, sql)
            case .queued(let number, let flush):
                if flush { pump() }
                return try settleSimple(waitForEndBlocking(of: number, until: endDeadline(), .closes).0, flight, sql)
            case .noRoom: try waitForRoomBlocking(for: writer, until: deadline)
            }
        }
    }

    /// What nobody waits for any more, and is about to be rolled back, need not run to its end.
    private func stopAbandoned() {
        let gate = state.withLock { state -> CancelGate? in
            let number = state.queue.nextNumber &- 1
            let isLeft = state.queue.update(number) { !$0.waiter.isUnanswered } ?? false
            return isLeft ? closeGate(for: number, &state) : nil
        }
        if let gate { startCancelling(gate) }
    }

    private func beginSimple(
        _ sql: String, _ flight: Flight, as writer: Int, blocking: Bool
    ) throws(PostgresError) -> Begun {
        try submit(.flight(flight), blocking: blocking, mayRead: blocking, as: writer) {
            state throws(PostgresError) in
            try ConnectionCore.counted(&state, sql: sql) { state throws(EncodingError) in
                try state.outbound.script(sql, into: &state.pending)
            }
        }
    }

    private func settleSimple(_ reply: Reply, _ flight: Flight, _ sql: String) throws(PostgresError) {
        _ = try scriptReplies(reply, flight, sql)
    }
}
