extension PostgresTransaction {
    /// Opens a portal in this transaction, which reads its rows a batch at a time: see ``PostgresCursor``. Other statements of the
    /// transaction may go between the batches. It ends with the transaction.
    ///
    /// - Parameter count: as for ``PostgresConnection/cursor(_:fetching:withHold:)``.
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
        do {
            return try await flow.core.observed(.cursor, query: query) {
                () async throws(PostgresError) -> CursorHandle in
                try await flow.open(as: writer)
                // How it ends, its consumer will know.
                flow.noteFailure()
                return try await flow.core.openCursor(
                    query, formats, fetching: count, as: writer, connection: flow.connection)
            }
        } catch { throw flow.noted(error) }
    }
}
