extension PostgresConnection {
    /// Listens to channels (manual, "LISTEN"), until the sequence and its iterator are gone.
    ///
    /// SQL sent: `LISTEN "channel"` for each; `UNLISTEN "channel"` at the end of the channel's last listener on this connection.
    /// Queries go on meanwhile; a stream or cursor that is open, and a transaction, hold notifications up until they end.
    ///
    /// - Parameters:
    ///   - channels: as they were named to NOTIFY, quoted; at most 63 bytes of UTF-8 each.
    ///   - limit: how many notifications are kept for a consumer that does not read; one more ends the sequence with
    ///     `notificationsLost`.
    /// - Throws: `invalidArgument` for a name that the server would cut off; `unsupported` inside an open transaction.
    public func listen(
        to channels: String..., bufferingUpTo limit: Int = 1024
    ) async throws(PostgresError) -> PostgresNotifications {
        try await listen(to: channels, bufferingUpTo: limit)
    }

    /// Listens to any number of channels.
    public func listen(
        to channels: [String], bufferingUpTo limit: Int = 1024
    ) async throws(PostgresError) -> PostgresNotifications {
        PostgresNotifications(
            handle: ListenerHandle(
                listener: try await core.listen(to: channels, limit: limit), core: core, connection: self))
    }
}

extension PostgresExecutor {
    /// Notifies whoever listens to the channel; in a transaction, when it commits.
    ///
    /// SQL sent: `SELECT pg_notify($1, $2)` (manual, "NOTIFY").
    ///
    /// - Parameter payload: less than 8,000 bytes, or the server refuses it.
    public func notify(_ channel: String, payload: String = "") async throws(PostgresError) {
        if let error = Identifier.check(channel) { throw error.with(message: "the channel: \(error.message)") }
        try await execute("SELECT pg_notify(\(channel), \(payload))")
    }
}
