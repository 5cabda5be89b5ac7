import Postgres

/// Does something when the caller's time is up, unless it is cancelled before; nil if there is no end to that time.
func whenTimeIsUp(_ action: @escaping @Sendable () -> Void) -> Task<Void, Never>? {
    guard let remaining = remainingPostgresTimeout() else { return nil }
    return Task.detached {
        do { try await Task.sleep(for: remaining) } catch { return }
        action()
    }
}

/// Waits until it is told something.
///
/// - Parameters:
///   - begin: hands over how it is told, which is to be called once.
///   - leave: brings that about when the task is cancelled or its time is up, if nobody has told it by then.
func waitToBeTold<Value: Sendable>(
    _ begin: (_ tell: @escaping @Sendable (Value) -> Void) -> Void,
    leave: @escaping @Sendable (PostgresError.Code, _ reason: String) -> Void
) async -> Value {
    var timer: Task<Void, Never>?
    let value = await withTaskCancellationHandler {
        await withCheckedContinuation { (continuation: CheckedContinuation<Value, Never>) in
            begin { value in
                Handover.resumes()
                continuation.resume(returning: value)
            }
            timer = whenTimeIsUp { leave(.timedOut, "the time was up") }
            // The cancellation may have come before there was anybody to take away.
            if Task.isCancelled { leave(.cancelled, "the task was cancelled") }
        }
    } onCancel: {
        leave(.cancelled, "the task was cancelled")
    }
    Handover.resumed()
    timer?.cancel()
    return value
}
