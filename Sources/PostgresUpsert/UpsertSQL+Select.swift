import Postgres

extension UpsertSQL {
    /// `WITH upsert_written AS (INSERT ... ON CONFLICT ("k") DO NOTHING RETURNING "a" AS r1) SELECT r1 AS "a" FROM upsert_written
    /// UNION ALL SELECT "a" FROM "t" WHERE "k" = $1 AND NOT EXISTS (SELECT FROM upsert_written)`
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
        sql += " FROM upsert_written UNION ALL SELECT " + (columns + ["false"]).joined(separator: ", ")
        sql += " FROM \(layout.quotedName) WHERE "
        for index in resolved.conflictKey ?? [] {
            let parameter = "$\((resolved.sent.firstIndex(of: index) ?? 0) + 1)"
            sql += "\(layout.quotedColumns[index]) = \(keyValue(index, parameter)) AND "
        }
        if case .columns(_, let predicate?) = shape.target {
            var condition = UpsertFragment(text: "")
            condition.append(operand: predicate)
            try append(condition)
            sql += " AND "
        }
        sql += "NOT EXISTS (SELECT FROM upsert_written)"
        return UpsertStatement(sql: sql, constants: constants, answer: .ordered)
    }

    /// A parameter that stood for a column before, to be compared with that column.
    private func keyValue(_ index: Int, _ parameter: String) -> String {
        let column = layout.columns[index]
        if let type = column.declaredType { return "\(parameter)::\(type)" }
        // Without a type of its own it has the column's.
        return column.type.oid == 0 ? parameter : asColumnType(index, parameter)
    }
}
