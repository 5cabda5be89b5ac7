public import Postgres

/// A unique index of a table, or an exclusion constraint, as the server sees it.
public struct UpsertUniqueIndex: Sendable, Hashable {
    /// The index's name.
    public var name: String
    /// Its columns and expressions, as SQL.
    public var keys: [String]
    /// The condition of a partial index, as SQL.
    public var predicate: String?
    /// The constraint that it belongs to; nil for an index that was made by itself.
    public var constraint: String?
    public var isPrimaryKey: Bool
    /// An exclusion constraint: `ON CONFLICT DO NOTHING` only.
    public var isExclusion: Bool
    /// A deferrable constraint cannot be a conflict target.
    public var isDeferrable: Bool
    /// Whether two NULLs are equal in it (PostgreSQL 15 and later). Otherwise a row whose key holds NULL never conflicts.
    public var nullsNotDistinct: Bool
    /// False while it is being built, or after that failed.
    public var isValid: Bool

    static func query(of quotedTable: String) -> PostgresQuery.Typed<UpsertUniqueIndex> {
        // By way of jsonb, as the column does not exist before 15.
        let query: PostgresQuery = """
            SELECT c.relname, ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) \
            FROM generate_series(1, i.indnkeyatts::int4) AS k ORDER BY k), \
            pg_get_expr(i.indpred, i.indrelid, true), o.conname, i.indisprimary, i.indisexclusion, NOT i.indimmediate, \
            coalesce((to_jsonb(i)->>'indnullsnotdistinct')::bool, false), i.indisvalid AND i.indisready \
            FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
            LEFT JOIN pg_catalog.pg_constraint AS o ON o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x') \
            WHERE i.indrelid = to_regclass(\(quotedTable)) AND (i.indisunique OR i.indisexclusion) \
            ORDER BY i.indisprimary DESC, c.relname
            """
        return PostgresQuery.Typed(query) { (row: PostgresRow) throws(PostgresError) -> UpsertUniqueIndex in
            UpsertUniqueIndex(
                name: try row.decode(0, as: String.self), keys: try row.decode(1, as: [String].self),
                predicate: try row.decode(2, as: String?.self), constraint: try row.decode(3, as: String?.self),
                isPrimaryKey: try row.decode(4, as: Bool.self), isExclusion: try row.decode(5, as: Bool.self),
                isDeferrable: try row.decode(6, as: Bool.self), nullsNotDistinct: try row.decode(7, as: Bool.self),
                isValid: try row.decode(8, as: Bool.self))
        }
    }
}

extension UpsertUniqueIndex {
    /// Whether it is over exactly these columns, in any order. The server quotes a name only where that is needed.
    func covers(_ names: [String]) -> Bool {
        guard keys.count == names.count else { return false }
        return names.allSatisfy { name in
            keys.contains { key in [name, quoted(name)].contains { $0.utf8.elementsEqual(key.utf8) } }
        }
    }
}

extension UpsertUniqueIndex: CustomStringConvertible {
    /// `"accounts_email_idx" (lower(email)) WHERE NOT closed`
    public var description: String {
        var text = "\(quoted(name)) (\(keys.joined(separator: ", ")))"
        if let predicate { text += " WHERE \(predicate)" }
        if isExclusion { text += ", an exclusion constraint" }
        if isDeferrable { text += ", deferrable" }
        if nullsNotDistinct { text += ", nulls not distinct" }
        if !isValid { text += ", not valid" }
        return text
    }
}

extension PostgresExecutor {
    /// What rows of a table can conflict by: its unique indexes, the primary key first, and its exclusion constraints.
    ///
    /// SQL: a query on `pg_index`.
    public func uniqueIndexes<Row: PostgresTable>(
        of table: Row.Type
    ) async throws(PostgresError) -> [UpsertUniqueIndex] {
        if let failure = table.table.error { throw failure }
        return try await query(UpsertUniqueIndex.query(of: table.table.layout.quotedName)).all()
    }

    /// The same error in the words of an upsert; where there is no such unique index or constraint, with those that there are.
    @usableFromInline
    func explained<Row: PostgresTable>(
        _ error: PostgresError, _ definition: UpsertDefinition<Row>
    ) async -> PostgresError { await explained([error], definition).first ?? error }

    /// The same of several errors. The server is asked once.
    func explained<Row: PostgresTable>(
        _ errors: [PostgresError], _ definition: UpsertDefinition<Row>
    ) async -> [PostgresError] {
        // In a transaction nothing can be asked any more.
        guard commitsByItself, errors.contains(where: definition.shape.lacksIndex),
            let indexes = await indexes(of: definition.layout.quotedName)
        else { return errors.map(definition.explain) }
        return errors.map { error in
            let explained = definition.explain(error, indexes)
            return definition.shape.lacksIndex(error) ? explained.naming(indexes) : explained
        }
    }

    /// The error that there is no such index, with those that there are.
    func naming(_ error: PostgresError, indexesOf quotedTable: String) async -> PostgresError {
        guard let indexes = await indexes(of: quotedTable) else { return error }
        return error.naming(indexes)
    }

    private func indexes(of quotedTable: String) async -> [UpsertUniqueIndex]? {
        try? await query(UpsertUniqueIndex.query(of: quotedTable)).all()
    }
}

extension PostgresError {
    fileprivate func naming(_ indexes: [UpsertUniqueIndex]) -> PostgresError {
        let found =
            indexes.isEmpty ? "it has no unique index" : "it has " + indexes.map(\.description).joined(separator: "; ")
        return with(message: "\(message); \(found)")
    }
}
