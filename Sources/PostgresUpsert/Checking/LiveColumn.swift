import Postgres

/// A column as the server has it.
struct LiveColumn: Sendable, Hashable {
    var name: String
    /// `character varying(20)`
    var type: String
    /// The same, or that of the domain below, without length and precision: a type to declare.
    var castType: String
    var isNotNull = false
    /// Whether DROP NOT NULL would let it be NULL: it is no part of the primary key, no identity, and no such domain.
    var canDropNotNull = false
    /// A default, an identity or a generation expression: it need not be sent.
    var hasDefault = false
    /// The default, as SQL.
    var defaultExpression: String?
    /// `GENERATED ALWAYS AS (...) STORED`, or VIRTUAL.
    var isGenerated = false
    /// Computed when it is read (PostgreSQL 18 and later).
    var isVirtual = false
    /// `GENERATED ALWAYS AS IDENTITY`: it must not be sent.
    var isAlwaysIdentity = false
    /// Whether values of the declared property, as they travel in a batch, can be assigned to it.
    var takesParameter = true
    /// Whether the declared SQL type is its type; true when none is declared.
    var isDeclaredType = true
    /// Whether a cast to the declared type, a domain, cuts what is too long.
    var declaredTypeCuts = false

    static func query<Row>(of layout: TableLayout<Row>) -> PostgresQuery.Typed<LiveColumn> {
        // A text is what has no type of its own, in a batch. A stamp is now().
        let types = layout.columns.map { column in
            if column.options.contains(.createdAt) || column.options.contains(.updatedAt) {
                return Int(PostgresType.timestamptz.oid)
            }
            return Int(column.type.oid == 0 ? PostgresType.text.oid : column.type.oid)
        }
        // Arrays are assigned as their elements are. A domain that a value is cast to applies its length as the cast does.
        let query: PostgresQuery = """
            SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), format_type(b.oid, NULL), \
            a.attnotnull OR t.typnotnull, a.attnotnull AND NOT t.typnotnull AND a.attidentity = '' AND NOT EXISTS \
            (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisprimary \
            AND a.attnum = ANY(i.indkey)), a.atthasdef OR a.attidentity <> '', \
            CASE WHEN a.attgenerated = '' THEN (SELECT pg_get_expr(e.adbin, e.adrelid) FROM pg_catalog.pg_attrdef AS e \
            WHERE e.adrelid = a.attrelid AND e.adnum = a.attnum) END, \
            a.attgenerated <> '', a.attgenerated = 'v', a.attidentity = 'a', \
            coalesce(d.type = b.oid OR de.oid = be.oid OR EXISTS (SELECT FROM pg_catalog.pg_cast AS c \
            WHERE (c.castsource = d.type AND c.casttarget = b.oid OR c.castsource = de.oid AND c.casttarget = be.oid) \
            AND c.castcontext <> 'e'), d.type IS NULL), \
            coalesce(to_regtype(d.declared) IN (a.atttypid, b.oid), d.declared IS NULL), \
            coalesce(to_regtype(d.declared) = a.atttypid AND b.has_length AND b.oid IN \
            ('bpchar'::regtype, 'varchar'::regtype, '"bit"'::regtype, 'varbit'::regtype), false) \
            FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid \
            CROSS JOIN LATERAL (WITH RECURSIVE base AS (SELECT t.oid, t.typtype, t.typbasetype, t.typtypmod >= 0 AS has_length \
            UNION ALL SELECT n.oid, n.typtype, n.typbasetype, o.has_length OR n.typtypmod >= 0 FROM base AS o \
            JOIN pg_catalog.pg_type AS n ON n.oid = o.typbasetype WHERE o.typtype = 'd') \
            SELECT oid, has_length FROM base WHERE typtype <> 'd') AS b \
            LEFT JOIN unnest(\(layout.columns.map(\.name))::text[], \(types)::oid[], \
            \(layout.columns.map(\.declaredType))::text[]) AS d(name, type, declared) ON d.name = a.attname \
            LEFT JOIN pg_catalog.pg_type AS de ON de.typarray = d.type \
            LEFT JOIN LATERAL (SELECT coalesce(nullif(n.typbasetype, 0), n.oid) AS oid FROM pg_catalog.pg_type AS n \
            WHERE n.typarray = b.oid) AS be ON true \
            WHERE a.attrelid = to_regclass(\(layout.quotedName)) AND a.attnum > 0 AND NOT a.attisdropped \
            ORDER BY a.attnum
            """
        return PostgresQuery.Typed(query) { (row: PostgresRow) throws(PostgresError) -> LiveColumn in
            LiveColumn(
                name: try row.decode(0, as: String.self), type: try row.decode(1, as: String.self),
                castType: try row.decode(2, as: String.self), isNotNull: try row.decode(3, as: Bool.self),
                canDropNotNull: try row.decode(4, as: Bool.self), hasDefault: try row.decode(5, as: Bool.self),
                defaultExpression: try row.decode(6, as: String?.self), isGenerated: try row.decode(7, as: Bool.self),
                isVirtual: try row.decode(8, as: Bool.self), isAlwaysIdentity: try row.decode(9, as: Bool.self),
                takesParameter: try row.decode(10, as: Bool.self), isDeclaredType: try row.decode(11, as: Bool.self),
                declaredTypeCuts: try row.decode(12, as: Bool.self))
        }
    }
}
