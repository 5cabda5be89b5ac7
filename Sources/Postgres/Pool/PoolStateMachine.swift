/// The decisions of a pool: who gets which connection, when to connect, when to close, when to give up.
///
/// *Theory of operation.* Events go in, with the time; what is to be done about them is appended to `actions`, which the driver
/// takes and performs. There is no clock, lock, random number or I/O in here.
///
/// A connection has a slot from the moment in which connecting to it begins until it is closed: the slots that are not vacant are
/// the permits, and there are never more than `maximum`. A slot is *connecting*, *idle*, *in use* (by one lease, or by several
/// statements that share it), or *cleaning* (what its last user left behind is being undone). Idle connections are a stack: the
/// last used is used next, so the others grow old and are closed. Whoever finds none waits in a queue, in order; while anybody
/// waits, no connection is idle.
///
/// Connecting is proven by a success and doubted after a failure. While it is in doubt, at the start too, one connection is tried
/// at a time: a wrong password is tried once, not once a waiter. A failure opens the *breaker* for a time that doubles with each
/// one: nobody connects until then, and if there is no connection at all, everybody who waits, or comes meanwhile, fails at once
/// with the real error. Only a server that is full (53300) makes nobody fail: they wait, and it is tried again.
///
/// An identifier is a slot and its generation: what comes late for a connection that is gone is ignored.
struct PoolStateMachine: Sendable {
    /// Nanoseconds of a clock that does not go back.
    typealias Time = UInt64
    static let never = Time.max

    struct ConnectionID: Sendable, Hashable {
        let slot: Int
        let generation: UInt64
    }

    /// What a connection is wanted for.
    enum Use: Sendable {
        /// One user alone.
        case exclusive
        /// A single statement, which may share the connection with others.
        case shared
    }

    struct Limits: Sendable {
        var minimum = 0
        var maximum = 10
        var maximumWaiters = 10_000
        /// How many statements may share a connection.
        var sharedDepth = 1
        var acquireTimeout = never
        var idleTimeout = never
        var lifetime = never
        /// How much sooner than after `lifetime` a connection may end.
        var lifetimeJitter: Time = 0
        /// How long a reset may wait for a next user to ride along with.
        var resetDelay: Time = 1_000_000_000
        var cleanTimeout: Time = 1_000_000_000
        var leakTime = never
    }

    enum ConnectFailure: Sendable {
        /// Nobody there, or nobody who can be talked to.
        case unreachable
        /// The server refused this user, password or database: trying again soon is of no use.
        case refused
        /// The server has no connection left.
        case full
    }

    struct Granted: Sendable, Equatable {
        let id: ConnectionID
        /// The session is to be reset with the next request.
        let carriesReset: Bool
        /// Whether others share it already, so that it is known to be in order.
        let isJoined: Bool
    }

    enum Acquisition: Sendable {
        case granted(Granted)
        case wait(WaiterQueue.ID)
        case failed(Failure)
    }

    enum Failure: Sendable {
        case shutDown
        case tooManyWaiters
        /// With the reason why no connection could be made, if that is why.
        case timedOut(PostgresError?)
        case cannotConnect(PostgresError)
    }

    /// In what state a connection comes back; the worst counts.
    enum Condition: Int, Sendable, Comparable {
        case clean
        /// Requests are in flight: the user's, or those of others with whom he shared it.
        case busy
        /// A transaction is open.
        case dirty
        /// The user holds on to it.
        case kept
        case broken

        static func < (left: Condition, right: Condition) -> Bool { left.rawValue < right.rawValue }
    }

    enum Action: Sendable {
        case grant(WaiterQueue.ID, Granted)
        case fail(WaiterQueue.ID, Failure)
        case connect(ConnectionID)
        case abandonConnect(ConnectionID)
        case clean(ConnectionID)
        case close(ConnectionID, PostgresClient.CloseReason)
        case reportLeak(ConnectionID, heldFor: Time)
        case finishShutdown
    }

    struct Slot: Sendable {
        enum Phase: Sendable {
            case vacant
            case connecting
            case idle
            case inUse
            case cleaning
        }

        var phase = Phase.vacant
        var generation: UInt64 = 0
        /// Since when it is in its phase.
        var since: Time = 0
        var expires = never
        var users = 0
        var isShared = false
        var condition = Condition.clean
        var needsReset = false
        var carriesReset = false
        var isReported = false
    }

    struct Breaker: Sendable {
        var until: Time
        let failures: Int
        let error: PostgresError
        let kind: ConnectFailure
    }

    let limits: Limits
    var slots: [Slot] = []
    var vacant: [Int] = []
    var idle: [Int] = []
    var waiters = WaiterQueue()
    var connecting = 0
    var inUse = 0
    var cleaning = 0
    var isProven = false
    var isShutDown = false
    var breaker: Breaker?
    var counts = Counts()
    /// What the driver has to do; it takes them away.
    var actions: [Action] = []
    /// When `timer` wants to be called, at the latest.
    var wakeAt = never

    /// What was counted since the beginning.
    struct Counts: Sendable {
        var acquires = 0
        var waited: Time = 0
        var longestWait: Time = 0
        var timeouts = 0
        var connects = 0
        var connectFailures = 0
        var resets = 0
        var leaks = 0
        var closes: [PostgresClient.CloseReason: Int] = [:]
    }

    init(_ limits: Limits) {
        self.limits = limits
        let reserve = min(limits.maximum, 1024)
        slots.reserveCapacity(reserve)
        idle.reserveCapacity(reserve)
        vacant.reserveCapacity(reserve)
    }

    /// Connections and connects in progress.
    var permits: Int { open + connecting }
    /// Connections that exist.
    var open: Int { idle.count + inUse + cleaning }

    // MARK: Acquiring

    /// - Parameter deadline: the caller's own, beside `acquireTimeout`.
    mutating func acquire(_ use: Use, now: Time, until deadline: Time = never) -> Acquisition {
        guard !isShutDown else { return .failed(.shutDown) }
        if waiters.isEmpty {
            if let slot = idle.popLast() { return .granted(take(slot, use, now)) }
            if use == .shared, let slot = sharedWithRoom() { return .granted(join(slot)) }
        }
        return queueUp(use, now, deadline)
    }

    @inline(never)
    private mutating func queueUp(_ use: Use, _ now: Time, _ own: Time) -> Acquisition {
        if open == 0, let breaker, breaker.kind != .full, now < breaker.until {
            return .failed(.cannotConnect(breaker.error))
        }
        guard waiters.count < limits.maximumWaiters else { return .failed(.tooManyWaiters) }
        let deadline = min(own, after(now, limits.acquireTimeout))
        let id = waiters.append(use, since: now, deadline: deadline)
        wake(by: deadline)
        startConnects(now)
        return .wait(id)
    }

    /// Whether `acquire` would not make the caller wait.
    func canGrantAtOnce(_ use: Use) -> Bool {
        !isShutDown && waiters.isEmpty && (!idle.isEmpty || (use == .shared && sharedWithRoom() != nil))
    }

    /// A task was cancelled.
    ///
    /// - Returns: false if it does not wait any more; then what it was given is on its way to it.
    mutating func cancel(_ waiter: WaiterQueue.ID) -> Bool { waiters.remove(waiter) }

    /// An idle connection becomes somebody's.
    private mutating func take(_ index: Int, _ use: Use, _ now: Time) -> Granted {
        slots[index].phase = .inUse
        slots[index].since = now
        slots[index].users = 1
        slots[index].isShared = use == .shared && limits.sharedDepth > 1
        slots[index].isReported = false
        let carriesReset = slots[index].needsReset
        slots[index].carriesReset = carriesReset
        slots[index].needsReset = false
        inUse += 1
        counts.acquires &+= 1
        if limits.leakTime != PoolStateMachine.never { wake(by: after(now, limits.leakTime)) }
        return Granted(id: id(index), carriesReset: carriesReset, isJoined: false)
    }

    private mutating func join(_ index: Int) -> Granted {
        slots[index].users += 1
        counts.acquires &+= 1
        return Granted(id: id(index), carriesReset: false, isJoined: true)
    }

    /// The one with the fewest users.
    private func sharedWithRoom() -> Int? {
        guard limits.sharedDepth > 1 else { return nil }
        var best: Int?
        for index in slots.indices where hasRoom(index) {
            if let known = best, slots[known].users <= slots[index].users { continue }
            best = index
        }
        return best
    }

    private func hasRoom(_ index: Int) -> Bool {
        let slot = slots[index]
        return slot.phase == .inUse && slot.isShared && slot.users < limits.sharedDepth && slot.condition == .clean
    }

    // MARK: Releasing

    /// A user is done with a connection.
    ///
    /// - Parameters:
    ///   - resetPending: the reset that it was granted with was not sent, because nothing was.
    ///   - needsReset: what this user may have done to the session is to be undone.
    mutating func release(
        _ id: ConnectionID, _ condition: Condition, resetPending: Bool, needsReset: Bool, now: Time
    ) {
        guard isCurrent(id), slots[id.slot].phase == .inUse else { return }
        let index = id.slot
        if slots[index].carriesReset, !resetPending, condition != .broken {
            slots[index].carriesReset = false
            counts.resets &+= 1
        }
        slots[index].users -= 1
        let isLast = slots[index].users == 0
        if isLast || condition != .busy, condition > slots[index].condition { slots[index].condition = condition }
        if needsReset || resetPending { slots[index].needsReset = true }
        guard isLast else { return fillShared(index, now) }
        inUse -= 1
        if isShutDown {
            close(index, .shutdown)
            return finishShutdownIfDone()
        }
        switch slots[index].condition {
        case .clean: makeAvailable(index, now)
        case .busy, .dirty: clean(index, now)
        case .kept:
            close(index, .kept)
            startConnects(now)
        case .broken:
            close(index, .lost)
            startConnects(now)
        }
    }

    /// An open connection without users goes to who waits, or to the idle ones.
    mutating func makeAvailable(_ index: Int, _ now: Time) {
        if slots[index].expires <= now {
            close(index, .lifetime)
            return startConnects(now)
        }
        if let waiter = waiters.popFirst() {
            hand(take(index, waiter.kind, now), to: waiter, now)
            return fillShared(index, now)
        }
        slots[index].phase = .idle
        slots[index].since = now
        idle.append(index)
        wake(by: nextTime(ofIdle: index))
    }

    /// Further statements join a shared connection, but nobody overtakes.
    private mutating func fillShared(_ index: Int, _ now: Time) {
        while hasRoom(index), let next = waiters.first, next.kind == .shared {
            _ = waiters.popFirst()
            hand(join(index), to: next, now)
        }
    }

    private mutating func hand(_ granted: Granted, to waiter: WaiterQueue.Waiter, _ now: Time) {
        let waited = now &- waiter.since
        counts.waited &+= waited
        counts.longestWait = max(counts.longestWait, waited)
        actions.append(.grant(waiter.id, granted))
    }

    // MARK: Slots

    func id(_ index: Int) -> ConnectionID { ConnectionID(slot: index, generation: slots[index].generation) }

    func isConnecting(_ id: ConnectionID) -> Bool { isCurrent(id) && slots[id.slot].phase == .connecting }

    func isCurrent(_ id: ConnectionID) -> Bool {
        id.slot < slots.count && slots[id.slot].generation == id.generation && slots[id.slot].phase != .vacant
    }

    /// The caller has taken it out of the count of its phase.
    mutating func close(_ index: Int, _ reason: PostgresClient.CloseReason) {
        actions.append(.close(id(index), reason))
        counts.closes[reason, default: 0] += 1
        vacate(index)
    }

    mutating func vacate(_ index: Int) {
        slots[index] = Slot(generation: slots[index].generation &+ 1)
        vacant.append(index)
    }

    mutating func wake(by time: Time) {
        if time < wakeAt { wakeAt = time }
    }

    func after(_ now: Time, _ span: Time) -> Time {
        let (sum, overflow) = now.addingReportingOverflow(span)
        return overflow ? PoolStateMachine.never : sum
    }
}
