import Dispatch
import Foundation
import Synchronization

/// Runs asynchronous work while the main thread waits.
///
/// Not an asynchronous `main`: that one ends the main thread, on which valgrind 3.19 crashes.
func runToEnd(_ work: @escaping @Sendable () async throws -> Void) throws {
    let finished = DispatchSemaphore(value: 0)
    let failure = Mutex<(any Error)?>(nil)
    Task.detached {
        do { try await work() } catch { failure.withLock { $0 = error } }
        finished.signal()
    }
    finished.wait()
    if let error = failure.withLock({ $0 }) { throw error }
}

/// The same for work that needs the main actor, whose jobs are run by Dispatch as in any program. Ends the process.
func runToEndServingMainActor(
    _ work: @escaping @Sendable () async throws -> Void, onError fail: @escaping @Sendable (any Error) -> Never
) -> Never {
    Task.detached {
        do { try await work() } catch { fail(error) }
        exit(0)
    }
    dispatchMain()
}
