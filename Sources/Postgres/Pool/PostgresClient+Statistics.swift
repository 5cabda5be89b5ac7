extension PostgresClient {
    /// Why a connection was closed.
    public enum CloseReason: Sendable, Hashable, CaseIterable {
        /// It was not used for `idleTimeout`.
        case idle
        /// It was older than `maximumLifetime`.
        case lifetime
        /// It broke, the server ended it, or its user closed it.
        case lost
        /// What its user left behind could not be undone within `cleanupTimeout`.
        case dirty
        /// Its user held on to it behind the end of `withConnection`.
        case kept
        /// The client was shut down.
        case shutdown
    }

    /// What a client's pool is doing, and has done.
    public struct Statistics: Sendable, Hashable {
        /// Connections in the hands of callers.
        public var inUse = 0
        /// Connections that wait for a caller.
        public var idle = 0
        /// Connections that are being made.
        public var connecting = 0
        /// Connections on which what their last user left behind is being undone.
        public var cleaning = 0
        /// Callers who wait for a connection.
        public var waiting = 0
        /// The most connections there may be.
        public var maximum = 0
        /// How often a caller got a connection.
        public var acquires = 0
        /// How long callers have waited for a connection, together.
        public var acquireTime = Duration.zero
        /// How long the one who waited longest did.
        public var longestAcquire = Duration.zero
        /// How many waited in vain.
        public var acquireTimeouts = 0
        /// How many connections were made.
        public var connects = 0
        /// How many attempts to connect failed.
        public var connectFailures = 0
        /// How often a session was reset.
        public var resets = 0
        /// How many connections were held longer than `leakTime`.
        public var leaks = 0
        /// How many connections were closed, and why.
        public var closes: [CloseReason: Int] = [:]

        /// Connections, those being made included: never more than `maximum`.
        public var connections: Int { inUse + idle + connecting + cleaning }
    }
}

extension PostgresClient.Statistics {
    init(_ machine: borrowing PoolStateMachine) {
        inUse = machine.inUse
        idle = machine.idle.count
        connecting = machine.connecting
        cleaning = machine.cleaning
        waiting = machine.waiters.count
        maximum = machine.limits.maximum
        acquires = machine.counts.acquires
        acquireTime = .nanoseconds(Int64(clamping: machine.counts.waited))
        longestAcquire = .nanoseconds(Int64(clamping: machine.counts.longestWait))
        acquireTimeouts = machine.counts.timeouts
        connects = machine.counts.connects
        connectFailures = machine.counts.connectFailures
        resets = machine.counts.resets
        leaks = machine.counts.leaks
        closes = machine.counts.closes
    }
}
