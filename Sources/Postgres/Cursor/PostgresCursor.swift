/// The rows of a statement that the server keeps, and hands out a batch at a time; from ``PostgresConnection/cursor(_:fetching:withHold:)``.
///
/// ```swift
/// for try await (id, name) in try await db.cursor("SELECT id, name FROM users", as: (Int, String).self, fetching: 500) { ... }
/// ```
/// One batch is in memory at a time. It can be iterated once. Leaving early costs nothing: the rest of the rows is never sent.
/// The server is told when the loop is left, or by `close()`, or by the last reference.
public struct PostgresCursor<Row>: AsyncSequence, Sendable {
    public typealias Element = Row
    public typealias Failure = PostgresError

    @usableFromInline let handle: CursorHandle
    @usableFromInline let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row

    @inlinable
    init(handle: CursorHandle, decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row) {
        self.handle = handle
        self.decode = decode
    }

    /// Ends the cursor, and its transaction if that is its own. Closing twice, or after the last row, does nothing.
    ///
    /// - Throws: what the server says to `COMMIT` or `CLOSE`.
    public func close() async throws(PostgresError) { try await handle.close() }

    public struct AsyncIterator: AsyncIteratorProtocol {
        @usableFromInline let reader: CursorHandle.Reader
        @usableFromInline var cursor = RowCursor(Reply())
        @usableFromInline let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row

        @inlinable
        init(handle: CursorHandle, decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row) {
            reader = CursorHandle.Reader(handle)
            self.decode = decode
        }

        @inlinable
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(PostgresError) -> Row? {
            while true {
                if cursor.advance() { return try decode(cursor.row) }
                // Let go of the batch before the next comes.
                cursor = RowCursor(Reply())
                guard let batch = try await reader.handle.nextBatch() else { return nil }
                cursor = batch
            }
        }

        @inlinable
        public mutating func next() async throws(PostgresError) -> Row? { try await next(isolation: #isolation) }
    }

    @inlinable public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(handle: handle, decode: decode) }
}

extension PostgresConnection {
    /// Opens a cursor.
    ///
    /// Without hold it is a portal of the extended query protocol, in a transaction: the connection belongs to the cursor until
    /// it ends, and other statements wait. A query on the same connection inside the loop would wait for ever: of the task that
    /// iterates it is an error (`unsupported`); of a task made in the loop it is not noticed. Use a held cursor, or another
    /// connection, for that. SQL sent: `BEGIN`, the statement, `COMMIT` at the end, `ROLLBACK` after a failure.
    /// In a transaction that was opened by a `BEGIN` of yours it sends neither.
    ///
    /// With hold the server computes all rows first and keeps them until the end of the cursor (manual, "DECLARE"): it belongs to
    /// no transaction, and any statements may go between. SQL sent: `DECLARE "name" NO SCROLL CURSOR WITH HOLD FOR ...`,
    /// `FETCH FORWARD n`, `CLOSE`. Only a SELECT or VALUES can be held.
    ///
    /// - Parameters:
    ///   - count: rows asked for at once, and held in memory; each batch is a round trip, and has to fit into
    ///     `maximumResultBytes`.
    ///   - withHold: whether the cursor outlives its transaction.
    @inlinable
    public func cursor<Row>(
        _ query: PostgresQuery.Typed<Row>, fetching count: Int = 1000, withHold: Bool = false
    ) async throws(PostgresError) -> PostgresCursor<Row> {
        PostgresCursor(
            handle: try await openCursor(query.query, query.formats, count, withHold), decode: query.decode)
    }

    /// Rows without a type, read by column name or position.
    @inlinable
    public func cursor(
        _ query: PostgresQuery, fetching count: Int = 1000, withHold: Bool = false
    ) async throws(PostgresError) -> PostgresCursor<PostgresRow> {
        try await cursor(query.as(PostgresRow.self), fetching: count, withHold: withHold)
    }

    /// Rows as tuples; one element is just the element.
    @inlinable
    public func cursor<each Column: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (repeat each Column).Type, fetching count: Int = 1000,
        withHold: Bool = false
    ) async throws(PostgresError) -> PostgresCursor<(repeat each Column)> {
        try await cursor(query.as(columns), fetching: count, withHold: withHold)
    }

    /// Rows as a type that reads itself by column name.
    @inlinable
    public func cursor<Row: PostgresRowDecodable>(
        _ query: PostgresQuery, as row: Row.Type, fetching count: Int = 1000, withHold: Bool = false
    ) async throws(PostgresError) -> PostgresCursor<Row> {
        try await cursor(query.as(row), fetching: count, withHold: withHold)
    }

    @usableFromInline
    func openCursor(
        _ query: PostgresQuery, _ formats: ResultFormats, _ count: Int, _ withHold: Bool
    ) async throws(PostgresError) -> CursorHandle {
        try await core.openObservedCursor(query, formats, fetching: count, withHold: withHold, connection: self)
    }
}
