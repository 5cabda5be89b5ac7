import PostgresTransport
import Synchronization

/// Waits with a bound. A call comes here only when it is about to suspend.
extension ConnectionCore {
    /// Suspends until the reply is there, or the request was stopped.
    ///
    /// - Returns: the reply, and why the request was stopped, if it was.
    nonisolated(nonsending) func waitOrStop(for number: Int, _ limits: WaitLimits) async -> (Reply, StopReason?) {
        var timer: EventLoop.Timer?
        let sendsRequest = limits.cancellation == .cancelRequest
        var reply = await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                if let reply = claim(number, .continuation(continuation)) {
                    return continuation.resume(returning: reply)
                }
                timer = limits.deadline.map { expiry(of: number, at: $0) }
            }
        } onCancel: {
            stop(number, .cancelled, sendsRequest: sendsRequest)
        }
        Handover.resumed()
        let isCancelled = Task.isCancelled
        if isCancelled, reply.error?.code == .cancelled {
            // The statement runs on, and its deadline stands.
            if timer == nil { timer = limits.deadline.map { expiry(of: number, at: $0) } }
        } else if let timer {
            loop.cancel(timer)
        }
        guard timer != nil || isCancelled else { return (reply, nil) }
        let reason = settleStop(of: number, &reply)
        return (reply, reason)
    }

    private func expiry(of number: Int, at deadline: Deadline) -> EventLoop.Timer {
        loop.schedule(at: deadline) { self.stop(number, .timedOut, sendsRequest: true) }
    }

    /// As `waitForRoom`, until the deadline.
    ///
    /// - Throws: `timedOut`; nothing of the statement was sent.
    nonisolated(nonsending) func waitForRoom(
        for writer: Int? = nil, until deadline: Deadline?, evenIfCancelled: Bool = false
    ) async throws(PostgresError) {
        guard let deadline else { return try await waitForRoom(for: writer, evenIfCancelled: evenIfCancelled) }
        try refuseToWaitForItself(as: writer)
        if deadline.hasPassed { throw .timedOut(.notSent) }
        let number = nextWriter()
        var timer: EventLoop.Timer?
        await withTaskCancellationHandler {
            _ = await withUnsafeContinuation { (continuation: UnsafeContinuation<Reply, Never>) in
                guard waitForRoom(number, .continuation(continuation), writer, evenIfCancelled) else {
                    return continuation.resume(returning: Reply())
                }
                timer = loop.schedule(at: deadline) { self.stopWaitingForRoom(number) }
            }
        } onCancel: {
            if !evenIfCancelled { stopWaitingForRoom(number) }
        }
        if let timer { loop.cancel(timer) }
    }

    func stopWaitingForRoom(_ number: Int) {
        let waiting = state.withLock { state -> ConnectionState.RoomWaiter? in
            guard let index = state.waitingForRoom.firstIndex(where: { $0.number == number }) else { return nil }
            return state.waitingForRoom.remove(at: index)
        }
        if let waiting { wake([waiting]) }
    }

    /// The same on a thread of the blocking API.
    func waitForRoomBlocking(for writer: Int? = nil, until deadline: Deadline?) throws(PostgresError) {
        guard let deadline else { return try waitForRoomBlocking(for: writer) }
        try refuseToWaitForItself(as: writer)
        if deadline.hasPassed { throw .timedOut(.notSent) }
        let number = nextWriter()
        let thread = BlockedThread()
        guard waitForRoom(number, .thread(thread), writer) else { return }
        let timer = loop.schedule(at: deadline) { self.stopWaitingForRoom(number) }
        _ = thread.wait()
        loop.cancel(timer)
    }

    func waitOrStopBlocking(for number: Int, until deadline: Deadline?) -> (Reply, StopReason?) {
        let thread = BlockedThread()
        if let reply = claim(number, .thread(thread)) { return (reply, nil) }
        guard let deadline else { return (thread.wait(), nil) }
        let timer = expiry(of: number, at: deadline)
        var reply = thread.wait()
        loop.cancel(timer)
        let reason = settleStop(of: number, &reply)
        return (reply, reason)
    }
}
