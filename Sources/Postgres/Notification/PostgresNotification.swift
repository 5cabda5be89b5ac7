/// What NOTIFY or `pg_notify` sent.
public struct PostgresNotification: Sendable, Hashable {
    /// The channel, as it was named to NOTIFY.
    public let channel: String
    /// At most 7,999 bytes; empty if NOTIFY had none.
    public let payload: String
    /// The server's process of the connection that sent it, as `pg_stat_activity.pid` has it: so one's own can be told apart.
    public let backendProcessID: Int32
}

/// The notifications of some channels, from ``PostgresConnection/listen(to:bufferingUpTo:)-(String...,_)``.
///
/// ```swift
/// for try await notification in try await db.listen(to: "jobs") { run(notification.payload) }
/// ```
/// They are kept until they are read, as many as the bound says. If more come, the sequence gives those it has and then throws
/// `notificationsLost`: nothing is left out silently. When the connection ends, it throws what ended it, `connectionLost` or what
/// the server said. When the sequence and its iterator are gone, the connection stops listening.
///
/// It is for one consumer: its iterators take from one buffer, so each notification goes to one of them, and while one waits, `next`
/// of another throws `unsupported`. For two consumers call `listen` twice.
public struct PostgresNotifications: AsyncSequence, Sendable {
    public typealias Element = PostgresNotification
    public typealias Failure = PostgresError

    let handle: ListenerHandle

    public struct AsyncIterator: AsyncIteratorProtocol {
        let handle: ListenerHandle

        /// Waits for the next notification, in the time of ``withPostgresTimeout(_:_:)``; `queryTimeout` does not count here.
        ///
        /// - Throws: `notificationsLost`, or why the connection ended; `cancelled` or `timedOut`, after which it can be asked again.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(PostgresError) -> PostgresNotification? {
            try await handle.next()
        }

        public mutating func next() async throws(PostgresError) -> PostgresNotification? {
            try await next(isolation: #isolation)
        }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(handle: handle) }
}

/// Keeps a listener: when the sequence and its iterators are gone, the server is told.
final class ListenerHandle: Sendable {
    private let listener: Listener
    private let core: ConnectionCore
    // Keeps the connection from being closed under the listener.
    private let connection: any AnyObject & Sendable

    init(listener: Listener, core: ConnectionCore, connection: any AnyObject & Sendable) {
        self.listener = listener
        self.core = core
        self.connection = connection
    }

    deinit { core.endListening(listener) }

    nonisolated(nonsending) func next() async throws(PostgresError) -> PostgresNotification {
        try await core.nextNotification(listener)
    }

    func nextBlocking(timeout: Duration?) throws(PostgresError) -> PostgresNotification? {
        try core.nextNotificationBlocking(listener, timeout: timeout)
    }
}
