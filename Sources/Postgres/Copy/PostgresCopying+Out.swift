import PostgresProtocol
import PostgresTransport
import Synchronization

/// COPY TO STDOUT: bytes.
extension PostgresCopying {
    /// Copies a table out, as bytes with back-pressure: see ``PostgresCopyChunks``.
    ///
    /// ```swift
    /// for try await chunk in try await db.copy(from: "users", format: .csv(header: true)) { try file.write(chunk) }
    /// ```
    /// SQL: `COPY "users" TO STDOUT WITH (FORMAT csv, HEADER)`
    ///
    /// - Parameters:
    ///   - table: the table's name, without quotes; of a view or a partitioned table see `copy(rowsOf:format:)`.
    ///   - schema: its schema; nil leaves the choice to `search_path`.
    ///   - columns: which columns, in which order; empty for all of them.
    ///   - format: how rows are written.
    public func copy(
        from table: String, schema: String? = nil, columns: [String] = [], format: PostgresCopyFormat = .text
    ) async throws(PostgresError) -> PostgresCopyChunks {
        try await chunks(try CopyStatement.from(table, schema: schema, columns: columns, format))
    }

    /// Copies the rows of a query out, as bytes with back-pressure: see ``PostgresCopyChunks``.
    ///
    /// SQL: `COPY (SELECT ...) TO STDOUT`. It takes no parameters.
    public func copy(
        rowsOf query: PostgresQuery, format: PostgresCopyFormat = .text
    ) async throws(PostgresError) -> PostgresCopyChunks {
        try await chunks(try CopyStatement.rows(of: query, format))
    }

    private func chunks(_ sql: String) async throws(PostgresError) -> PostgresCopyChunks {
        let port = copyPort
        let stream = try await port.core.observed(.copyOut, sql: sql) {
            () async throws(PostgresError) -> RowStream in
            try await port.open()
            return try await port.core.copyOut(sql, rows: nil, as: port.writer)
        }
        return PostgresCopyChunks(handle: RowStreamHandle(stream: stream, core: port.core, connection: port.connection))
    }
}

/// COPY TO STDOUT: typed rows in binary format.
extension PostgresCopying {
    /// Copies columns of a table out, as a stream of tuples.
    ///
    /// ```swift
    /// for try await (id, name) in try await db.copy(from: "users", columns: ["id", "name"], as: (Int, String).self) { ... }
    /// ```
    /// The columns are described first, which costs a round trip; then every value is read by its own codec, in binary form.
    ///
    /// SQL: `COPY "users" ("id", "name") TO STDOUT WITH (FORMAT binary)`
    @inlinable
    public func copy<each Column: PostgresDecodable>(
        from table: String, schema: String? = nil, columns: [String] = [], as row: (repeat each Column).Type
    ) async throws(PostgresError) -> PostgresRowStream<(repeat each Column)> {
        PostgresRowStream(handle: try await rowHandle(table, schema, columns)) {
            (row: PostgresRow) throws(PostgresError) -> (repeat each Column) in
            try row.decode(as: (repeat each Column).self)
        }
    }

    /// Copies columns of a table out, as a stream of a type that reads itself by column name.
    @inlinable
    public func copy<Row: PostgresRowDecodable>(
        from table: String, schema: String? = nil, columns: [String] = [], as row: Row.Type
    ) async throws(PostgresError) -> PostgresRowStream<Row> {
        PostgresRowStream(handle: try await rowHandle(table, schema, columns)) {
            (row: PostgresRow) throws(PostgresError) -> Row in try Row(row: row)
        }
    }

    /// Copies the rows of a query out, as a stream of tuples. It takes no parameters.
    @inlinable
    public func copy<each Column: PostgresDecodable>(
        rowsOf query: PostgresQuery, as row: (repeat each Column).Type
    ) async throws(PostgresError) -> PostgresRowStream<(repeat each Column)> {
        PostgresRowStream(handle: try await rowHandle(query)) {
            (row: PostgresRow) throws(PostgresError) -> (repeat each Column) in
            try row.decode(as: (repeat each Column).self)
        }
    }

    /// Copies the rows of a query out, as a stream of a type that reads itself by column name. It takes no parameters.
    @inlinable
    public func copy<Row: PostgresRowDecodable>(
        rowsOf query: PostgresQuery, as row: Row.Type
    ) async throws(PostgresError) -> PostgresRowStream<Row> {
        PostgresRowStream(handle: try await rowHandle(query)) {
            (row: PostgresRow) throws(PostgresError) -> Row in try Row(row: row)
        }
    }

    @usableFromInline
    func rowHandle(
        _ table: String, _ schema: String?, _ columns: [String]
    ) async throws(PostgresError) -> RowStreamHandle {
        try await rowHandle(
            try CopyStatement.from(table, schema: schema, columns: columns, .binary),
            describing: try CopyStatement.select(table, schema: schema, columns: columns))
    }

    @usableFromInline
    func rowHandle(_ query: PostgresQuery) async throws(PostgresError) -> RowStreamHandle {
        try await rowHandle(try CopyStatement.rows(of: query, .binary), describing: query)
    }

    private func rowHandle(
        _ sql: String, describing query: PostgresQuery
    ) async throws(PostgresError) -> RowStreamHandle {
        let port = copyPort
        let stream = try await port.core.observed(.copyOut, sql: sql) {
            () async throws(PostgresError) -> RowStream in
            try await port.open()
            let columns = CopyColumns.binary(try await port.core.describe(query, as: port.writer))
            return try await port.core.copyOut(sql, rows: columns, as: port.writer)
        }
        return RowStreamHandle(stream: stream, core: port.core, connection: port.connection)
    }
}

enum CopyColumns {
    /// All of them in binary form, as COPY has them.
    static func binary(_ description: StatementDescription) -> PostgresColumns {
        description.rowDescription.map { PostgresColumns($0, .binary) } ?? .none
    }
}

/// What a COPY copies out, in pieces of whole rows, as they are wanted.
///
/// It can be iterated once. A consumer that does not read holds the server back, and so everybody behind it on the connection;
/// memory stays bounded. Leaving it early reads the rest and throws it away. As with ``PostgresRowStream``, a query inside the
/// loop on the same connection works as long as the rest fits into `maximumResultBytes`.
public struct PostgresCopyChunks: AsyncSequence, Sendable {
    public typealias Element = [UInt8]
    public typealias Failure = PostgresError

    private let handle: RowStreamHandle

    init(handle: RowStreamHandle) { self.handle = handle }

    /// How many rows were copied; nil before the end.
    public var rowCount: Int? { handle.affected }

    public struct AsyncIterator: AsyncIteratorProtocol {
        let handle: RowStreamHandle

        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(PostgresError) -> [UInt8]? {
            try await handle.nextBytes()
        }

        public mutating func next() async throws(PostgresError) -> [UInt8]? { try await next(isolation: #isolation) }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(handle: handle) }
}

extension RowStreamHandle {
    /// How many rows the statement was about; nil before it ended, and if it failed.
    var affected: Int? { core.state.withLock { _ in stream.error == nil ? stream.end?.affected : nil } }

    nonisolated(nonsending) func nextBytes() async throws(PostgresError) -> [UInt8]? {
        try await core.nextChunk(stream).map { chunk, _ in chunk.allBytes }
    }

    func nextBytesBlocking() throws(PostgresError) -> [UInt8]? {
        try core.nextChunkBlocking(stream).map { chunk, _ in chunk.allBytes }
    }
}

extension RowChunk {
    fileprivate var allBytes: [UInt8] { [UInt8](UnsafeRawBufferPointer(start: base, count: byteCount)) }
}
