import PostgresTransport
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Runs asynchronous code on the thread that waits for it.
///
/// *Theory of operation.* The code is a task that prefers this executor, and an executor is nothing but a queue of jobs: the waiting
/// thread runs them itself, and sleeps while there are none. Whoever resumes the task, mostly the event loop, queues its next job and
/// wakes the thread. So what is not worth writing twice, once with `await` and once without, is not; and there is no switch of threads
/// but those that waiting costs anyhow.
///
/// Safe to share: the queue is behind a lock, the semaphore is the system's, and `isFinished` is touched by the waiting thread only,
/// which is the one that runs the task.
final class CallingThread: TaskExecutor, @unchecked Sendable {
    private struct Queue {
        var jobs: [UnownedJob] = []
        /// The thread has gone; nobody runs jobs here any more.
        var isLeft = false
    }

    private let queue = Lock(Queue())
    /// Counts the jobs that were queued. Of the semaphore only its address is used, from `init` to `deinit`. It is posted under the
    /// queue's lock, which the thread takes once more before it goes: so nobody posts behind `deinit`.
    private let semaphore: UnsafeMutablePointer<sem_t>
    @exclusivity(unchecked) private var isFinished = false

    private init() {
        semaphore = .allocate(capacity: 1)
        sem_init(semaphore, 0, 0)
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    /// Runs a body as a task on this very thread, and returns when it has ended.
    static func wait<Success>(
        for body: @escaping () async throws(PostgresError) -> Success
    ) throws(PostgresError) -> Success {
        let thread = CallingThread()
        let work = Work(body)
        let caller = Caller.current
        Task(executorPreference: thread) {
            await caller.lend { await work.run() }
            thread.isFinished = true
        }
        thread.runJobs()
        guard let result = work.result else { throw .internalFailure("a task ended without a result") }
        return try result.get()
    }

    private func runJobs() {
        while !isFinished {
            while sem_wait(semaphore) != 0 {}
            let job = queue.withLock { $0.jobs.isEmpty ? nil : $0.jobs.removeFirst() }
            job?.runSynchronously(on: asUnownedTaskExecutor())
        }
        // An actor that the task has used may have something left to do, for others.
        let left = queue.withLock { queue in
            queue.isLeft = true
            return queue.jobs
        }
        for job in left { globalConcurrentExecutor.enqueue(job) }
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let isLeft = queue.withLock { queue in
            if !queue.isLeft {
                queue.jobs.append(job)
                sem_post(semaphore)
            }
            return queue.isLeft
        }
        if isLeft { globalConcurrentExecutor.enqueue(job) }
    }

    func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }

    /// Safe to share: the body is run, and the result written and read, by the one thread that waits.
    private final class Work<Success>: @unchecked Sendable {
        private let body: () async throws(PostgresError) -> Success
        private(set) var result: Result<Success, PostgresError>?

        init(_ body: @escaping () async throws(PostgresError) -> Success) { self.body = body }

        func run() async {
            do throws(PostgresError) { result = .success(try await body()) } catch { result = .failure(error) }
        }
    }
}
