import PostgresProtocol
import PostgresTransport
import Synchronization

/// Ending a COPY in before its time.
extension ConnectionCore {
    /// Somebody cancels whatever runs, and that is a COPY in: a server that waits for data would not notice.
    func failCopy(of gate: CancelGate) {
        let stream = state.withLock { state -> RowStream? in
            state.queue.update(gate.target) { request -> RowStream? in
                if case .stream(let stream) = request.collector, request.request.parts.contains(.copiesIn) {
                    stream
                } else {
                    nil
                }
            } ?? nil
        }
        if let stream { endCopy(stream, failing: "cancelled by the client", isCancelled: true) }
    }

    nonisolated(nonsending) func stopCopyIfDue(
        _ stream: RowStream, _ deadline: Deadline?
    ) async throws(PostgresError) {
        if let deadline, deadline.hasPassed, !isFinished(stream) { try await stopCopy(stream, .timedOut) }
    }

    func stopCopyIfDueBlocking(_ stream: RowStream, _ deadline: Deadline?) throws(PostgresError) {
        if let deadline, deadline.hasPassed, !isFinished(stream) { try stopCopyBlocking(stream, .timedOut) }
    }

    /// Ends a COPY in before its time, and waits for what the server says of it.
    ///
    /// - Throws: why it has failed. It returns if all had been sent, and it succeeded after all.
    nonisolated(nonsending) func stopCopy(_ stream: RowStream, _ reason: StopReason) async throws(PostgresError) {
        let (isDone, gate) = try beginToStopCopy(stream)
        if let gate {
            startCancelling(gate, after: isDone ? .zero : ConnectionCore.pauseBeforeAgain)
            while !isFinished(stream) { await waitForEnd(of: stream) }
            openGate(gate)
        }
        try settleCopy(stream, reason, wasDone: isDone)
    }

    func stopCopyBlocking(_ stream: RowStream, _ reason: StopReason) throws(PostgresError) {
        let (isDone, gate) = try beginToStopCopy(stream)
        if let gate {
            startCancelling(gate, after: isDone ? .zero : ConnectionCore.pauseBeforeAgain)
            while !isFinished(stream) { waitForRowsBlocking(stream, stops: true) }
            openGate(gate)
        }
        try settleCopy(stream, reason, wasDone: isDone)
    }

    /// - Throws: why it was given up before, for a writer that is used again. Nobody waits for the end of such a COPY.
    private func beginToStopCopy(
        _ stream: RowStream
    ) throws(PostgresError) -> (isDone: Bool, gate: CancelGate?) {
        // Behind CopyDone nothing is left to be given up.
        let isDone = try state.withLock { _ throws(PostgresError) -> Bool in
            if let error = stream.error, !stream.isFinished { throw error }
            return stream.isDoneCopy
        }
        failCopy(stream)
        let gate = state.withLock { state -> CancelGate? in
            if stream.isFinished { return nil }
            guard let gate = closeGate(for: stream.number, &state) else {
                _ = state.queue.update(stream.number) { $0.waiter = .overdue }
                state.noteOverdue(stream.number)
                return nil
            }
            return gate
        }
        watchOverdue()
        return (isDone, gate)
    }

    private func settleCopy(_ stream: RowStream, _ reason: StopReason, wasDone: Bool) throws(PostgresError) {
        let (isFinished, error) = state.withLock { _ in (stream.isFinished, stream.end?.error) }
        // Before CopyDone a COPY cannot have taken effect, whatever becomes of the connection.
        let own = wasDone ? reason.error(.unknown) : reason.errorOfCopy
        guard isFinished else { throw settle(stream, own) }
        guard let error else {
            if wasDone { return }
            throw settle(stream, own)
        }
        if error.code == .queryCanceled { throw settle(stream, reason.errorOfCopy(stopped: error)) }
        throw settle(stream, error.server == nil ? own : error)
    }
}

extension StopReason {
    /// The error of a COPY in that was given up.
    fileprivate var errorOfCopy: PostgresError {
        switch self {
        case .cancelled: .cancelledCopy
        case .timedOut:
            PostgresError(
                code: .timedOut, message: "the deadline passed during COPY, which was given up: nothing was copied",
                outcome: .rejected)
        }
    }

    fileprivate func errorOfCopy(stopped error: PostgresError) -> PostgresError {
        let own = errorOfCopy
        return PostgresError(
            code: own.code, message: own.message, outcome: error.outcome, server: error.server, sql: error.sql)
    }
}
