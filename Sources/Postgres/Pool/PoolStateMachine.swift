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
/// one: nobody connects until then, and while there is no connection at all, everybody who waits, or comes, fails at once with the
/// real error. As long as a connection is open, those who wait can be served by it: they wait for it. A server that is full (53300)
/// makes nobody fail: they wait, and it is tried again.
///
/// Everybody waits until a deadline of their own, and who gives up makes room for those behind. A connection that turns out to be
/// dead when it is handed out costs nobody the turn: its user is first again.
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
        case timedOut(TimeLimit, waited: Time, PostgresError?)
        case cannotConnect(PostgresError)
    }

    /// Whose limit ended a wait.
    enum TimeLimit: Sendable {
        /// The pool's.
        case acquireTimeout
        case callersDeadline
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
