public import Postgres

/// Upserts of the blocking API. One row is sent here; whatever takes several steps is that of the asynchronous API, run on the calling
/// thread.
extension PostgresBlockingExecutor {
    /// Inserts a row, or overwrites the one of the same key, atomically: as the form of ``Postgres/PostgresExecutor``.
    ///
    /// - Returns: how many rows were written, by the command tag.
    @inlinable @discardableResult
    public func upsert<Row: PostgresTable>(_ row: Row) throws(PostgresError) -> Int {
        let definition = Row.table.upsert
        do throws(PostgresError) {
            return try execute(try definition.oneRow.query(row))
        } catch {
            return try runAgain(Upsert(row), after: error)
        }
    }

    /// Inserts rows, or overwrites those of the same keys, atomically. Two rows of one key are an error.
    ///
    /// - Returns: how many rows were written, by the command tag.
    @discardableResult
    public func upsert<Row: PostgresTable>(_ rows: some Collection<Row>) throws(PostgresError) -> Int {
        try upsert(Upsert(rows))
    }

    /// Runs an upsert that asks for nothing back. Without rows nothing is sent.
    ///
    /// - Returns: how many rows were written, by the command tag.
    @inlinable @discardableResult
    public func upsert<Row>(_ upsert: Upsert<Row, Never>) throws(PostgresError) -> Int {
        guard case .one(let row) = upsert.rows else { return try upsertRows(upsert) }
        let definition = upsert.definition
        do throws(PostgresError) {
            return try execute(try definition.oneRow.query(row))
        } catch {
            return try runAgain(upsert, after: error)
        }
    }

    @usableFromInline @inline(never)
    func runAgain<Row>(_ upsert: Upsert<Row, Never>, after failure: PostgresError) throws(PostgresError) -> Int {
        let isFinal = !failure.mayRunAgain && !upsert.definition.mayReconsider(failure) && !failure.isOfUnknownNullKey
        if isFinal { throw explained(failure, upsert.definition) }
        return try wait { (db) async throws(PostgresError) -> Int in try await db.runAgain(upsert, after: failure) }
    }

    @usableFromInline
    func upsertRows<Row>(_ upsert: Upsert<Row, Never>) throws(PostgresError) -> Int {
        try wait { (db) async throws(PostgresError) -> Int in try await db.upsert(upsert) }
    }

    /// Runs an upsert, and tells what became of each row, in the order in which they were given. Without rows nothing is sent.
    ///
    /// The first time that outcomes of a table are asked for, the server is asked for its version and the table's kind, in a round
    /// trip of its own: see ``prepareOutcomes(of:)``.
    @discardableResult
    public func upsert<Row, Output>(_ upsert: Upsert<Row, Output>) throws(PostgresError) -> UpsertResult<Output> {
        if let result = try upsertOne(upsert) { return result }
        return try wait { (db) async throws(PostgresError) -> UpsertResult<Output> in try await db.upsert(upsert) }
    }

    /// One row in one round trip.
    ///
    /// - Returns: nil if there is more to do than that, and nothing has taken effect.
    private func upsertOne<Row, Output>(_ upsert: Upsert<Row, Output>) throws(PostgresError) -> UpsertResult<Output>? {
        let definition = upsert.definition
        guard case .one = upsert.rows, !definition.shape.needsEvidence || definition.layout.memory.facts != nil else {
            return nil
        }
        let failure: PostgresError
        do throws(PostgresError) {
            let statement = try upsert.bind()
            let answers = try query(statement.query).all()
            // Neither inserted nor found: another came first.
            if answers.isEmpty, definition.shape.action == .select { return nil }
            let (outputs, affected) = try upsert.read(answers, of: statement)
            return UpsertResult(rows: outputs, affected: affected)
        } catch { failure = error }
        if failure.isOfUnknownNullKey { return nil }
        if failure.mayRunAgain {
            return try wait { (db) async throws(PostgresError) -> UpsertResult<Output> in
                do throws(PostgresError) {
                    return try await db.results(upsert, after: failure)
                } catch {
                    throw await db.explained(error, definition)
                }
            }
        }
        // Whoever is in a transaction has to run that again.
        guard definition.reconsiders(failure, wasKnown: true), self is PostgresBlockingConnection else {
            throw explained(failure, definition)
        }
        return nil
    }

    /// Runs an upsert so that an error takes no more with it than `isolation` says, and tells what became of the others: as the form
    /// of ``Postgres/PostgresExecutor``.
    public func upsert<Row, Output>(
        _ upsert: Upsert<Row, Output>, isolation: UpsertIsolation
    ) throws(PostgresError) -> UpsertReport<Output> {
        try wait { (db) async throws(PostgresError) -> UpsertReport<Output> in
            try await db.upsert(upsert, isolation: isolation)
        }
    }

    /// One key, some data: without a declaration of the table. As the form of ``Postgres/PostgresExecutor``.
    ///
    /// - Returns: how many rows were written, by the command tag.
    @discardableResult
    public func upsert<Key: PostgresEncodable, each Value: PostgresEncodable>(
        into table: String, schema: String? = nil, key: (String, Key), set values: repeat (String, each Value),
        touch: String? = "fetched_at"
    ) throws(PostgresError) -> Int {
        let query = try keyedUpsert(into: table, schema: schema, key: key, set: repeat each values, touch: touch)
        do throws(PostgresError) { return try execute(query) } catch {
            let failure = error
            let keyed = KeyedTable(schema: schema, name: table, key: key.0)
            guard failure.mayRunAgain || keyed.lacksIndex(failure) else { throw keyed.explain(failure) }
            return try wait { (db) async throws(PostgresError) -> Int in
                try await db.runAgain(query, keyed, after: failure)
            }
        }
    }

    /// Learns how outcomes of a table are told on this server: as the form of ``Postgres/PostgresExecutor``.
    public func prepareOutcomes<Row: PostgresTable>(of table: Row.Type) throws(PostgresError) {
        try wait { (db) async throws(PostgresError) in try await db.prepareOutcomes(of: table) }
    }

    /// Learns whether NULL conflicts by the index of an upsert: as the form of ``Postgres/PostgresExecutor``.
    public func prepareNullKeys<Row, Output>(of upsert: Upsert<Row, Output>) throws(PostgresError) {
        try wait { (db) async throws(PostgresError) in try await db.prepareNullKeys(of: upsert) }
    }

    @usableFromInline
    func explained<Row: PostgresTable>(_ error: PostgresError, _ definition: UpsertDefinition<Row>) -> PostgresError {
        guard definition.shape.lacksIndex(error) else { return definition.explain(error) }
        do throws(PostgresError) {
            return try wait { (db) async throws(PostgresError) in await db.explained(error, definition) }
        } catch { return definition.explain(error) }
    }
}
