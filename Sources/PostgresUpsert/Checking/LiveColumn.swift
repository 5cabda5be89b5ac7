import Postgres

/// A column as the server has it.
struct LiveColumn: Sendable, Hashable {
    var name: String
    /// `character varying(20)`
    var type: String
    var isNotNull = false
    /// A default, an identity or a generation expression: it need not be sent.
    var hasDefault = false
    /// `GENERATED ALWAYS AS (...) STORED`
    var isGenerated = false
    /// `GENERATED ALWAYS AS IDENTITY`: it must not be sent.
    var isAlwaysIdentity = false
    /// Whether values of the declared property, as they travel in a batch, can be assigned to it.
    var takesParameter = true
    /// Whether the declared SQL type is its type; true when none is declared.
    var isDeclaredType = true

    static func query<Row>(of layout: TableLayout<Row>) -> PostgresQuery.Typed<LiveColumn> {
        // A text is what has no type of its own, in a batch. A stamp is now().
        let types = layout.columns.map { column in
            if column.options.contains(.createdAt) || column.options.contains(.updatedAt) {
                return Int(PostgresType.timestamptz.oid)
            }
            return Int(column.type.oid == 0 ? PostgresType.text.oid : column.type.oid)
        }
        let query: PostgresQuery = """
            SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull OR t.typnotnull, \
            a.atthasdef OR a.attidentity <> '', a.attgenerated <> '', a.attidentity = 'a', \
            coalesce(d.type = b.oid OR EXISTS (SELECT FROM pg_catalog.pg_cast AS c \
            WHERE c.castsource = d.type AND c.casttarget = b.oid AND c.castcontext <> 'e'), true), \
            coalesce(to_regtype(d.declared) IN (a.atttypid, b.oid), d.declared IS NULL) \
            FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid \
            CROSS JOIN LATERAL (WITH RECURSIVE base AS (SELECT t.oid, t.typtype, t.typbasetype UNION ALL \
            SELECT n.oid, n.typtype, n.typbasetype FROM base AS o JOIN pg_catalog.pg_type AS n \
            ON n.oid = o.typbasetype WHERE o.typtype = 'd') SELECT oid FROM base WHERE typtype <> 'd') AS b \
            LEFT JOIN unnest(\(layout.columns.map(\.name))::text[], \(types)::oid[], \
            \(layout.columns.map(\.declaredType))::text[]) AS d(name, type, declared) ON d.name = a.attname \
            WHERE a.attrelid = to_regclass(\(layout.quotedName)) AND a.attnum > 0 AND NOT a.attisdropped \
            ORDER BY a.attnum
            """
        return PostgresQuery.Typed(query) { (row: PostgresRow) throws(PostgresError) -> LiveColumn in
            LiveColumn(
                name: try row.decode(0, as: String.self), type: try row.decode(1, as: String.self),
                isNotNull: try row.decode(2, as: Bool.self), hasDefault: try row.decode(3, as: Bool.self),
                isGenerated: try row.decode(4, as: Bool.self), isAlwaysIdentity: try row.decode(5, as: Bool.self),
                takesParameter: try row.decode(6, as: Bool.self), isDeclaredType: try row.decode(7, as: Bool.self))
        }
    }
}
