extension PostgresBlockingConnection {
    /// Rows without a type, read by column name or position.
    @inlinable
    public func cursor(
        _ query: PostgresQuery, fetching count: Int = 1000, withHold: Bool = false
    ) throws(PostgresError) -> PostgresBlockingCursor<PostgresRow> {
        try cursor(query.as(PostgresRow.self), fetching: count, withHold: withHold)
    }

    /// Rows as tuples; one element is just the element.
    @inlinable
    public func cursor<each Column: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (repeat each Column).Type, fetching count: Int = 1000,
        withHold: Bool = false
    ) throws(PostgresError) -> PostgresBlockingCursor<(repeat each Column)> {
        try cursor(query.as(columns), fetching: count, withHold: withHold)
    }

    /// Rows as a type that reads itself by column name.
    @inlinable
    public func cursor<Row: PostgresRowDecodable>(
        _ query: PostgresQuery, as row: Row.Type, fetching count: Int = 1000, withHold: Bool = false
    ) throws(PostgresError) -> PostgresBlockingCursor<Row> {
        try cursor(query.as(row), fetching: count, withHold: withHold)
    }
}

extension PostgresBlockingTransaction {
    /// Rows without a type, read by column name or position.
    @inlinable
    public func cursor(
        _ query: PostgresQuery, fetching count: Int = 1000
    ) throws(PostgresError) -> PostgresBlockingCursor<PostgresRow> {
        try cursor(query.as(PostgresRow.self), fetching: count)
    }

    /// Rows as tuples; one element is just the element.
    @inlinable
    public func cursor<each Column: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (repeat each Column).Type, fetching count: Int = 1000
    ) throws(PostgresError) -> PostgresBlockingCursor<(repeat each Column)> {
        try cursor(query.as(columns), fetching: count)
    }

    /// Rows as a type that reads itself by column name.
    @inlinable
    public func cursor<Row: PostgresRowDecodable>(
        _ query: PostgresQuery, as row: Row.Type, fetching count: Int = 1000
    ) throws(PostgresError) -> PostgresBlockingCursor<Row> {
        try cursor(query.as(row), fetching: count)
    }
}
