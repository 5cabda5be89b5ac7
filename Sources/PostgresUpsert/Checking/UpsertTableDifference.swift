public import Postgres

/// One way in which a table is not as its declaration says.
public struct UpsertTableDifference: Sendable, Hashable {
    /// What differs.
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// There is no such table.
        case noTable
        /// There is no such column.
        case noColumn
        /// Values of the property's type cannot be written to the column, or not in a batch.
        case type
        /// NULL is allowed on one side only.
        case nullability
        /// The server computes or numbers it, and the declaration does not say so; or the other way round.
        case generated
        /// A column that must have a value, has no default, and is not declared.
        case undeclaredColumn
        /// Nothing that rows could conflict by.
        case noUniqueIndex
        /// A key that may hold NULL, by an index in which NULL never conflicts. Not looked for where the upsert rejects NULL keys.
        case distinctNulls
    }

    public let kind: Kind
    /// The column's name; nil when it is about the table.
    public let column: String?
    /// What differs, in words.
    public let message: String
    /// The DDL that would make the table as it is declared; nil when only the declaration can be changed.
    public let ddl: String?
}

extension UpsertTableDifference: CustomStringConvertible {
    public var description: String { ddl.map { "\(message); \($0)" } ?? message }
}

extension PostgresExecutor {
    /// Compares a table with its declaration: columns, types, NULL, what the server computes, and a unique index for each conflict
    /// target. For a test, or the start of a program.
    ///
    /// ```swift
    /// let differences = try await db.check(PageStats.self, PageStats.bump)
    /// for difference in differences { print(difference) }
    /// // table "page_stats" has no unique index over ("path"); ALTER TABLE "page_stats" ADD PRIMARY KEY ("path")
    /// ```
    /// Conflict targets that are index expressions are not compared: the server alone can tell.
    ///
    /// SQL: queries on `pg_attribute` and `pg_index`.
    ///
    /// - Parameter upserts: whose conflict targets are to be looked at, besides the declared primary key.
    /// - Returns: what differs; empty when nothing does.
    public func check<Row: PostgresTable, each Output>(
        _ table: Row.Type, _ upserts: repeat Upsert<Row, each Output>
    ) async throws(PostgresError) -> [UpsertTableDifference] {
        let layout = table.table.layout
        if let failure = layout.failure { throw failure }
        var targets: [UpsertShape] = []
        for upsert in repeat each upserts {
            if let error = upsert.error { throw error }
            targets.append(upsert.definition.shape)
        }
        let hasKey = layout.columns.contains { $0.options.contains(.primaryKey) }
        if hasKey { targets.insert(UpsertShape(), at: 0) }
        let (exists, version) = try await query(
            "SELECT to_regclass(\(layout.quotedName)) IS NOT NULL, current_setting('server_version_num')::int4",
            as: (Bool, Int).self
        ).one()
        let comparison = TableComparison(
            layout: layout, live: exists ? try await query(LiveColumn.query(of: layout)).all() : nil,
            indexes: exists ? try await uniqueIndexes(of: table) : [], knowsNullsNotDistinct: version >= 150_000)
        return comparison.differences(targets)
    }
}
