import PostgresTransport
import Synchronization

/// The driver of a `PoolStateMachine`: it has the lock, the connections, the tasks that wait, and the timer.
///
/// Everything begins in `update`: under the lock an event goes into the machine and what is to be done is taken out; without it,
/// that is done. Nothing waits, resumes a task, closes a socket or runs users' code under the lock, and no other lock is taken
/// under it. A caller who finds an idle connection takes this lock once, and the connection's once.
final class ConnectionPool: Sendable {
    typealias ConnectionID = PoolStateMachine.ConnectionID

    let configuration: PostgresConfiguration
    let options: PostgresClient.Options
    let loop: EventLoop
    let state: Lock<State>

    struct State: ~Copyable {
        var machine: PoolStateMachine
        /// By slot.
        var entries: [Entry] = []
        var waiting: [WaiterQueue.ID: Waiting] = [:]
        var connects: [ConnectionID: Task<Void, Never>] = [:]
        var timer: EventLoop.Timer?
        /// When the timer goes off, or is about to be set to.
        var timerTime = PoolStateMachine.never
        /// Beside the pool, each for one who listens to notifications.
        var listening: [WeakConnection] = []
        var awaitingShutdown: [UnsafeContinuation<Void, Never>] = []
        var isFinished = false
    }

    struct Entry {
        var core: ConnectionCore?
        /// What users hold in their hands. Not here while somebody has it: so it can be told whether he let go of it.
        var connection: PostgresConnection?
    }

    /// A caller between asking and being suspended is not there yet; what he gets meanwhile waits for him.
    enum Waiting {
        case suspended(UnsafeContinuation<Grant, Never>)
        case answered(Grant)
    }

    enum Grant: Sendable {
        case lease(Lease)
        case failed(PostgresError)
    }

    struct Lease: Sendable {
        let id: ConnectionID
        let core: ConnectionCore
        let carriesReset: Bool
        let isJoined: Bool
    }

    /// nil if nobody observes.
    let observation: Observation?

    init(_ configuration: PostgresConfiguration, _ options: PostgresClient.Options, loop: EventLoop) {
        self.configuration = configuration
        self.options = options
        self.loop = loop
        observation = configuration.observer.map {
            Observation($0, configuration, server: "\(configuration.host):\(configuration.port)")
        }
        state = Lock(State(machine: PoolStateMachine(options.limits)))
    }

    var statistics: PostgresClient.Statistics { state.withLock { PostgresClient.Statistics($0.machine) } }

    // MARK: Events

    /// What is to be done without the lock.
    struct Work {
        var resumed: [(UnsafeContinuation<Grant, Never>, Grant)] = []
        var connects: [ConnectionID] = []
        var abandoned: [Task<Void, Never>] = []
        var cleans: [(ConnectionID, ConnectionCore)] = []
        var closed: [(Entry, PostgresClient.CloseReason)] = []
        var leaks: [PostgresClient.Leak] = []
        var finished: [UnsafeContinuation<Void, Never>] = []
        var timerTime: UInt64?
    }

    /// One event.
    func update<Result: Sendable>(_ event: (inout State, PoolStateMachine.Time) -> Result) -> Result {
        let now = monotonicNanoseconds()
        var work: Work?
        let result = state.withLock { state in
            let result = event(&state, now)
            if !state.machine.actions.isEmpty || state.machine.wakeAt < state.timerTime { work = takeWork(&state) }
            return result
        }
        if let work { perform(work) }
        return result
    }

    @inline(never)
    private func takeWork(_ state: inout State) -> Work {
        var work = Work()
        var actions: [PoolStateMachine.Action] = []
        swap(&actions, &state.machine.actions)
        for action in actions {
            switch action {
            case .grant(let waiter, let granted):
                let grant = lease(granted, state).map { Grant.lease($0) }
                answer(waiter, grant ?? .failed(.internalFailure("a slot without connection")), &state, &work)
            case .fail(let waiter, let failure):
                let error = PostgresError(failure, PostgresClient.Statistics(state.machine), options)
                answer(waiter, .failed(error), &state, &work)
            case .connect(let id): work.connects.append(id)
            case .abandonConnect(let id):
                if let task = state.connects.removeValue(forKey: id) { work.abandoned.append(task) }
            case .clean(let id):
                if let core = state.entries[id.slot].core { work.cleans.append((id, core)) }
            case .close(let id, let reason):
                work.closed.append((state.entries[id.slot], reason))
                state.entries[id.slot] = Entry()
            case .reportLeak(let id, let heldFor):
                let processID = state.entries[id.slot].core?.server.processID
                work.leaks.append(
                    PostgresClient.Leak(
                        backendProcessID: processID.map { Int32(bitPattern: $0) },
                        heldFor: .nanoseconds(Int64(clamping: heldFor))))
            case .finishShutdown:
                state.isFinished = true
                swap(&work.finished, &state.awaitingShutdown)
            }
        }
        if state.machine.wakeAt < state.timerTime {
            state.timerTime = state.machine.wakeAt
            work.timerTime = state.timerTime
        }
        return work
    }

    private func answer(
        _ waiter: WaiterQueue.ID, _ grant: Grant, _ state: inout State, _ work: inout Work
    ) {
        if case .suspended(let continuation)? = state.waiting.removeValue(forKey: waiter) {
            work.resumed.append((continuation, grant))
        } else {
            state.waiting[waiter] = .answered(grant)
        }
    }

    private func perform(_ work: Work) {
        Handover.resumes()
        for (continuation, grant) in work.resumed { continuation.resume(returning: grant) }
        for (entry, _) in work.closed { entry.core?.close() }
        if let observer = observation?.observer {
            let events =
                work.closed.map { PostgresPoolEvent.closed($0.1) } + work.leaks.map { PostgresPoolEvent.leak($0) }
            // This may be the loop's thread, on which no user's code runs.
            if !events.isEmpty { Task.detached { for event in events { observer.happened(event) } } }
        }
        for id in work.connects { connect(id) }
        for task in work.abandoned { task.cancel() }
        for (id, core) in work.cleans { clean(id, core) }
        for continuation in work.finished { continuation.resume() }
        if let handler = options.onLeak {
            for leak in work.leaks { Task.detached { handler(leak) } }
        }
        if let time = work.timerTime { setTimer(time) }
    }

    // MARK: Time

    /// Without the lock, for the loop has one of its own; so two threads may come in any order, and the earlier time wins.
    private func setTimer(_ time: UInt64) {
        let timer = loop.schedule(at: Deadline(nanoseconds: time)) { [self] in timerFired(time) }
        let superfluous = state.withLock { state -> EventLoop.Timer? in
            guard state.timerTime == time, !state.isFinished else { return timer }
            defer { state.timer = timer }
            return state.timer
        }
        if let superfluous { loop.cancel(superfluous) }
    }

    private func timerFired(_ time: UInt64) {
        update { state, now in
            guard state.timerTime == time else { return }
            state.timer = nil
            state.timerTime = PoolStateMachine.never
            state.machine.timer(now: now)
        }
    }

    // MARK: Connecting

    private func connect(_ id: ConnectionID) {
        let task = Task.detached { [self] in
            do throws(PostgresError) {
                connected(id, try await Establishment(configuration, loop: loop).connect())
            } catch {
                connectFailed(id, error)
            }
        }
        let isWanted = state.withLock { state in
            guard !state.machine.isShutDown else { return false }
            // If it has ended by now, nobody will ask for it.
            if state.machine.isConnecting(id) { state.connects[id] = task }
            return true
        }
        if !isWanted { task.cancel() }
    }

    private func connected(_ id: ConnectionID, _ core: ConnectionCore) {
        core.state.withLock { $0.membership = PoolMembership(pool: self, id: id) }
        let random = UInt64.random(in: 0...UInt64.max)
        let isWanted = update { state, now in
            state.connects[id] = nil
            guard state.machine.isConnecting(id) else { return false }
            while state.entries.count <= id.slot { state.entries.append(Entry()) }
            // With no other reference: whoever is given it now may be done with it before this thread goes on.
            state.entries[id.slot] = Entry(core: core, connection: PostgresConnection(core: core))
            return state.machine.connected(id, random: random, now: now)
        }
        if !isWanted { core.close() }
    }

    private func connectFailed(_ id: ConnectionID, _ error: PostgresError) {
        let random = UInt64.random(in: 0...UInt64.max)
        update { state, now in
            state.connects[id] = nil
            state.machine.connectFailed(id, error.connectFailure, error, random: random, now: now)
        }
    }

    /// The connection has broken.
    func connectionEnded(_ id: ConnectionID) {
        update { state, now in state.machine.connectionEnded(id, now: now) }
    }

    // MARK: Cleaning

    private func clean(_ id: ConnectionID, _ core: ConnectionCore) {
        let resets = options.reset != .never
        Task.detached { [self] in
            let succeeded = await core.bringIntoOrder(resets: resets)
            update { state, now in
                state.machine.cleaned(id, succeeded: succeeded, didReset: resets, now: now)
            }
        }
    }

    // MARK: The end

    func shutDown(until deadline: Deadline) async {
        update { state, _ in state.machine.shutDown() }
        closeListening()
        let timer = loop.schedule(at: deadline) { [self] in endLeases() }
        await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                let isFinished = state.withLock { state in
                    if !state.isFinished { state.awaitingShutdown.append(continuation) }
                    return state.isFinished
                }
                if isFinished { continuation.resume() }
            }
        } onCancel: {
            endLeases()
        }
        loop.cancel(timer)
        cancelTimer()
    }

    private func endLeases() { update { state, _ in state.machine.endLeases() } }

    /// Nobody has the client any more.
    func endNow() {
        update { state, _ in
            state.machine.shutDown()
            state.machine.endLeases()
        }
        cancelTimer()
    }

    /// Also lets the loop go of this pool.
    private func cancelTimer() {
        let timer = state.withLock { state in
            defer { state.timer = nil }
            return state.timer
        }
        if let timer { loop.cancel(timer) }
    }
}

/// What a connection knows of the pool that it is in. The pool holds the connection, and the connection the pool: until it is
/// closed, which every connection of a pool is in the end.
struct PoolMembership: Sendable {
    let pool: ConnectionPool
    let id: PoolStateMachine.ConnectionID
}
