import Glibc
import PostgresTransport

/// Runs blocking work on a thread of its own: the cooperative pool has as few threads as the machine has cores, and
/// a start of PostgreSQL would hold one for a second.
func onOwnThread<Value: Sendable, Failure: Error>(
    _ work: @escaping @Sendable () throws(Failure) -> Value
) async throws(Failure) -> Value {
    let result = await withCheckedContinuation { (continuation: CheckedContinuation<Result<Value, Failure>, Never>) in
        startThread {
            let result = Result(catching: work)
            Handover.resumes()
            continuation.resume(returning: result)
        }
    }
    Handover.resumed()
    return try result.get()
}

/// Starts a detached thread; when the system has none left, does the work on the caller's.
func startThread(_ work: @escaping @Sendable () -> Void) {
    let retained = Unmanaged.passRetained(ThreadWork(work))
    var thread = pthread_t()
    let error = pthread_create(
        &thread, nil,
        { argument in
            // Balances `passRetained`: pthread_create hands the pointer to exactly one call of this function.
            if let argument { Unmanaged<ThreadWork>.fromOpaque(argument).takeRetainedValue().run() }
            return nil
        }, retained.toOpaque())
    if error == 0 {
        pthread_detach(thread)
    } else {
        retained.takeRetainedValue().run()
    }
}

private final class ThreadWork: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
