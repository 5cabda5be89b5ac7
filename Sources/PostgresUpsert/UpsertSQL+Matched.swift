import Postgres

extension UpsertSQL {
    /// The form that tells which of many rows were left out. An INSERT can return columns of its table only, so an ordinal
    /// cannot pass through it: the rows written are joined to the rows sent by the key, as the server compares it.
    mutating func matchedRows() throws(PostgresError) -> UpsertStatement {
        // Under DO NOTHING each written row was inserted, and so holds the primary key that was sent. A row that was updated
        // holds the key it conflicted by, and may hold another primary key.
        let key = resolved.conflictKey ?? (resolved.action == .nothing ? resolved.sortKey : [])
        guard !key.isEmpty else {
            throw .upsert(
                "table \"\(layout.name)\": outcomes of many rows that may be left out need to know the key columns",
                hint: "name them: .onConflict(\\.column), or .onConstraint(\"name\", \\.column)")
        }
        let names = resolved.sent.indices.map { "c\($0 + 1)" }
        let stamps = resolved.stamped.map { _ in "now()" }
        // OFFSET keeps the sort below the mark, which must be reset row by row.
        let input =
            marks
            ? "(SELECT * FROM upsert_input ORDER BY n OFFSET 0) AS i WHERE \(resetMark)" : "upsert_input ORDER BY n"
        sql =
            "WITH upsert_input AS (\(try ordinalRows(names))), upsert_written AS (" + insertInto + " SELECT "
            + (names + stamps).joined(separator: ", ") + " FROM " + input
        try appendConflict()
        let keys = key.enumerated().map { "\(layout.quotedColumns[$1]) AS k\($0 + 1)" }
        let returned = returnedColumns.enumerated().map { "\($1) AS r\($0 + 1)" }
        let inserted = shape.wantsOutcomes ? [insertedExpression + " AS inserted"] : []
        sql += returning + (keys + returned + inserted).joined(separator: ", ") + ") SELECT "
        let results = returnedColumns.indices.map { number in
            let name = number < shape.returning.count ? " AS " + layout.quotedColumns[shape.returning[number]] : ""
            return "w.r\(number + 1)\(name)"
        }
        let facts =
            ["i.n", "w.w", "(SELECT count(*) FROM upsert_written)"] + (shape.wantsOutcomes ? ["w.inserted"] : [])
        let conditions = key.enumerated().map { number, index in
            let position = resolved.sent.firstIndex(of: index) ?? 0
            return "w.k\(number + 1) = " + asColumnType(index, "i.c\(position + 1)")
        }
        sql +=
            (results + facts).joined(separator: ", ")
            + " FROM upsert_input AS i LEFT JOIN (SELECT *, row_number() OVER () AS w FROM upsert_written) AS w ON "
            + conditions.joined(separator: " AND ") + " ORDER BY i.n"
        return UpsertStatement(sql: sql, constants: constants, answer: .matched)
    }

    /// The rows sent, and the number of each.
    func ordinalRows(_ names: [String]) throws(PostgresError) -> String {
        if form.source == .stage { return "SELECT \(stagedColumns(named: true)), n FROM \(StagedRows.table)" }
        let columns = (names + ["n"]).joined(separator: ", ")
        return "SELECT * FROM \(try unnest()) WITH ORDINALITY AS i(\(columns))"
    }

    /// A value sent for a column, as the column's own type. `text = citext` compares as text, which is not how the key was
    /// compared, and a float4 or timestamp(0) column does not hold what was sent.
    func asColumnType(_ index: Int, _ value: String) -> String {
        let column = layout.columns[index]
        if column.declaredType != nil || hasOneForm(column.type) { return value }
        let record = "jsonb_build_object(\(literal(column.name)), \(value))"
        return "(jsonb_populate_record(NULL::\(layout.quotedName), \(record))).\(layout.quotedColumns[index])"
    }
}

/// Types in which equal values of the Swift type and of the column are equal for the server, whatever the column's width.
private func hasOneForm(_ type: PostgresType) -> Bool {
    [PostgresType.bool, .bytea, .int2, .int4, .int8, .oid, .uuid].contains { $0.oid == type.oid }
}

/// A name as a string literal; correct whatever `standard_conforming_strings` says.
func literal(_ text: String) -> String {
    var escaped = ""
    var hasBackslash = false
    for scalar in text.unicodeScalars {
        if scalar == "'" || scalar == "\\" { escaped.unicodeScalars.append(scalar) }
        if scalar == "\\" { hasBackslash = true }
        escaped.unicodeScalars.append(scalar)
    }
    return (hasBackslash ? "E'" : "'") + escaped + "'"
}
