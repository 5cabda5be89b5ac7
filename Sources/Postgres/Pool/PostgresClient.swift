import PostgresProtocol
import PostgresTransport

/// A pool of connections to one server.
///
/// ```swift
/// let db = try PostgresClient(url: "postgresql://app:secret@localhost/shop")
/// let count = try await db.query("SELECT count(*) FROM users", as: Int.self).one()
/// ```
/// It connects when a connection is first wanted, and needs no task to run it. Each statement runs on a connection that nobody
/// else uses meanwhile, in its own transaction; what needs one session for several statements uses ``withConnection(_:)``. If all
/// are in use, callers wait in order, at most `acquireTimeout`.
///
/// A password that the server refuses, or a server that is not there, fails everybody who waits at once, with the server's or the
/// system's own error; for a time that grows from 0.1 to 2 seconds (30 after a refused login) nobody connects then, and callers
/// get the same error without delay. A server that has no connection left (53300) makes them wait.
///
/// The last reference closes it at once; ``shutdown(gracePeriod:)`` lets what runs come to its end.
public final class PostgresClient: PostgresExecutor {
    let pool: ConnectionPool

    /// What is wrong with the configuration is told by the first statement.
    public init(_ configuration: PostgresConfiguration, pool options: Options = Options()) {
        pool = ConnectionPool(configuration, options, loop: .shared)
    }

    /// With a URL, as in ``PostgresConfiguration/init(url:)``.
    public convenience init(url: String, pool options: Options = Options()) throws(PostgresError) {
        self.init(try PostgresConfiguration(url: url), pool: options)
    }

    deinit { pool.endNow() }

    /// Refuses new work, and waits until what runs has ended, at most so long; then closes what is left, whose statements fail with
    /// `connectionClosed`. Whoever waits for a connection fails at once with `clientShutDown`, and so does every later call.
    ///
    /// Cancelling the task that waits here ends the grace period.
    public func shutdown(gracePeriod: Duration = .seconds(30)) async {
        await pool.shutDown(until: Deadline(after: gracePeriod))
    }

    /// How many connections there are and what they do, and what was counted so far.
    public var statistics: Statistics { pool.statistics }

    /// Runs tasks on the thread that reads the connections: see ``PostgresConnection/executor``.
    public var executor: any TaskExecutor { pool.loop }
}

extension PostgresClient {
    /// Runs a statement on a free connection, and buffers its rows, up to `maximumResultBytes`.
    ///
    /// If the connection turns out to be closed before anything was sent, another one is taken.
    ///
    /// - Throws: what the statement throws on a connection; `timedOut` if no connection became free in time, `tooManyWaiters`,
    ///   `clientShutDown`, or why no connection could be made.
    @inlinable
    public func query<Row>(_ query: PostgresQuery.Typed<Row>) async throws(PostgresError) -> PostgresRows<Row> {
        PostgresRows(reply: try await perform(query.query, query.formats), decode: query.decode)
    }

    /// Runs a statement on a free connection, and tells how many rows it inserted, updated, deleted or selected.
    @discardableResult
    public func execute(_ query: PostgresQuery) async throws(PostgresError) -> Int {
        try await pool.perform(query, .text).affected
    }

    /// Runs the statements of a pipeline in one flight on a free connection.
    public func run(_ pipeline: PostgresPipeline) async throws(PostgresError) -> PostgresPipeline.Results {
        PostgresPipeline.Results(replies: try await pool.run(pipeline))
    }

    @usableFromInline
    func perform(_ query: PostgresQuery, _ formats: ResultFormats) async throws(PostgresError) -> Reply {
        try await pool.perform(query, formats)
    }
}

extension PostgresClient {
    /// Runs `body` with a connection that is its own until it ends.
    ///
    /// Whatever it leaves behind is undone: an open transaction is rolled back, and before the connection's next use the session is
    /// reset, as ``Options/reset`` says. Do not keep the connection: one that is still referenced when `body` ends is closed.
    /// Within `body`, use the connection and not the client, which would take a second one, and wait for ever for it if there are
    /// no more.
    ///
    /// - Throws: what `body` throws, or why there is no connection, as ``query(_:)`` does.
    @discardableResult
    public nonisolated(nonsending) func withConnection<Success>(
        _ body: (PostgresConnection) async throws -> sending Success
    ) async throws -> sending Success {
        let lease = try await pool.acquire(.exclusive)
        do {
            // No variable has it: when the next user gets it, nobody else may refer to it, or it would count as kept.
            let result = try await body(pool.connection(of: lease))
            pool.giveBackConnection(of: lease)
            return result
        } catch {
            pool.giveBackConnection(of: lease)
            throw error
        }
    }

    /// Runs a statement and reads its rows as they are wanted: see ``PostgresRowStream``. It has a connection for itself until the
    /// stream, and every iterator of it, is let go; unread rows are then read and thrown away, or the connection is closed if that
    /// takes longer than `cleanupTimeout`.
    @inlinable
    public func stream<Row>(_ query: PostgresQuery.Typed<Row>) async throws(PostgresError) -> PostgresRowStream<Row> {
        PostgresRowStream(handle: try await stream(query.query, query.formats), decode: query.decode)
    }

    @usableFromInline
    func stream(_ query: PostgresQuery, _ formats: ResultFormats) async throws(PostgresError) -> RowStreamHandle {
        try await pool.retrying(.exclusive) { (lease) throws(PostgresError) in
            let stream = try await lease.core.streamObserved(query, formats)
            return RowStreamHandle(
                stream: stream, core: lease.core, connection: StreamLease(client: self, lease: lease))
        }
    }

    /// Gives the connection back when the stream is let go. The stream's handle abandons what is unread before it lets go of this.
    private final class StreamLease: Sendable {
        let client: PostgresClient
        let lease: ConnectionPool.Lease

        init(client: PostgresClient, lease: ConnectionPool.Lease) {
            self.client = client
            self.lease = lease
        }

        deinit { client.pool.giveBack(lease) }
    }
}
