/// What can read the rows of a statement as they are wanted, without `async`: a blocking connection or a transaction on one.
public protocol PostgresBlockingStreaming: PostgresBlockingExecutor {
    /// Runs a statement and reads its rows as they are wanted, with back-pressure: see ``PostgresRowStream``.
    func stream<Row>(_ query: PostgresQuery.Typed<Row>) throws(PostgresError) -> PostgresBlockingRowStream<Row>
}

extension PostgresBlockingConnection: PostgresBlockingStreaming {}
extension PostgresBlockingTransaction: PostgresBlockingStreaming {}

extension PostgresBlockingStreaming {
    /// Rows without a type, read by column name or position.
    @inlinable
    public func stream(_ query: PostgresQuery) throws(PostgresError) -> PostgresBlockingRowStream<PostgresRow> {
        try stream(query.as(PostgresRow.self))
    }

    /// Rows as tuples; one element is just the element.
    @inlinable
    public func stream<each Column: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (repeat each Column).Type
    ) throws(PostgresError) -> PostgresBlockingRowStream<(repeat each Column)> {
        try stream(query.as(columns))
    }

    /// Rows as a type that reads itself by column name.
    @inlinable
    public func stream<Row: PostgresRowDecodable>(
        _ query: PostgresQuery, as row: Row.Type
    ) throws(PostgresError) -> PostgresBlockingRowStream<Row> {
        try stream(query.as(row))
    }
}
