import Synchronization

/// One result that one task waits for, and that several may try to give: the first one counts.
final class Completion<Value: Sendable>: Sendable {
    private enum State {
        case empty
        case waiting(CheckedContinuation<Result<Value, TransportError>, Never>)
        case finished(Result<Value, TransportError>)
        case taken
    }

    private let state = Lock(State.empty)

    func finish(_ result: Result<Value, TransportError>) {
        let waiter = state.withLock { state -> CheckedContinuation<Result<Value, TransportError>, Never>? in
            switch state {
            case .empty:
                state = .finished(result)
                return nil
            case .waiting(let continuation):
                state = .taken
                return continuation
            case .finished, .taken: return nil
            }
        }
        Handover.resumes()
        waiter?.resume(returning: result)
    }

    /// To be called once. If the task is cancelled, throws ``TransportError/cancelled`` at once.
    func value() async throws(TransportError) -> Value {
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let early = state.withLock { state -> Result<Value, TransportError>? in
                    guard case .finished(let result) = state else {
                        state = .waiting(continuation)
                        return nil
                    }
                    state = .taken
                    return result
                }
                if let early { continuation.resume(returning: early) }
            }
        } onCancel: {
            finish(.failure(.cancelled))
        }
        Handover.resumed()
        return try result.get()
    }
}
