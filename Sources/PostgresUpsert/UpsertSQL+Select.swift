import Postgres

extension UpsertSQL {
    /// `WITH upsert_written AS (INSERT ... ON CONFLICT ("k") DO NOTHING RETURNING "a" AS r1) SELECT r1 AS "a" FROM upsert_written
    /// UNION ALL SELECT "a" FROM "t" WHERE "k" = $1 AND NOT EXISTS (SELECT FROM upsert_written)`, but for inherited rows.
    ///
    /// Both parts see what was committed when the statement began; a row that came into being later is in neither.
    mutating func selectedRow() throws(PostgresError) -> UpsertStatement {
        let columns = shape.returning.map { layout.quotedColumns[$0] }
        let written = columns.enumerated().map { "\($1) AS r\($0 + 1)" }
        let results = columns.enumerated().map { "r\($0 + 1) AS \($1)" }
        sql = "WITH upsert_written AS (\(insertInto) VALUES (\(values(row: 0)))"
        try appendConflict()
        sql += " RETURNING " + (written + ["true AS inserted"]).joined(separator: ", ")
        sql += ") SELECT " + (results + ["inserted"]).joined(separator: ", ")
        sql += " FROM upsert_written UNION ALL SELECT s.* FROM \(layout.own)"
        sql += " CROSS JOIN LATERAL (SELECT " + (columns + ["false"]).joined(separator: ", ")
        sql += " FROM \(layout.quotedName) WHERE "
        for index in resolved.conflictKey ?? [] {
            sql += "\(layout.quotedColumns[index]) = \(keyValue(index)) AND "
        }
        if case .columns(_, let predicate?) = shape.target {
            var condition = UpsertFragment(text: "")
            condition.append(operand: predicate)
            try append(condition)
            sql += " AND "
        }
        sql += layout.isOwn
        sql += " AND NOT EXISTS (SELECT FROM upsert_written)) AS s"
        return UpsertStatement(sql: sql, constants: constants, answer: .ordered)
    }

    /// The value sent for a key column, to be compared with that column.
    private func keyValue(_ index: Int) -> String {
        let column = layout.columns[index]
        let value = sentValue(index)
        if !isComparedByRow(column) { return value }
        return "(jsonb_populate_record(\(noRow), \(members)))." + layout.quotedColumns[index]
    }

    /// `$1`, `$2::citext`
    private func sentValue(_ index: Int) -> String {
        let parameter = "$\((resolved.sent.firstIndex(of: index) ?? 0) + 1)"
        return layout.columns[index].castType.map { "\(parameter)::\($0)" } ?? parameter
    }

    /// The row sent, to be made one of the table: `text = citext` compares as text, which is not how the key was compared, and a
    /// float4 or timestamp(0) column does not hold what was sent. All columns of it, as one may be a domain that is NOT NULL. (One
    /// that is not declared makes the statement fail where it finds a row: see `UpsertDefinition.explain`.)
    private var members: String {
        let sent = resolved.sent.map { "\(literal(layout.columns[$0].name)), \(sentValue($0))" }
        let stamped = resolved.stamped.map { "\(literal(layout.columns[$0].name)), now()" }
        let all = sent + stamped
        // A function takes a hundred arguments.
        return stride(from: 0, to: all.count, by: 50).map {
            "jsonb_build_object(\(all[$0..<min($0 + 50, all.count)].joined(separator: ", ")))"
        }.joined(separator: " || ")
    }

    /// NULL of the table's row type. A type of pg_catalog, as `path`, goes before a table of that name, where it has no schema.
    private var noRow: String {
        if layout.schema != nil { return "NULL::\(layout.quotedName)" }
        return "(SELECT upsert_row FROM \(layout.quotedName) AS upsert_row WHERE false)"
    }
}

extension TableLayout {
    /// The table's oid.
    var regclass: String { "\(literal(quotedName))::regclass::oid" }

    /// Stands beside a lateral subquery with the condition `isOwn`. A view has no tableoid: there the name means that of this.
    var own: String { "(SELECT \(regclass) AS tableoid) AS \(ownAlias)" }

    // A table of that name hides the alias.
    private var ownAlias: String { name.utf8.elementsEqual("upsert_own".utf8) ? "upsert_own_table" : "upsert_own" }

    /// Rows of tables that inherit from it do not conflict; those of its partitions do.
    var isOwn: String { isOwn("tableoid", "\(ownAlias).tableoid") }

    /// - Parameter oid: of the table, however it is written.
    func isOwn(_ tableoid: String, _ oid: String) -> String {
        "(\(tableoid) = \(oid) OR (SELECT relkind = 'p' FROM pg_catalog.pg_class WHERE oid = \(oid)))"
    }
}

/// Whether a key column is compared with the value that a row of the table would hold.
func isComparedByRow<Row>(_ column: Column<Row>) -> Bool {
    // Without a type of its own the value has the column's.
    !(column.castType.map { hasOneForm($0) } ?? (column.type.oid == 0 || hasOneForm(column.type)))
}

/// Whether a column of a declared type holds what was sent, whatever its length or precision.
private func hasOneForm(_ castType: String) -> Bool {
    let name = baseName(castType)
    let cutting = ["varchar", "char", "character", "national", "nchar", "bpchar", "bit", "\"bit\"", "varbit"]
    return !cutting.contains(name) && !roundingTypes.contains(name)
}

/// Types in which equal values of the Swift type and of the column are equal for the server, whatever the column's width.
private func hasOneForm(_ type: PostgresType) -> Bool {
    [PostgresType.bool, .bytea, .int2, .int4, .int8, .oid, .uuid].contains { $0.oid == type.oid }
}
