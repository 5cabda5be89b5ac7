public import Postgres

extension PostgresExecutor {
    /// Inserts a row, or overwrites the one of the same key, atomically.
    ///
    /// SQL: `INSERT INTO "page_stats" ("path", "hits", "fetched_at") VALUES ($1, $2, now()) ON CONFLICT ("path") DO UPDATE SET
    /// "hits" = EXCLUDED."hits", "fetched_at" = now()`
    ///
    /// - Returns: how many rows were written, by the command tag.
    @discardableResult
    public func upsert<Row: PostgresTable>(_ row: Row) async throws(PostgresError) -> Int {
        let definition = Row.table.upsert
        do throws(PostgresError) {
            return try await execute(definition.oneRow.query(row))
        } catch {
            throw explain(error, definition.layout, definition.shape)
        }
    }

    /// Runs an upsert that asks for nothing back.
    ///
    /// - Returns: how many rows were written, by the command tag.
    @discardableResult
    public func upsert<Row>(_ upsert: Upsert<Row, Never>) async throws(PostgresError) -> Int {
        do throws(PostgresError) {
            switch upsert.rows {
            case .one(let row): return try await execute(upsert.definition.oneRow.query(row))
            case .many, .none: return 0
            }
        } catch {
            throw explain(error, upsert.definition.layout, upsert.definition.shape)
        }
    }
}
