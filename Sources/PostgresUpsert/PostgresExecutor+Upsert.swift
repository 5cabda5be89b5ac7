public import Postgres

extension PostgresExecutor {
    /// Inserts a row, or overwrites the one of the same key, atomically.
    ///
    /// SQL: `INSERT INTO "page_stats" ("path", "hits", "fetched_at") VALUES ($1, $2, now()) ON CONFLICT ("path") DO UPDATE SET
    /// "hits" = EXCLUDED."hits", "fetched_at" = now()`
    ///
    /// - Returns: how many rows were written, by the command tag.
    @inlinable @discardableResult
    public func upsert<Row: PostgresTable>(_ row: Row) async throws(PostgresError) -> Int {
        let definition = Row.table.upsert
        do throws(PostgresError) {
            return try await execute(try definition.oneRow.query(row))
        } catch {
            throw definition.explain(error)
        }
    }

    /// Inserts rows, or overwrites those of the same keys, atomically and in one statement. Two rows of one key are an error.
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
    /// - Returns: how many rows were written, by the command tag.
    @inlinable @discardableResult
    public func upsert<Row>(_ upsert: Upsert<Row, Never>) async throws(PostgresError) -> Int {
        let definition = upsert.definition
        do throws(PostgresError) {
            switch upsert.rows {
            case .one(let row): return try await execute(try definition.oneRow.query(row))
            case .many, .none:
                guard let query = try upsert.bindUnlessEmpty() else { return 0 }
                return try await execute(query)
            }
        } catch {
            throw definition.explain(error)
        }
    }

    /// Runs an upsert, and tells what became of each row, in the order in which they were given. Without rows nothing is sent.
    @discardableResult
    public func upsert<Row, Output>(
        _ upsert: Upsert<Row, Output>
    ) async throws(PostgresError) -> UpsertResult<Output> {
        var sent = 1
        if case .many(let rows) = upsert.rows { sent = rows.count }
        if sent == 0, upsert.error == nil { return UpsertResult(rows: [], affected: 0) }
        do throws(PostgresError) {
            let batch = try upsert.bind()
            let answers = try await query(batch.query).all()
            return try upsert.result(answers, sent: sent, order: batch.order)
        } catch {
            throw upsert.definition.explain(error)
        }
    }
}
