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

    /// One key, some data: without a declaration of the table.
    ///
    /// ```swift
    /// try await db.upsert(into: "strava_stats", key: ("stats_type", "totals"), set: ("data", json))
    /// // INSERT INTO "strava_stats" ("stats_type", "data", "fetched_at") VALUES ($1, $2, now())
    /// // ON CONFLICT ("stats_type") DO UPDATE SET "data" = EXCLUDED."data", "fetched_at" = now()
    /// ```
    /// - Parameters:
    ///   - table: the table's name, without quotes.
    ///   - key: the column that rows conflict by, which needs a unique index, and its value.
    ///   - values: columns and their values, at least one unless there is a column to touch.
    ///   - touch: the column that is set to `now()` on insert and on update; nil for none.
    /// - Returns: how many rows were written, by the command tag.
    @discardableResult
    public func upsert<Key: PostgresEncodable, each Value: PostgresEncodable>(
        into table: String, key: (String, Key), set values: repeat (String, each Value), touch: String? = "fetched_at"
    ) async throws(PostgresError) -> Int {
        try await execute(keyedUpsert(into: table, key: key, set: repeat each values, touch: touch))
    }
}

/// See `upsert(into:key:set:touch:)`.
func keyedUpsert<Key: PostgresEncodable, each Value: PostgresEncodable>(
    into table: String, key: (String, Key), set values: repeat (String, each Value), touch: String?
) -> PostgresQuery {
    var names: [PostgresQuery] = ["\(identifier: key.0)"]
    var cells: [PostgresQuery] = ["\(key.1)"]
    var assignments: [PostgresQuery] = []
    for value in repeat each values {
        names.append("\(identifier: value.0)")
        cells.append("\(value.1)")
        assignments.append("\(identifier: value.0) = EXCLUDED.\(identifier: value.0)")
    }
    if let touch {
        names.append("\(identifier: touch)")
        cells.append("now()")
        assignments.append("\(identifier: touch) = now()")
    }
    if assignments.isEmpty {
        return .failing(.upsert("the upsert into table \"\(table)\" has nothing to update"))
    }
    return """
        INSERT INTO \(identifier: table) (\(list: names)) VALUES (\(list: cells)) \
        ON CONFLICT (\(identifier: key.0)) DO UPDATE SET \(list: assignments)
        """
}
