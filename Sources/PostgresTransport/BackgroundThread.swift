import Glibc

/// A fresh thread for one call that blocks or computes for long: neither the loop nor the cooperative pool may wait for it.
package enum BackgroundThread {
    /// The work is not ended by a cancelled task.
    package static func run<T: Sendable>(_ work: @escaping @Sendable () -> T) async -> T {
        defer { Handover.resumed() }
        return await withCheckedContinuation { continuation in
            start {
                let result = work()
                Handover.resumes()
                continuation.resume(returning: result)
            }
        }
    }

    /// Gives up at the deadline, or when the task is cancelled; the thread is then left to end alone.
    ///
    /// - Parameter what: for the error, what timed out.
    package static func run<T: Sendable>(
        until deadline: Deadline, loop: EventLoop, what: @autoclosure () -> String, _ work: @escaping @Sendable () -> T
    ) async throws(TransportError) -> T {
        if Task.isCancelled { throw .cancelled }
        if deadline.hasPassed { throw .timedOut(what: what()) }
        let completion = Completion<T>()
        start { completion.finish(.success(work())) }
        let description = deadline.isNever ? "" : what()
        let timer = loop.schedule(at: deadline) { completion.finish(.failure(.timedOut(what: description))) }
        defer { loop.cancel(timer) }
        return try await completion.value()
    }

    private final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    private static func start(_ body: @escaping @Sendable () -> Void) {
        let work = Unmanaged.passRetained(Work(body))
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, &attributes,
            { context in
                if let context { Unmanaged<Work>.fromOpaque(context).takeRetainedValue().body() }
                return nil
            }, work.toOpaque())
        // Out of threads: late is better than never.
        if result != 0 { work.takeRetainedValue().body() }
    }
}
