import CPostgresSystem
import Glibc
import Synchronization

/// One thread that waits for descriptors, timers and jobs.
///
/// *Theory of operation.* Each pass: take what other threads queued; tell the handlers of ready descriptors; run jobs, at
/// most `jobBudget` of them, so that descriptors are not starved; run turns, after the jobs, so that what a hundred tasks
/// appended to one connection leaves in one write; run due timers; sleep. Other threads queue under one lock, and write
/// the eventfd only if `phase` says that the loop sleeps; the loop sets that under the same lock, after seeing the queues
/// empty, so that no wake-up is lost. What the loop's own thread enqueues goes into `localJobs` and `localTurns`, without a
/// lock. A handler whose descriptor brings little at a time, but much of it, can ask for a pause, after which there is more to
/// read at once: all who ask share one short wait, in which everything else is served as ever.
///
/// Safe to share: `localJobs`, `localTurns`, `dueTimers` and the pause are touched by the loop's thread only; all else is a constant,
/// an atomic, or behind a lock.
package final class EventLoop: @unchecked Sendable {
    /// The loop of the process. It starts with its first use, and is never stopped.
    package static let shared = EventLoop()

    /// Whether a registration keeps its handler alive.
    package enum Hold: Sendable {
        /// The handler may go away at any time, and deregisters when it does.
        ///
        /// The first weak reference to an object makes every later retain and release of it slower; an object on the hot
        /// path is better held strongly, by an owner whose `deinit` deregisters it.
        case weak
        /// Until ``EventLoop/deregister(_:descriptor:)``.
        case strong
    }

    private enum Phase {
        case notStarted
        case awake
        case sleeping
    }

    private struct Shared {
        var jobs: [UnownedJob] = []
        var turns: [any EventHandler] = []
        var timers = TimerHeap()
        var phase = Phase.notStarted
        var stopRequested = false

        /// Whether the loop must be told of what was just queued.
        mutating func needsWaking() -> Bool {
            guard phase != .awake else { return false }
            if phase == .sleeping { phase = .awake }
            return true
        }
    }

    private struct Created {
        var thread: pthread_t?
        var isJoined = false
    }

    private static let jobBudget = 256
    /// How long a pause is meant to be; the system adds up to 50 microseconds (its timer slack).
    private static let pauseNanoseconds: UInt64 = 60_000

    private let poller = Poller()
    private let shared = Lock(Shared())
    private let registrations = Lock(RegistrationTable())
    private let created = Lock(Created())
    /// The running thread, as an integer; 0 before and after.
    private let current = Atomic<UInt>(0)

    @exclusivity(unchecked) private var localJobs = JobQueue()
    @exclusivity(unchecked) private var localTurns: [any EventHandler] = []
    @exclusivity(unchecked) private var dueTimers: [@Sendable () -> Void] = []
    @exclusivity(unchecked) private var paused: [any EventHandler] = []
    @exclusivity(unchecked) private var pauseEnd: UInt64 = 0

    package init() {}

    /// Whether the caller runs on the loop's thread.
    @inline(__always)
    package var isCurrent: Bool { current.load(ordering: .relaxed) == EventLoop.callingThread }

    @inline(__always)
    private static var callingThread: UInt { pthread_self() }

    // MARK: Descriptors

    /// Begins with an empty interest. A descriptor can be registered once at a time.
    package func register(
        _ handler: any EventHandler, descriptor: Int32, holding hold: Hold = .weak
    ) throws(TransportError) -> Registration {
        try poller.open()
        try startThread()
        let registration = registrations.withLock { $0.insert(handler, holding: hold) }
        do {
            try poller.add(descriptor, registration.eventData)
        } catch {
            _ = registrations.withLock { $0.remove(registration) }
            throw error
        }
        return registration
    }

    /// From any thread; two threads that set the interest of one descriptor must agree on the order themselves.
    package func setInterest(_ interest: Interest, of registration: Registration, descriptor: Int32) {
        poller.modify(descriptor, interest, registration.eventData)
    }

    /// Before the descriptor is closed. Nothing is told to the handler any more, but a call that already runs on the loop
    /// goes on. Doing it twice is harmless.
    package func deregister(_ registration: Registration, descriptor: Int32) {
        let (removed, handler) = registrations.withLock { $0.remove(registration) }
        if removed { poller.remove(descriptor) }
        // Here, outside the lock, its deinit may run.
        _ = handler
    }

    // MARK: Turns and timers

    /// Calls the handler's `turn` once, from any thread; the handler lives until then.
    package func scheduleTurn(_ handler: any EventHandler) {
        if isCurrent {
            localTurns.append(handler)
            return
        }
        let wake = shared.withLock { state in
            state.turns.append(handler)
            return state.needsWaking()
        }
        if wake { wakeUp() }
    }

    /// Runs the action on the loop, not before the deadline and about a millisecond after it at best.
    package func schedule(at deadline: Deadline, _ action: @escaping @Sendable () -> Void) -> Timer {
        let timer = Timer(deadline, action)
        guard !deadline.isNever else { return timer }
        let wake = shared.withLock { state in
            let isEarliest = state.timers.earliest.map { deadline < $0 } ?? true
            state.timers.insert(timer)
            return isEarliest && state.needsWaking()
        }
        if wake { wakeUp() }
        return timer
    }

    /// - Returns: whether the action will not run: false if it has, or is about to.
    @discardableResult
    package func cancel(_ timer: Timer) -> Bool {
        let action = shared.withLock { $0.timers.remove(timer) }
        return action != nil
    }

    /// Waits; ends early with ``TransportError/cancelled`` if the task is cancelled.
    package func sleep(until deadline: Deadline) async throws(TransportError) {
        let completion = Completion<Void>()
        let timer = schedule(at: deadline) { completion.finish(.success(())) }
        defer { cancel(timer) }
        try await completion.value()
    }

    /// Calls the handler's `pauseOver` once, when the pause is over: a tenth of a millisecond after the first of those who pause
    /// together began it, or when the loop's turn of that moment has ended. On the loop's thread only.
    package func pause(_ handler: any EventHandler) {
        if paused.isEmpty { pauseEnd = Deadline.now.nanoseconds &+ EventLoop.pauseNanoseconds }
        paused.append(handler)
    }

    private func endPause() {
        guard !paused.isEmpty, Deadline.now.nanoseconds >= pauseEnd else { return }
        var handlers: [any EventHandler] = []
        swap(&handlers, &paused)
        for handler in handlers { handler.pauseOver() }
    }

    private func wait(_ events: UnsafeMutablePointer<epoll_event>, _ milliseconds: Int32) -> Int {
        guard !paused.isEmpty, milliseconds != 0 else { return poller.wait(events, milliseconds: milliseconds) }
        let now = Deadline.now.nanoseconds
        return poller.wait(events, nanoseconds: now < pauseEnd ? Int64(clamping: pauseEnd &- now) : 0)
    }

    // MARK: The thread

    /// For tests: ends the thread, and waits for it. Jobs and timers that are still queued never run.
    package func stop() {
        let wake = shared.withLock { state in
            state.stopRequested = true
            return state.needsWaking()
        }
        if wake { poller.wakeUp() }
        let thread = created.withLock { created in
            let thread = created.isJoined ? nil : created.thread
            if thread != nil, !isCurrent { created.isJoined = true }
            return thread
        }
        if let thread, !isCurrent { pthread_join(thread, nil) }
    }

    private func wakeUp() {
        if created.withLock({ $0.thread == nil }) {
            // If either fails, the next call tries again; only `register` has somebody to tell.
            try? poller.open()
            try? startThread()
        }
        poller.wakeUp()
    }

    private func startThread() throws(TransportError) {
        try created.withLock { created throws(TransportError) in
            guard created.thread == nil else { return }
            var new = pthread_t()
            let context = Unmanaged.passRetained(self)
            let result = pthread_create(
                &new, nil,
                { context in
                    if let context { Unmanaged<EventLoop>.fromOpaque(context).takeRetainedValue().run() }
                    return nil
                }, context.toOpaque())
            guard result == 0 else {
                context.release()
                throw .system(call: "pthread_create", errno: result)
            }
            created.thread = new
        }
    }

    private func run() {
        current.store(EventLoop.callingThread, ordering: .relaxed)
        blockSignals()
        let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: Poller.batch)
        defer { events.deallocate() }
        var turns: [any EventHandler] = []
        while let milliseconds = prepareToWait() {
            let count = wait(events, milliseconds)
            takeQueued(&turns)
            for index in 0..<Int32(truncatingIfNeeded: count) {
                dispatch(postgres_epoll_data(events, index), postgres_epoll_events(events, index))
            }
            endPause()
            runJobs()
            for handler in turns { handler.turn() }
            turns.removeAll(keepingCapacity: true)
            for action in dueTimers { action() }
            dueTimers.removeAll(keepingCapacity: true)
        }
        current.store(0, ordering: .relaxed)
    }

    /// - Returns: how long to wait, negative for without bound; nil to end.
    private func prepareToWait() -> Int32? {
        let hasLocal = !localJobs.isEmpty || !localTurns.isEmpty
        return shared.withLock { state in
            if state.stopRequested { return nil }
            guard !hasLocal, state.jobs.isEmpty, state.turns.isEmpty else {
                state.phase = .awake
                return 0
            }
            state.phase = .sleeping
            guard let earliest = state.timers.earliest else { return -1 }
            // Rounded up: never early.
            return Int32(clamping: earliest.remainingNanoseconds / 1_000_000 + 1)
        }
    }

    private func takeQueued(_ turns: inout [any EventHandler]) {
        swap(&turns, &localTurns)
        shared.withLock { state in
            state.phase = .awake
            localJobs.append(contentsOf: &state.jobs)
            if !state.turns.isEmpty {
                turns.append(contentsOf: state.turns)
                state.turns.removeAll(keepingCapacity: true)
            }
            guard let earliest = state.timers.earliest, earliest.hasPassed else { return }
            let now = Deadline.now
            while let action = state.timers.popDue(at: now) { dueTimers.append(action) }
        }
    }

    private func dispatch(_ data: UInt64, _ events: UInt32) {
        guard data != Poller.wakeUpData else { return }
        let handler = registrations.withLock { $0.handler(of: Registration(eventData: data)) }
        handler?.ready(Poller.readiness(of: events))
    }

    private func runJobs() {
        let serial = asUnownedSerialExecutor()
        let task = asUnownedTaskExecutor()
        var budget = EventLoop.jobBudget
        while budget > 0, let job = localJobs.popFirst() {
            budget -= 1
            job.runSynchronously(isolatedTo: serial, taskExecutor: task)
        }
    }

    /// The process's own signal handlers belong on its own threads. Those of faults must stay: blocked, a fault ends the
    /// process without a report.
    private func blockSignals() {
        var signals = sigset_t()
        sigfillset(&signals)
        for fault in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF] { sigdelset(&signals, fault) }
        pthread_sigmask(SIG_SETMASK, &signals, nil)
    }
}

extension EventLoop: SerialExecutor, TaskExecutor {
    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if isCurrent {
            localJobs.append(job)
            return
        }
        let wake = shared.withLock { state in
            state.jobs.append(job)
            return state.needsWaking()
        }
        if wake { wakeUp() }
    }

    package func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }
    package func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }

    /// The runtime asks this, and then not `checkIsolated`, which could only stop the program.
    package func isIsolatingCurrentContext() -> Bool? { isCurrent }
}
