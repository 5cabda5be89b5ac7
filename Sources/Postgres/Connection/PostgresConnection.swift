import PostgresProtocol
import PostgresTransport
import Synchronization

/// A connection to a PostgreSQL server.
///
/// Any number of tasks may use it at once: their statements are pipelined, each in its own transaction unless one is open, and
/// the replies come in the order in which the statements were queued. A slow statement holds up those behind it.
///
/// The last reference closes it; `close()` does so at once.
public final class PostgresConnection: PostgresExecutor {
    let core: ConnectionCore

    init(core: ConnectionCore) { self.core = core }

    deinit { core.close() }

    /// Connects with a URL, as in ``PostgresConfiguration/init(url:)``.
    ///
    /// ```swift
    /// let db = try await PostgresConnection.connect("postgresql://app:secret@localhost/shop")
    /// ```
    public static func connect(_ url: String) async throws(PostgresError) -> PostgresConnection {
        try await connect(PostgresConfiguration(url: url))
    }

    /// Connects: address, TLS and authentication under `connectTimeout`.
    ///
    /// - Throws: `cannotConnect`, `timedOut`, `tls`, `authentication`, `invalidConfiguration`, `cancelled`, `brokenProtocol` if
    ///   this is no PostgreSQL server, or what the server said: `invalidPassword` (28P01), `invalidCatalogName` (3D000), ...
    public static func connect(_ configuration: PostgresConfiguration) async throws(PostgresError) -> PostgresConnection
    {
        PostgresConnection(core: try await Establishment(configuration, loop: .shared).connect())
    }

    /// Closes, and sends Terminate as far as that is possible without waiting. Every statement that is still waiting fails with
    /// `connectionClosed`, and its outcome says whether it had been sent.
    public func close() { core.close() }

    /// Whether it is of no use any more: closed by `close()`, or broken.
    public var isClosed: Bool { core.state.withLock { $0.closed != nil } }

    /// The value of a run-time parameter that the server reports, such as `server_version` or `TimeZone`.
    public func parameter(_ name: String) -> String? { core.state.withLock { $0.parameters[name] } }

    /// The server's process for this connection, as `pg_stat_activity.pid` has it.
    public var backendProcessID: Int32? { core.server.processID.map { Int32(bitPattern: $0) } }

    /// TLS version and cipher; nil without TLS.
    public var tls: String? { core.server.tls }

    /// Runs tasks on the thread that reads this connection, so that no reply has to wake another thread.
    ///
    /// ```swift
    /// await withTaskExecutorPreference(db.executor) { ... }
    /// ```
    /// For many concurrent statements it halves the cost of each. Computing there holds up every connection of the process.
    public var executor: any TaskExecutor { core.loop }
}
