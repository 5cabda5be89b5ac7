import PostgresTransport

/// What can run a query without `async`: a blocking connection or a transaction on one. See ``PostgresExecutor``.
public protocol PostgresBlockingExecutor: Sendable {
    /// As ``PostgresExecutor/query(_:)``.
    func query<Row>(_ query: PostgresQuery.Typed<Row>) throws(PostgresError) -> PostgresRows<Row>
    /// As ``PostgresExecutor/execute(_:)``.
    @discardableResult
    func execute(_ query: PostgresQuery) throws(PostgresError) -> Int
    /// As ``PostgresExecutor/run(_:)``.
    func run(_ pipeline: PostgresPipeline) throws(PostgresError) -> PostgresPipeline.Results

    /// What does the same in asynchronous code.
    associatedtype Asynchronous: PostgresExecutor
    /// The same connection, or transaction, for asynchronous code: for ``wait(for:)``, or a task of its own.
    var asynchronous: Asynchronous { get }
}

extension PostgresBlockingExecutor {
    /// Rows without a type, read by column name or position.
    @inlinable
    public func query(_ query: PostgresQuery) throws(PostgresError) -> PostgresRows<PostgresRow> {
        try self.query(query.as(PostgresRow.self))
    }

    /// Rows as tuples; one element is just the element.
    @inlinable
    public func query<each Column: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (repeat each Column).Type
    ) throws(PostgresError) -> PostgresRows<(repeat each Column)> {
        try self.query(query.as(columns))
    }

    /// Rows as a type that reads itself by column name.
    @inlinable
    public func query<Row: PostgresRowDecodable>(
        _ query: PostgresQuery, as row: Row.Type
    ) throws(PostgresError) -> PostgresRows<Row> {
        try self.query(query.as(row))
    }

    /// Typed queries in one round trip, each with its own result.
    ///
    /// ```swift
    /// let (users, total) = try db.pipeline(allUsers, userCount)
    /// ```
    @inlinable
    public func pipeline<each Row>(
        _ queries: repeat PostgresQuery.Typed<each Row>
    ) throws(PostgresError) -> (repeat PostgresRows<each Row>) {
        try pipeline(.isolated, repeat each queries)
    }

    /// Typed queries in one round trip, each its own transaction (`.isolated`) or all of them one (`.atomic`).
    @inlinable
    public func pipeline<each Row>(
        _ sync: PostgresPipeline.Sync, _ queries: repeat PostgresQuery.Typed<each Row>
    ) throws(PostgresError) -> (repeat PostgresRows<each Row>) {
        var pipeline = PostgresPipeline(sync)
        let tickets = (repeat pipeline.add(each queries))
        let results = try run(pipeline)
        return (repeat results[each tickets])
    }

    /// Runs asynchronous code on the calling thread, and waits for its end: what has no blocking form of its own.
    ///
    /// ```swift
    /// let indexes = try db.wait { db async throws(PostgresError) in try await db.uniqueIndexes(of: Page.self) }
    /// ```
    /// Timeouts, and the transactions whose bodies the thread is in, hold inside of it. It must not wait for the main actor if it is
    /// called on the main thread, nor for anything else that the calling thread would have to do.
    ///
    /// - Throws: what `body` throws; `unsupported` on the thread of the event loop.
    public func wait<Success>(
        for body: @escaping (Asynchronous) async throws(PostgresError) -> Success
    ) throws(PostgresError) -> Success {
        if EventLoop.shared.isCurrent { throw .blockingOnTheLoop }
        let asynchronous = asynchronous
        return try CallingThread.wait { () async throws(PostgresError) -> Success in try await body(asynchronous) }
    }
}

extension PostgresError {
    static var blockingOnTheLoop: PostgresError {
        PostgresError(
            code: .unsupported, message: "a blocking call on the thread of the event loop would wait for itself",
            hint: "use PostgresConnection there")
    }
}

extension PostgresBlockingConnection: PostgresBlockingExecutor {}

extension PostgresBlockingTransaction: PostgresBlockingExecutor {
    public var asynchronous: PostgresTransaction { PostgresTransaction(flow, writer: writer, isNested: isNested) }
}
