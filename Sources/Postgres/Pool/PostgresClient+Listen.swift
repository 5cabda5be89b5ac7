import PostgresTransport
import Synchronization

extension PostgresClient {
    /// Listens to channels, until the sequence and its iterator are gone: as
    /// ``PostgresConnection/listen(to:bufferingUpTo:)-(String...,_)``, on a connection of its own.
    ///
    /// The connection is made for it, is none of the pool's and not counted among `maximumConnections`, and is closed at the end;
    /// ``shutdown(gracePeriod:)`` ends it with `connectionClosed`. When it is lost, the sequence throws the reason;
    /// ``PostgresListener`` is for who wants to connect again.
    ///
    /// SQL sent: `LISTEN "channel"` for each.
    ///
    /// - Parameters:
    ///   - channels: as they were named to NOTIFY, quoted; at most 63 bytes of UTF-8 each.
    ///   - limit: how many notifications are kept for a consumer that does not read; one more ends the sequence with
    ///     `notificationsLost`.
    /// - Throws: `invalidArgument` for a name that the server would cut off; why no connection could be made; `clientShutDown`.
    public func listen(
        to channels: String..., bufferingUpTo limit: Int = 1024
    ) async throws(PostgresError) -> PostgresNotifications {
        try await listen(to: channels, bufferingUpTo: limit)
    }

    /// Listens to any number of channels.
    public func listen(
        to channels: [String], bufferingUpTo limit: Int = 1024
    ) async throws(PostgresError) -> PostgresNotifications {
        let connection = try await pool.connectForListening()
        return PostgresNotifications(
            handle: ListenerHandle(
                listener: try await connection.core.listen(to: channels, limit: limit), core: connection.core,
                connection: ListeningConnection(client: self, connection: connection)))
    }

    /// Keeps both open; the connection closes with its last reference.
    private final class ListeningConnection: Sendable {
        private let client: PostgresClient
        private let connection: PostgresConnection

        init(client: PostgresClient, connection: PostgresConnection) {
            self.client = client
            self.connection = connection
        }
    }
}

extension ConnectionPool {
    /// A connection beside the pool's, which ends with the pool.
    nonisolated(nonsending) func connectForListening() async throws(PostgresError) -> PostgresConnection {
        if state.withLock({ $0.machine.isShutDown }) { throw shutDownError }
        let connection = PostgresConnection(core: try await Establishment(configuration, loop: loop).connect())
        let isWanted = state.withLock { state in
            if state.machine.isShutDown { return false }
            state.listening.removeAll { $0.core == nil }
            state.listening.append(WeakConnection(core: connection.core))
            return true
        }
        if isWanted { return connection }
        connection.close()
        throw shutDownError
    }

    private var shutDownError: PostgresError { PostgresError(.shutDown, statistics, options) }

    /// They never end by themselves, so no grace period is for them.
    func closeListening() {
        let open = state.withLock { state in
            defer { state.listening = [] }
            return state.listening
        }
        for connection in open { connection.core?.close() }
    }

    struct WeakConnection: Sendable {
        weak var core: ConnectionCore?
    }
}
