/// What can run a query: a connection, a transaction or a pool.
public protocol PostgresExecutor: Sendable {
    /// Runs a statement and buffers its rows.
    ///
    /// SQL sent: the query's text, prepared under a name on first use and kept, its values as parameters.
    func query<Row>(_ query: PostgresQuery.Typed<Row>) async throws(PostgresError) -> PostgresRows<Row>
    /// Runs a statement, and tells how many rows it inserted, updated, deleted or selected.
    @discardableResult
    func execute(_ query: PostgresQuery) async throws(PostgresError) -> Int
    /// Sends many statements in one flight, and tells what became of each.
    ///
    /// - Throws: only when nothing was sent; otherwise each result holds its own outcome.
    func run(_ pipeline: PostgresPipeline) async throws(PostgresError) -> PostgresPipeline.Results
}

extension PostgresExecutor {
    /// Rows without a type, read by column name or position.
    @inlinable
    public func query(_ query: PostgresQuery) async throws(PostgresError) -> PostgresRows<PostgresRow> {
        try await self.query(query.as(PostgresRow.self))
    }

    /// Rows as tuples; one element is just the element.
    @inlinable
    public func query<each Column: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (repeat each Column).Type
    ) async throws(PostgresError) -> PostgresRows<(repeat each Column)> {
        try await self.query(query.as(columns))
    }

    /// Rows as a type that reads itself by column name.
    @inlinable
    public func query<Row: PostgresRowDecodable>(
        _ query: PostgresQuery, as row: Row.Type
    ) async throws(PostgresError) -> PostgresRows<Row> {
        try await self.query(query.as(row))
    }

    /// Typed queries in one round trip, each with its own result.
    ///
    /// ```swift
    /// let (users, total) = try await db.pipeline(allUsers, userCount)
    /// ```
    @inlinable
    public func pipeline<each Row>(
        _ queries: repeat PostgresQuery.Typed<each Row>
    ) async throws(PostgresError) -> (repeat PostgresRows<each Row>) {
        try await pipeline(.isolated, repeat each queries)
    }

    /// Typed queries in one round trip, each its own transaction (`.isolated`) or all of them one (`.atomic`).
    @inlinable
    public func pipeline<each Row>(
        _ sync: PostgresPipeline.Sync, _ queries: repeat PostgresQuery.Typed<each Row>
    ) async throws(PostgresError) -> (repeat PostgresRows<each Row>) {
        var pipeline = PostgresPipeline(sync)
        let tickets = (repeat pipeline.add(each queries))
        let results = try await run(pipeline)
        return (repeat results[each tickets])
    }
}
