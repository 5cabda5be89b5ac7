import Postgres

extension UpsertSQL {
    /// The form that tells which of many rows were left out. An INSERT can return columns of its table only, so a setting of the
    /// transaction carries each row's number through it: set as the row is sent, read as it is returned. The server takes the rows
    /// one by one through both. Keys could not tell as much: what is sent may be equal to another for the server alone (citext), be
    /// changed by a trigger, or be NULL.
    ///
    /// A BEFORE trigger must not upsert into the same table by this very form: see `OutcomeEvidence.mark`.
    mutating func matchedRows() throws(PostgresError) -> UpsertStatement {
        let names = resolved.sent.indices.map { "c\($0 + 1)" }
        let stamps = resolved.stamped.map { _ in "now()" }
        let number = rowNumberName(of: layout.quotedName)
        // OFFSET keeps the sort below the settings, which must be set row by row.
        sql =
            "WITH upsert_input AS (\(try ordinalRows(names))), upsert_written AS (" + insertInto + " SELECT "
            + (names + stamps).joined(separator: ", ")
            + " FROM (SELECT * FROM upsert_input ORDER BY n OFFSET 0) AS i WHERE set_config('\(number)', n::text, true)"
            + " IS NOT NULL" + (marks ? " AND \(resetMark)" : "")
        try appendConflict()
        let returned = returnedColumns.enumerated().map { "\($1) AS r\($0 + 1)" }
        let inserted = shape.wantsOutcomes ? [insertedExpression + " AS inserted"] : []
        sql += returning + (["current_setting('\(number)')::int8 AS n"] + returned + inserted).joined(separator: ", ")
        let results = returnedColumns.indices.map { number in
            let name = number < shape.returning.count ? " AS " + layout.quotedColumns[shape.returning[number]] : ""
            return "w.r\(number + 1)\(name)"
        }
        let facts =
            ["i.n", "w.n", "(SELECT count(*) FROM upsert_written)"] + (shape.wantsOutcomes ? ["w.inserted"] : [])
        sql +=
            ") SELECT " + (results + facts).joined(separator: ", ")
            + " FROM upsert_input AS i LEFT JOIN upsert_written AS w ON w.n = i.n ORDER BY i.n"
        return UpsertStatement(sql: sql, constants: constants, answer: .matched)
    }

    /// The rows sent, and the number of each.
    func ordinalRows(_ names: [String]) throws(PostgresError) -> String {
        if form.source == .stage { return "SELECT \(stagedColumns(named: true)), n FROM \(StagedRows.table)" }
        let columns = (names + ["n"]).joined(separator: ", ")
        return "SELECT * FROM \(try unnest()) WITH ORDINALITY AS i(\(columns))"
    }
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
