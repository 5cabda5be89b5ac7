import PostgresProtocol
import PostgresTransport
import Synchronization

/// A connection for scripts and command-line tools: the calls wait on their own thread, without `async`.
///
/// ```swift
/// let db = try PostgresBlockingConnection.connect("postgresql://app@localhost/shop")
/// for (id, name) in try db.query("SELECT id, name FROM users", as: (Int, String).self).all() { print(id, name) }
/// ```
/// It is the same connection underneath, and may be used from any number of threads. Do not call it from a task: it would block a
/// thread of the cooperative pool.
public final class PostgresBlockingConnection: Sendable {
    let core: ConnectionCore
    /// The same connection for asynchronous code, which may outlive this object: the last reference to either closes it.
    public let asynchronous: PostgresConnection

    init(core: ConnectionCore) {
        self.core = core
        asynchronous = PostgresConnection(core: core)
    }

    /// As ``PostgresConnection/connect(_:)-(String)``.
    public static func connect(_ url: String) throws(PostgresError) -> PostgresBlockingConnection {
        try connect(PostgresConfiguration(url: url))
    }

    /// As ``PostgresConnection/connect(_:)-(PostgresConfiguration)``.
    public static func connect(_ configuration: PostgresConfiguration) throws(PostgresError)
        -> PostgresBlockingConnection
    {
        let loop = EventLoop.shared
        if loop.isCurrent { throw .blockingOnTheLoop }
        // Establishing is a matter of waiting, not of speed: it is written once. It runs on this thread, because the observer that it
        // calls is the user's code.
        let core = try CallingThread.wait { () async throws(PostgresError) -> ConnectionCore in
            try await Establishment(configuration, loop: loop).connect()
        }
        return PostgresBlockingConnection(core: core)
    }

    /// As ``PostgresConnection/close()``.
    public func close() { core.close() }
    /// As ``PostgresConnection/isClosed``.
    public var isClosed: Bool { core.state.withLock { $0.closed != nil } }
    /// As ``PostgresConnection/statistics-swift.property``.
    public var statistics: PostgresConnection.Statistics { core.statistics }
    /// As ``PostgresConnection/parameter(_:)``.
    public func parameter(_ name: String) -> String? { core.state.withLock { $0.parameters[name] } }

    /// Runs a statement and buffers its rows: as ``PostgresExecutor/query(_:)``.
    @inlinable
    public func query<Row>(_ query: PostgresQuery.Typed<Row>) throws(PostgresError) -> PostgresRows<Row> {
        PostgresRows(reply: try perform(query.query, query.formats), decode: query.decode)
    }

    /// Runs a statement, and tells how many rows it inserted, updated, deleted or selected.
    @discardableResult
    public func execute(_ query: PostgresQuery) throws(PostgresError) -> Int {
        try perform(query, .text).affected
    }

    @usableFromInline
    func perform(_ query: PostgresQuery, _ formats: ResultFormats) throws(PostgresError) -> Reply {
        if core.observation != nil {
            return try core.observedBlocking(
                .query, query: query
            ) { () throws(PostgresError) -> Reply in try core.performBlocking(query, formats) }
        }
        return try core.performBlocking(query, formats)
    }

    /// As ``PostgresConnection/run(_:)``.
    public func run(_ pipeline: PostgresPipeline) throws(PostgresError) -> PostgresPipeline.Results {
        PostgresPipeline.Results(
            replies: try core.observedBlocking(.pipeline, pipeline: pipeline.items) {
                () throws(PostgresError) -> [Reply] in
                switch pipeline.sync {
                case .isolated: return try core.runBlocking(pipeline.items, .isolated)
                case .atomic: return try core.runBlocking(pipeline.items, .atomic)
                case .savepoints:
                    let begin = PostgresTransaction.Isolation.serverDefault.begin(readOnly: false, deferrable: false)
                    return try runTransaction(pipeline, begin).replies
                }
            })
    }

    /// As ``PostgresConnection/script(_:)``.
    @discardableResult
    public func script(_ sql: PostgresQuery) throws(PostgresError) -> [PostgresRows<PostgresRow>] {
        try core.observedBlocking(.script, query: sql) {
            () throws(PostgresError) -> [Reply] in try core.scriptBlocking(sql)
        }.map { PostgresRows(reply: $0) { (row) throws(PostgresError) in row } }
    }

    /// As ``PostgresConnection/prepare(_:)``.
    @discardableResult
    public func prepare(_ query: PostgresQuery) throws(PostgresError) -> PostgresStatement {
        PostgresStatement(
            try core.observedBlocking(.prepare, query: query) {
                () throws(PostgresError) -> StatementDescription in try core.prepareBlocking(query)
            })
    }

    /// Reads the rows as they are wanted.
    public func stream<Row>(_ query: PostgresQuery.Typed<Row>) throws(PostgresError) -> PostgresBlockingRowStream<Row> {
        let stream = try core.observedBlocking(.stream, query: query.query) {
            () throws(PostgresError) -> RowStream in try core.streamBlocking(query.query, query.formats)
        }
        return PostgresBlockingRowStream(
            handle: RowStreamHandle(stream: stream, core: core, connection: self), decode: query.decode)
    }
}
