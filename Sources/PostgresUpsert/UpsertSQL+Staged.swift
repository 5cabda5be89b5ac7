import Postgres

/// The temporary table that rows are copied into on their way.
enum StagedRows {
    static let name = "upsert_stage"
    static let table = "pg_temp.\(quoted(name))"

    /// The type of a column of the stage: that of the values as they are sent. Nil when it has no name that is known.
    static func typeName<Row>(_ column: Column<Row>) -> String? {
        if column.type.oid == 0 || column.format == .text { return "text" }
        return builtInTypeName(column.type.oid) ?? builtInElementName(ofArray: column.type.oid).map { $0 + "[]" }
    }

    /// `CREATE TEMPORARY TABLE "upsert_stage" (c1 text, c2 int8, n int8) ON COMMIT DROP`
    static func create<Row>(_ columns: [Column<Row>], table: String) throws(PostgresError) -> PostgresQuery {
        var definitions: [String] = []
        for (number, column) in columns.enumerated() {
            guard let type = typeName(column) else {
                throw PostgresError(
                    code: .unsupported,
                    message:
                        "table \"\(table)\": column \"\(column.name)\" has a type of your own, and cannot be staged",
                    hint: "leave the choice to strategy(.automatic), or use .unnest")
            }
            definitions.append("c\(number + 1) \(type)")
        }
        let all = (definitions + ["n int8"]).joined(separator: ", ")
        return "CREATE TEMPORARY TABLE \(identifier: name) (\(unsafeSQL: all)) ON COMMIT DROP"
    }

    static let drop: PostgresQuery = "DROP TABLE pg_temp.\(identifier: name)"
}

extension UpsertSQL {
    /// `INSERT INTO "t" ("a", "b") SELECT c1, c2::jsonb FROM pg_temp."upsert_stage" ORDER BY n ON CONFLICT ...`
    mutating func stagedRows() throws(PostgresError) -> UpsertStatement {
        let stamps = resolved.stamped.map { _ in ", now()" }.joined()
        // OFFSET keeps the sort below the mark, which must be reset row by row.
        let rows =
            marks
            ? "(SELECT * FROM \(StagedRows.table) ORDER BY n OFFSET 0) AS i WHERE \(resetMark)"
            : "\(StagedRows.table) ORDER BY n"
        sql = "\(insertInto) SELECT \(stagedColumns(named: false))\(stamps) FROM \(rows)"
        try appendConflict()
        return finishOrdered()
    }

    /// `c1, c2::jsonb`
    func stagedColumns(named: Bool) -> String {
        resolved.sent.enumerated().map { number, index in
            let name = "c\(number + 1)"
            guard let type = layout.columns[index].castType else { return name }
            return "\(name)::\(type)" + (named ? " AS \(name)" : "")
        }.joined(separator: ", ")
    }
}
