import PostgresProtocol

extension PostgresConnection {
    /// Runs a statement and buffers its rows, up to `maximumResultBytes`.
    ///
    /// Cancelling the task ends the wait, and not the statement, whose result is thrown away: unless
    /// ``PostgresConfiguration/cancellation`` is `.cancelRequest`; then the server is asked to stop it, and this returns when it
    /// has ended, stopped or not.
    @inlinable
    public func query<Row>(_ query: PostgresQuery.Typed<Row>) async throws(PostgresError) -> PostgresRows<Row> {
        PostgresRows(reply: try await perform(query.query, query.formats), decode: query.decode)
    }

    /// Runs a statement, and tells how many rows it inserted, updated, deleted or selected. Rows that it returns are read and let
    /// go; `maximumResultBytes` holds for them, too.
    @discardableResult
    public func execute(_ query: PostgresQuery) async throws(PostgresError) -> Int {
        try await perform(query, .text).affected
    }

    @usableFromInline
    func perform(_ query: PostgresQuery, _ formats: ResultFormats) async throws(PostgresError) -> Reply {
        if core.observation != nil { return try await core.performObserved(query, formats) }
        let attempt = try core.attempt(query, formats, .cached)
        if case .done(let reply) = attempt, reply.error == nil { return reply }
        return try await core.finish(query, formats, attempt)
    }
}

extension PostgresConnection {
    /// Runs the statements of a pipeline in one flight. Each holds its own outcome.
    ///
    /// Statements refused for a reason that is this library's own (a prepared statement that the server lost, a type it could not
    /// infer) are sent once more, if nothing of them ran and no transaction is open; an atomic pipeline as a whole, if it committed
    /// nothing on its way.
    public func run(_ pipeline: PostgresPipeline) async throws(PostgresError) -> PostgresPipeline.Results {
        PostgresPipeline.Results(replies: try await core.run(pipeline, connection: self))
    }

    /// Runs several statements separated by semicolons by the simple query protocol (manual, "Simple Query"); without BEGIN they are
    /// one transaction. All values come as text. Takes no parameters; for a text from a file write `"\(unsafeSQL: text)"`.
    ///
    /// - Returns: one result for each statement that has a command tag: empty statements and comments have none.
    /// - Throws: the error of the first statement that fails, with its number among those that have a result. Nothing behind it
    ///   is run, and what the script did before is rolled back, as far as a `COMMIT` in it has not made it lasting.
    @discardableResult
    public func script(_ sql: PostgresQuery) async throws(PostgresError) -> [PostgresRows<PostgresRow>] {
        try await core.scriptObserved(sql).map { PostgresRows(reply: $0) { (row) throws(PostgresError) in row } }
    }

    /// Prepares a statement ahead of its first use, and tells its types. The values in the query are not used.
    @discardableResult
    public func prepare(_ query: PostgresQuery) async throws(PostgresError) -> PostgresStatement {
        PostgresStatement(
            try await core.observed(.prepare, query: query) {
                () async throws(PostgresError) -> StatementDescription in try await core.prepare(query)
            })
    }
}

extension PostgresConnection {
    /// Runs a statement and reads its rows as they are wanted, with back-pressure: see ``PostgresRowStream``.
    @inlinable
    public func stream<Row>(_ query: PostgresQuery.Typed<Row>) async throws(PostgresError) -> PostgresRowStream<Row> {
        PostgresRowStream(handle: try await stream(query.query, query.formats), decode: query.decode)
    }

    @usableFromInline
    func stream(_ query: PostgresQuery, _ formats: ResultFormats) async throws(PostgresError) -> RowStreamHandle {
        RowStreamHandle(stream: try await core.streamObserved(query, formats), core: core, connection: self)
    }
}

/// What the server knows of a prepared statement.
public struct PostgresStatement: Sendable {
    /// The parameters' types, inferred or declared.
    public let parameterTypes: [PostgresType]
    /// The columns of its rows; empty for a statement without rows.
    public let columns: PostgresColumns

    init(_ description: StatementDescription) {
        parameterTypes = description.parameterTypes.map { PostgresType(oid: $0) }
        columns = description.rowDescription.map { PostgresColumns($0, .text) } ?? .none
    }
}
