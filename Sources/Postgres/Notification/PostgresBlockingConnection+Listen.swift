extension PostgresBlockingConnection {
    /// As ``PostgresConnection/listen(to:bufferingUpTo:)-(String...,_)``.
    public func listen(
        to channels: String..., bufferingUpTo limit: Int = 1024
    ) throws(PostgresError) -> PostgresBlockingNotifications {
        PostgresBlockingNotifications(
            handle: ListenerHandle(
                listener: try core.listenBlocking(to: channels, limit: limit), core: core, connection: self))
    }

    /// As ``PostgresExecutor/notify(_:payload:)``.
    public func notify(_ channel: String, payload: String = "") throws(PostgresError) {
        if let error = Identifier.check(channel) { throw error.with(message: "the channel: \(error.message)") }
        try execute("SELECT pg_notify(\(channel), \(payload))")
    }
}

/// The notifications of some channels for the blocking API; see ``PostgresNotifications``.
public struct PostgresBlockingNotifications: Sendable {
    let handle: ListenerHandle

    /// Waits for the next notification on the calling thread.
    ///
    /// - Parameter timeout: nil waits as long as it takes; zero only looks.
    /// - Returns: nil if none came in time.
    /// - Throws: as the iterator of ``PostgresNotifications``; `timedOut` only where ``withPostgresTimeout(_:_:)`` ends the wait.
    public func waitForNotification(timeout: Duration? = nil) throws(PostgresError) -> PostgresNotification? {
        try handle.nextBlocking(timeout: timeout)
    }
}
