import PostgresTransport
import Synchronization

/// Waiting for rows that somebody else reads.
extension ConnectionCore {
    /// - Throws: `timedOut`, when the server has been told, or cannot be.
    nonisolated(nonsending) func waitForRows(
        _ stream: RowStream, _ limits: inout WaitLimits?
    ) async throws(PostgresError) {
        let deadline = (limits ?? waitLimits()).deadline
        if limits == nil { limits = WaitLimits(deadline: deadline, cancellation: .finish) }
        var timer: EventLoop.Timer?
        await withTaskCancellationHandler {
            _ = await withUnsafeContinuation { (continuation: UnsafeContinuation<Reply, Never>) in
                guard setConsumer(of: stream, .continuation(continuation)) else {
                    return continuation.resume(returning: Reply())
                }
                timer = deadline.map { deadline in loop.schedule(at: deadline) { self.wakeConsumer(of: stream) } }
            }
        } onCancel: {
            wakeConsumer(of: stream)
        }
        Handover.resumed()
        if let timer { loop.cancel(timer) }
        if isDue(stream, deadline) { throw await stop(stream, .timedOut) }
    }

    /// What a consumer learns whose task was cancelled.
    nonisolated(nonsending) func cancelled(_ stream: RowStream) async -> PostgresError {
        waitLimits().cancellation == .cancelRequest
            ? await stop(stream, .cancelled) : PostgresError.cancelled(.unknown).naming(stream.sql)
    }

    /// Of a stream that is being stopped: its rows are thrown away, so only the end can wake its consumer.
    nonisolated(nonsending) func waitForEnd(of stream: RowStream) async {
        _ = await withUnsafeContinuation { (continuation: UnsafeContinuation<Reply, Never>) in
            if !setConsumer(of: stream, .continuation(continuation), stops: true) {
                continuation.resume(returning: Reply())
            }
        }
        Handover.resumed()
    }

    /// - Parameter stops: as for `setConsumer`.
    func waitForRowsBlocking(_ stream: RowStream, until deadline: Deadline? = nil, stops: Bool = false) {
        let thread = BlockedThread()
        guard setConsumer(of: stream, .thread(thread), stops: stops) else { return }
        let timer = deadline.map { deadline in loop.schedule(at: deadline) { self.wakeConsumer(of: stream) } }
        _ = thread.wait()
        if let timer { loop.cancel(timer) }
    }

    /// Whether time is up, and there is nothing that its consumer could be given.
    func isDue(_ stream: RowStream, _ deadline: Deadline?) -> Bool {
        guard let deadline, deadline.hasPassed else { return false }
        return state.withLock { _ in stream.chunks.isEmpty && !stream.isFinished && stream.error == nil }
    }

    func wakeConsumer(of stream: RowStream) {
        let waiter = state.withLock { _ -> InFlight.Waiter in
            defer { stream.consumer = .unclaimed }
            return stream.consumer
        }
        resume(waiter, Reply())
    }

    /// Between its look and this, another task may have become the consumer; the caller finds that out when it looks again.
    ///
    /// - Parameter stops: the caller stops the stream, and waits in any case. Another consumer is woken, to find that out.
    /// - Returns: false if there is nothing to wait for, or if another consumer waits.
    func setConsumer(of stream: RowStream, _ waiter: InFlight.Waiter, stops: Bool = false) -> Bool {
        var other = InFlight.Waiter.unclaimed
        let isSet = state.withLock { state in
            guard !stream.isFinished, state.closed == nil else { return false }
            guard
                stops
                    || (stream.chunks.isEmpty && stream.error == nil && !waiter.isCancelledTask
                        && !stream.consumer.isWaiting)
            else { return false }
            other = stream.consumer
            stream.consumer = waiter
            return true
        }
        resume(other, Reply())
        return isSet
    }
}
