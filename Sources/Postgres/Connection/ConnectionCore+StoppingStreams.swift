import PostgresTransport
import Synchronization

/// Ending a stream, or what a COPY copies out, before its time.
extension ConnectionCore {
    /// Ends a stream before its time. Its rows are thrown away from here on.
    ///
    /// - Returns: what its consumer is to be told, once that is known.
    nonisolated(nonsending) func stop(_ stream: RowStream, _ reason: StopReason) async -> PostgresError {
        if let gate = beginToStop(stream) {
            startCancelling(gate)
            while !isFinished(stream) { await waitForEnd(of: stream) }
            openGate(gate)
            return settle(stream, streamError(stream, reason))
        }
        leaveOverdue(stream, reason)
        return settle(stream, reason.error(.unknown))
    }

    func stopBlocking(_ stream: RowStream, _ reason: StopReason) -> PostgresError {
        if let gate = beginToStop(stream) {
            startCancelling(gate)
            while !isFinished(stream) { waitForRowsBlocking(stream, stops: true) }
            openGate(gate)
            return settle(stream, streamError(stream, reason))
        }
        leaveOverdue(stream, reason)
        return settle(stream, reason.error(.unknown))
    }

    /// The rest of a stream that could not be cancelled is thrown away, in bounded time.
    private func leaveOverdue(_ stream: RowStream, _ reason: StopReason) {
        guard reason == .timedOut else { return }
        state.withLock { state in _ = leave(stream.number, reason, &state) }
        watchOverdue()
    }

    private func beginToStop(_ stream: RowStream) -> CancelGate? {
        let gate = state.withLock { state -> CancelGate? in
            guard !stream.isFinished, stream.error == nil else { return nil }
            return closeGate(for: stream.number, &state)
        }
        abandon(stream)
        return gate
    }

    /// Or as good as finished: the connection is closed.
    func isFinished(_ stream: RowStream) -> Bool { state.withLock { $0.closed != nil || stream.isFinished } }

    /// Who goes on reading gets the same error, and not an end.
    func settle(_ stream: RowStream, _ error: PostgresError) -> PostgresError {
        let error = error.naming(stream.sql)
        state.withLock { _ in stream.error = error }
        return error
    }

    private func streamError(_ stream: RowStream, _ reason: StopReason) -> PostgresError {
        let (isFinished, error) = state.withLock { _ in (stream.isFinished, stream.end?.error) }
        guard isFinished else { return reason.error(.unknown) }
        return switch error?.code {
        case nil: reason.error(.succeeded)
        case .queryCanceled: error.map { reason.error(stopped: $0) } ?? reason.error(.rejected)
        default: error.flatMap { $0.server == nil ? nil : $0 } ?? reason.error(.unknown)
        }
    }
}
