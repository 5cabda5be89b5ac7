/// What can read the rows of a statement as they are wanted: a connection, a transaction, a pool.
public protocol PostgresStreaming: PostgresExecutor {
    /// Runs a statement and reads its rows as they are wanted, with back-pressure: see ``PostgresRowStream``.
    func stream<Row>(_ query: PostgresQuery.Typed<Row>) async throws(PostgresError) -> PostgresRowStream<Row>
}

extension PostgresConnection: PostgresStreaming {}
extension PostgresTransaction: PostgresStreaming {}
extension PostgresClient: PostgresStreaming {}

extension PostgresStreaming {
    /// Rows as tuples; one element is just the element.
    @inlinable
    public func stream<each Column: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (repeat each Column).Type
    ) async throws(PostgresError) -> PostgresRowStream<(repeat each Column)> {
        try await stream(query.as(columns))
    }

    /// Rows as a type that reads itself by column name.
    @inlinable
    public func stream<Row: PostgresRowDecodable>(
        _ query: PostgresQuery, as row: Row.Type
    ) async throws(PostgresError) -> PostgresRowStream<Row> {
        try await stream(query.as(row))
    }
}
