import PostgresTransport

extension PostgresClient {
    /// How many connections there may be, and how long anything may take.
    public struct Options: Sendable {
        /// When a session is reset, so that the next user meets none of what the last one set.
        public enum Reset: Sendable, Hashable {
            /// Before the first use after a connection was handed to the code of `withConnection` or of a transaction. The client's
            /// own single statements are taken not to change the session.
            case afterLeases
            /// Before each use; with ``Options/sharedStatements``, as `afterLeases`.
            case always
            /// Never: for applications that leave nothing behind, and for poolers that reset sessions themselves.
            case never
        }

        /// Connections kept open from the first use on, even if nobody uses them; at most `maximumConnections`.
        public var minimumConnections = 0
        /// Connections there may be, connects in progress included. Less than 1 counts as 1.
        public var maximumConnections = 10
        /// How long a caller waits for a connection, connecting included; nil waits as long as it takes.
        public var acquireTimeout: Duration? = .seconds(30)
        /// More callers than this do not wait: they fail with `tooManyWaiters`. Less than 1 counts as 1. One who waits again because
        /// the connection that it got was dead is not refused.
        public var maximumWaiters = 10_000
        /// After so long without use a connection is closed, unless there are no more than `minimumConnections`.
        public var idleTimeout: Duration? = .seconds(600)
        /// After this a connection is closed: when it is given back, or at once if nobody uses it, however few there are then. Up to a
        /// tenth sooner, so that not all end together.
        public var maximumLifetime: Duration? = .seconds(3600)
        /// When a session is reset. The reset is sent in one piece with the next user's first request and costs no round trip; if
        /// nobody comes within a second, it is sent by itself. With ``sharedStatements`` it is sent at once, and the connection is
        /// nobody's until it is answered. Prepared statements of this library stay.
        ///
        /// SQL sent, as one simple Query: `SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT
        /// pg_advisory_unlock_all(); DISCARD SEQUENCES; DISCARD TEMP`
        public var reset = Reset.afterLeases
        /// How long a connection may take to come into order after its user left a transaction open, rows unread or a statement
        /// running (a cancelled task does); after that it is closed.
        public var cleanupTimeout: Duration = .seconds(1)
        /// How long a reset waits for a next user to be sent with. Tests change it.
        var resetDelay: Duration = .seconds(1)
        /// How many single statements may share a connection, pipelined. 1 is off: a slow statement holds up those behind it. A
        /// further connection is opened only when all are used to this depth. Statements that begin a transaction, or change the
        /// session, must not be run this way.
        public var sharedStatements = 1
        /// A connection held longer than this by `withConnection`, a transaction, a stream, a cursor, a pipeline or a statement counts
        /// as leaked: it is reported, once each time, and nothing else is done about it. With ``sharedStatements``, single statements
        /// are not looked at. nil, the default, looks at nothing.
        public var leakTime: Duration?
        /// Told of leaks, on a task of its own; an observer is told of them, too.
        public var onLeak: (@Sendable (Leak) -> Void)?

        /// The defaults.
        public init() {}
    }

    /// A connection that somebody holds for too long.
    public struct Leak: Sendable, Hashable {
        /// `pg_stat_activity.pid`: its last statement is to be seen there.
        public let backendProcessID: Int32?
        /// How long it has been held.
        public let heldFor: Duration
    }
}

extension PostgresClient.Options {
    var limits: PoolStateMachine.Limits {
        func nanoseconds(_ duration: Duration?) -> UInt64 {
            guard let duration else { return PoolStateMachine.never }
            let (seconds, attoseconds) = duration.components
            guard seconds >= 0, attoseconds >= 0 else { return 0 }
            let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
            let (sum, overflows) = whole.addingReportingOverflow(UInt64(attoseconds / 1_000_000_000))
            return overflow || overflows ? PoolStateMachine.never : sum
        }
        var limits = PoolStateMachine.Limits()
        limits.maximum = max(1, maximumConnections)
        limits.minimum = max(0, min(minimumConnections, limits.maximum))
        limits.maximumWaiters = max(1, maximumWaiters)
        limits.sharedDepth = max(1, sharedStatements)
        limits.acquireTimeout = nanoseconds(acquireTimeout)
        limits.idleTimeout = nanoseconds(idleTimeout)
        limits.lifetime = nanoseconds(maximumLifetime)
        limits.lifetimeJitter = limits.lifetime / 10
        limits.resetDelay = nanoseconds(resetDelay)
        limits.cleanTimeout = nanoseconds(cleanupTimeout)
        limits.leakTime = nanoseconds(leakTime)
        return limits
    }
}
