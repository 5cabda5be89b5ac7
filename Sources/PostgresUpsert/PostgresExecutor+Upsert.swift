public import Postgres

extension PostgresExecutor {
    /// Inserts a row, or overwrites the one of the same key, atomically.
    ///
    /// SQL: `INSERT INTO "page_stats" ("path", "hits", "fetched_at") VALUES ($1, $2, now()) ON CONFLICT ("path") DO UPDATE SET
    /// "hits" = EXCLUDED."hits", "fetched_at" = now()`
    ///
    /// Outside of a transaction it is run again after a deadlock or a serialization failure, as ``Upsert/retry(_:)`` says.
    ///
    /// - Returns: how many rows were written, by the command tag.
    @inlinable @discardableResult
    public func upsert<Row: PostgresTable>(_ row: Row) async throws(PostgresError) -> Int {
        let definition = Row.table.upsert
        do throws(PostgresError) {
            return try await execute(try definition.oneRow.query(row))
        } catch {
            return try await runAgain(Upsert(row), after: error)
        }
    }

    /// Inserts rows, or overwrites those of the same keys, atomically. Two rows of one key are an error.
    ///
    /// SQL: `INSERT INTO "page_stats" ("path", "hits", "fetched_at") SELECT *, now() FROM unnest($1::text[], $2::int8[]) ON
    /// CONFLICT ("path") DO UPDATE SET "hits" = EXCLUDED."hits", "fetched_at" = now()`
    ///
    /// - Returns: how many rows were written, by the command tag.
    @discardableResult
    public func upsert<Row: PostgresTable>(_ rows: some Collection<Row>) async throws(PostgresError) -> Int {
        try await upsert(Upsert(rows))
    }

    /// Runs an upsert that asks for nothing back. Without rows nothing is sent.
    ///
    /// Many rows are one statement, or several in one transaction and one round trip: see ``Upsert/chunks(rows:bytes:)`` and
    /// ``Upsert/strategy(_:)``. One row or many, outside of a transaction they are run again after a deadlock or a serialization
    /// failure, as ``Upsert/retry(_:)`` says.
    ///
    /// - Returns: how many rows were written, by the command tag.
    @inlinable @discardableResult
    public func upsert<Row>(_ upsert: Upsert<Row, Never>) async throws(PostgresError) -> Int {
        let definition = upsert.definition
        do throws(PostgresError) {
            switch upsert.rows {
            case .one(let row): return try await execute(try definition.oneRow.query(row))
            case .many, .none: return try await upsertBatch(upsert).affected
            }
        } catch {
            return try await runAgain(upsert, after: error)
        }
    }

    /// Runs an upsert, and tells what became of each row, in the order in which they were given. Without rows nothing is sent.
    ///
    /// The first time that outcomes of a table are asked for, the server is asked for its version and the table's kind, in a round
    /// trip of its own: see ``prepareOutcomes(of:)``.
    @discardableResult
    public func upsert<Row, Output>(
        _ upsert: Upsert<Row, Output>
    ) async throws(PostgresError) -> UpsertResult<Output> {
        let definition = upsert.definition
        let wasKnown = definition.layout.memory.facts != nil
        do throws(PostgresError) {
            if let empty = try UpsertResult(emptyOf: upsert) { return empty }
            try await prepareUnlessKnown(upsert)
            return try await results(upsert)
        } catch {
            // Whoever is in a transaction has to run that again.
            guard definition.reconsiders(error, wasKnown: wasKnown), commitsByItself else {
                throw await explained(error, definition)
            }
        }
        do throws(PostgresError) {
            try await prepareUnlessKnown(upsert)
            return try await results(upsert)
        } catch {
            throw await explained(error, definition)
        }
    }

    /// Learns what outcomes are told by, if they are wanted and it is not known.
    func prepareUnlessKnown<Row, Output>(_ upsert: Upsert<Row, Output>) async throws(PostgresError) {
        let definition = upsert.definition
        guard definition.shape.needsEvidence, definition.layout.memory.facts == nil else { return }
        if let failure = upsert.failure { throw failure }
        try await prepareOutcomes(of: Row.self)
    }

    /// Learns how outcomes of a table are told on this server: `old.tableoid IS NULL` since PostgreSQL 18, before that `xmax = 0`,
    /// and on partitioned tables, which have no xmax then, and on views, a setting of the transaction that DO UPDATE changes. Each
    /// is exact.
    ///
    /// Running an upsert that asks for outcomes does it by itself when it is first run. Needed only before the first of a table on
    /// which `xmax` does not exist joins a pipeline by its ``Upsert/query``; it is remembered for all upserts of the table.
    ///
    /// SQL: `SELECT current_setting('server_version_num')::int4, (SELECT relkind::text FROM pg_class WHERE oid =
    /// to_regclass($1))`
    public func prepareOutcomes<Row: PostgresTable>(of table: Row.Type) async throws(PostgresError) {
        let layout = table.table.layout
        if let failure = layout.failure { throw failure }
        let facts = try await query(TableFacts.query(of: layout.quotedName)).one()
        // A table that is not there yet may be of any kind.
        if facts.kind != 0 { layout.memory.facts = facts }
    }
}
