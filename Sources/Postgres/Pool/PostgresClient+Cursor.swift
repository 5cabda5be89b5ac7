extension PostgresClient {
    /// Opens a cursor on a connection of its own, which it has until the cursor, and every iterator of it, is let go: see
    /// ``PostgresCursor``. So queries inside the loop are free to go: the client takes another connection for them.
    ///
    /// SQL sent: `BEGIN`, the statement, `COMMIT` at the end, also of a loop that is left early; `ROLLBACK` after a failure.
    ///
    /// - Parameter count: rows asked for at once, and held in memory; each batch is a round trip, and has to fit into
    ///   `maximumResultBytes`.
    /// - Throws: what the statement throws, or why there is no connection, as ``query(_:)`` does.
    @inlinable
    public func cursor<Row>(
        _ query: PostgresQuery.Typed<Row>, fetching count: Int = 1000
    ) async throws(PostgresError) -> PostgresCursor<Row> {
        PostgresCursor(handle: try await openCursor(query.query, query.formats, count), decode: query.decode)
    }

    /// Rows without a type, read by column name or position.
    @inlinable
    public func cursor(
        _ query: PostgresQuery, fetching count: Int = 1000
    ) async throws(PostgresError) -> PostgresCursor<PostgresRow> {
        try await cursor(query.as(PostgresRow.self), fetching: count)
    }

    /// Rows as tuples; one element is just the element.
    @inlinable
    public func cursor<each Column: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (repeat each Column).Type, fetching count: Int = 1000
    ) async throws(PostgresError) -> PostgresCursor<(repeat each Column)> {
        try await cursor(query.as(columns), fetching: count)
    }

    /// Rows as a type that reads itself by column name.
    @inlinable
    public func cursor<Row: PostgresRowDecodable>(
        _ query: PostgresQuery, as row: Row.Type, fetching count: Int = 1000
    ) async throws(PostgresError) -> PostgresCursor<Row> {
        try await cursor(query.as(row), fetching: count)
    }

    @usableFromInline
    func openCursor(
        _ query: PostgresQuery, _ formats: ResultFormats, _ count: Int
    ) async throws(PostgresError) -> CursorHandle {
        try await pool.retrying(.exclusive) { (lease) throws(PostgresError) in
            let keeper = LeaseKeeper(client: self)
            let handle = try await lease.core.openObservedCursor(
                query, formats, fetching: count, withHold: false, connection: keeper)
            keeper.keep(lease)
            return handle
        }
    }
}
