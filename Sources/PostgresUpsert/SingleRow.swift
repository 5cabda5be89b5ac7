public import Postgres

extension PostgresExecutor {
    /// The one row of a table that holds no more than one: `id = 1`.
    ///
    /// ```swift
    /// try await db.upsert(singleRowOf: "auth_token", set: ("token", token), ("expires_at", expiry))
    /// // INSERT INTO "auth_token" ("id", "token", "expires_at", "fetched_at") VALUES ($1, $2, $3, now())
    /// // ON CONFLICT ("id") DO UPDATE SET "token" = EXCLUDED."token", "expires_at" = EXCLUDED."expires_at", "fetched_at" = now()
    /// ```
    /// The table is one such as `CREATE TABLE auth_token (id int PRIMARY KEY CHECK (id = 1), ...)`; the CHECK is what keeps it at
    /// one row. Of another key it is ``upsert(into:schema:key:set:touch:)``, and of a declared table an upsert whose key is constant:
    /// `var id = 1`.
    ///
    /// - Parameters:
    ///   - table: the table's name, without quotes; a dot in it is part of the name.
    ///   - schema: its schema; nil leaves the choice to `search_path`.
    ///   - values: columns and their values, at least one unless there is a column to touch.
    ///   - touch: the column that is set to `now()` on insert and on update; nil for none.
    /// - Returns: how many rows were written, by the command tag.
    /// - Throws: as ``upsert(into:schema:key:set:touch:)``.
    @discardableResult
    public func upsert<each Value: PostgresEncodable>(
        singleRowOf table: String, schema: String? = nil, set values: repeat (String, each Value),
        touch: String? = "fetched_at"
    ) async throws(PostgresError) -> Int {
        try await upsert(into: table, schema: schema, key: ("id", 1), set: repeat each values, touch: touch)
    }
}

extension PostgresBlockingExecutor {
    /// The one row of a table that holds no more than one: as the form of ``Postgres/PostgresExecutor``.
    ///
    /// - Returns: how many rows were written, by the command tag.
    @discardableResult
    public func upsert<each Value: PostgresEncodable>(
        singleRowOf table: String, schema: String? = nil, set values: repeat (String, each Value),
        touch: String? = "fetched_at"
    ) throws(PostgresError) -> Int {
        try upsert(into: table, schema: schema, key: ("id", 1), set: repeat each values, touch: touch)
    }
}
