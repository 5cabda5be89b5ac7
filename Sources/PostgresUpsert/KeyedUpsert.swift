public import Postgres

extension PostgresExecutor {
    /// One key, some data: without a declaration of the table.
    ///
    /// ```swift
    /// try await db.upsert(into: "strava_stats", key: ("stats_type", "totals"), set: ("data", json))
    /// // INSERT INTO "strava_stats" ("stats_type", "data", "fetched_at") VALUES ($1, $2, now())
    /// // ON CONFLICT ("stats_type") DO UPDATE SET "data" = EXCLUDED."data", "fetched_at" = now()
    /// ```
    /// - Parameters:
    ///   - table: the table's name, without quotes; a dot in it is part of the name.
    ///   - schema: its schema; nil leaves the choice to `search_path`.
    ///   - key: the column that rows conflict by, which needs a unique index, and its value.
    ///   - values: columns and their values, at least one unless there is a column to touch.
    ///   - touch: the column that is set to `now()` on insert and on update; nil for none.
    ///
    /// Outside of a transaction it is run up to five times, if the server gives it up for a deadlock or a serialization failure.
    ///
    /// - Returns: how many rows were written, by the command tag.
    /// - Throws: if there is no unique index over the key, an error that names those that there are; if a row conflicts by another
    ///   one, an error that names that.
    @discardableResult
    public func upsert<Key: PostgresEncodable, each Value: PostgresEncodable>(
        into table: String, schema: String? = nil, key: (String, Key), set values: repeat (String, each Value),
        touch: String? = "fetched_at"
    ) async throws(PostgresError) -> Int {
        let query = try keyedUpsert(into: table, schema: schema, key: key, set: repeat each values, touch: touch)
        do throws(PostgresError) { return try await execute(query) } catch {
            return try await runAgain(query, KeyedTable(schema: schema, name: table, key: key.0), after: error)
        }
    }

    /// Runs it again, if it lost a deadlock or a serialization failure and is no part of a transaction.
    ///
    /// - Throws: the error in the words of an upsert.
    func runAgain(
        _ query: PostgresQuery, _ table: KeyedTable, after failure: PostgresError
    ) async throws(PostgresError) -> Int {
        do throws(PostgresError) {
            return try await retrying(.upTo(5), after: failure) { () async throws(PostgresError) -> Int in
                try await execute(query)
            }
        } catch {
            let explained = table.explain(error)
            guard table.lacksIndex(error), commitsByItself else { throw explained }
            throw await naming(explained, indexesOf: table.quotedName)
        }
    }
}

/// What the errors of such an upsert are about.
struct KeyedTable: Sendable {
    var schema: String?
    var name: String
    var key: String

    var quotedName: String { (schema.map { quoted($0) + "." } ?? "") + quoted(name) }

    func lacksIndex(_ error: PostgresError) -> Bool { error.sqlState == "42P10" }

    /// The same error, with what it means for an upsert.
    func explain(_ error: PostgresError) -> PostgresError {
        guard let server = error.server else { return error }
        switch server.sqlState {
        case "42P10": return error.ofMissingIndex(name, quotedName, key: quoted(key))
        case "23505" where server.table == nil || server.table == name: return error.ofOtherConstraint(server, name)
        default: return error
        }
    }
}

/// See `upsert(into:schema:key:set:touch:)`.
func keyedUpsert<Key: PostgresEncodable, each Value: PostgresEncodable>(
    into table: String, schema: String? = nil, key: (String, Key), set values: repeat (String, each Value),
    touch: String?
) throws(PostgresError) -> PostgresQuery {
    // The names, each behind a byte that UTF-8 does not know, are what the text depends on.
    var names: TextCache.Key = []
    names.reserveCapacity(64)
    func add(_ name: String) {
        names.append(0xFF)
        names.append(contentsOf: name.utf8)
    }
    add(table)
    add(key.0)
    var count = 1
    for value in repeat each values {
        add(value.0)
        count += 1
    }
    if let touch {
        names.append(0xFE)
        add(touch)
    }
    if let schema {
        names.append(0xFD)
        add(schema)
    }
    let text = try TextCache.shared.text(names) { () throws(PostgresError) -> String in
        var columns: [String] = []
        for value in repeat each values { columns.append(value.0) }
        return try keyedUpsertSQL(into: table, schema: schema, key: key.0, set: columns, touch: touch)
    }
    return PostgresQuery(text, parameterCount: count) { encoder in
        encoder.appendParameter(key.1)
        for value in repeat each values { encoder.appendParameter(value.1) }
    }
}

private func keyedUpsertSQL(
    into table: String, schema: String?, key: String, set columns: [String], touch: String?
) throws(PostgresError) -> String {
    for name in [schema, table, key, touch].compactMap({ $0 }) + columns {
        if let error = checkIdentifier(name) { throw error }
    }
    if columns.isEmpty, touch == nil { throw .upsert("the upsert into table \"\(table)\" has nothing to update") }
    let parameters = (1...columns.count + 1).map { "$\($0)" } + (touch == nil ? [] : ["now()"])
    let names = ([key] + columns + (touch.map { [$0] } ?? [])).map(quoted)
    let assignments =
        columns.map { "\(quoted($0)) = EXCLUDED.\(quoted($0))" } + (touch.map { ["\(quoted($0)) = now()"] } ?? [])
    return UpsertSQL<Never>.keyed(
        into: KeyedTable(schema: schema, name: table, key: key).quotedName, names: names, values: parameters,
        key: quoted(key), assignments: assignments)
}
