import Postgres

extension UpsertSQL {
    /// An UPDATE, and an INSERT ... ON CONFLICT of what that did not find. The rows sent are called `excluded` in the UPDATE, so
    /// that both set the same.
    mutating func updatedFirst() throws(PostgresError) -> UpsertStatement {
        switch form.source {
        case .row: return try updatedFirstRow()
        case .arrays, .stage:
            if shape.returnsRows { throw layout.oneByOne("updateFirst()") }
            return try updatedFirstRows()
        case .values: throw layout.oneByOne("updateFirst()")
        }
    }

    /// `WITH upsert_updated AS (UPDATE "t" SET "b" = EXCLUDED."b" FROM (SELECT "a", "b" FROM "t" WHERE false UNION ALL SELECT $1,
    /// $2) AS excluded("a", "b") WHERE "t"."a" = EXCLUDED."a" AND ... RETURNING 1), upsert_written AS (INSERT INTO "t" ("a", "b") SELECT
    /// $1, $2 WHERE NOT EXISTS (SELECT FROM upsert_updated) ON CONFLICT ... RETURNING 1) SELECT 1 FROM upsert_updated UNION ALL
    /// SELECT 1 FROM upsert_written`: the branch that has no rows gives parameters the columns' types.
    private mutating func updatedFirstRow() throws(PostgresError) -> UpsertStatement {
        let row = values(row: 0)
        let compared = values(row: 0, compared: true)
        sql = "WITH "
        try appendUpdate(
            from: "SELECT \(sentNames) FROM \(layout.quotedName) WHERE false UNION ALL SELECT \(compared)",
            names: sentNames)
        let columns = shape.returning.map { layout.quotedColumns[$0] }
        func returned(_ prefix: String, _ inserted: String) -> String {
            let values = columns.enumerated().map { "\(prefix)\($1) AS r\($0 + 1)" }
            let facts = shape.wantsOutcomes ? ["\(inserted) AS inserted"] : []
            return shape.returnsRows ? (values + facts).joined(separator: ", ") : "1"
        }
        sql +=
            " RETURNING \(returned(layout.existing + ".", "false"))), upsert_written AS (\(insertInto) SELECT \(row) WHERE "
        sql += "NOT EXISTS (SELECT FROM upsert_updated)" + (marks ? " AND \(resetMark)" : "")
        try appendConflict()
        sql += "\(returning)\(returned("", insertedExpression)))"
        let results = columns.enumerated().map { "r\($0 + 1) AS \($1)" } + (shape.wantsOutcomes ? ["inserted"] : [])
        let selected = shape.returnsRows ? results.joined(separator: ", ") : "1"
        sql += " SELECT \(selected) FROM upsert_updated UNION ALL SELECT \(selected) FROM upsert_written"
        return UpsertStatement(sql: sql, constants: constants, answer: shape.returnsRows ? .ordered : .count)
    }

    /// The same of many rows; a row that was updated is known by its number.
    private mutating func updatedFirstRows() throws(PostgresError) -> UpsertStatement {
        let names = resolved.sent.indices.map { "c\($0 + 1)" }
        let stamps = resolved.stamped.map { _ in "now()" }
        let row = (names + stamps).joined(separator: ", ")
        let compared = zip(names, resolved.sent).map { name, index in
            let column = layout.columns[index]
            // They are cast to the other type already.
            guard let type = column.comparedType, type != column.castType else { return name }
            return "\(name)::\(type)"
        }
        sql = "WITH upsert_input AS (\(try ordinalRows(names))), "
        appendLocks(compared)
        let source = (compared + stamps).joined(separator: ", ")
        try appendUpdate(
            from: "SELECT \(source), n FROM upsert_input JOIN upsert_locked USING (n)", names: sentNames + ", upsert_n")
        sql += " RETURNING EXCLUDED.upsert_n), upsert_written AS (\(insertInto) SELECT \(row) FROM upsert_input AS i"
        sql += " WHERE NOT EXISTS (SELECT FROM upsert_updated AS u WHERE u.upsert_n = i.n) ORDER BY n"
        try appendConflict()
        sql += " RETURNING 1) SELECT 1 FROM upsert_updated UNION ALL SELECT 1 FROM upsert_written"
        return UpsertStatement(sql: sql, constants: constants, answer: .count)
    }

    /// `upsert_locked AS (SELECT n FROM "t" JOIN upsert_input ON "t"."a" = c1 AND ... ORDER BY n FOR NO KEY UPDATE OF "t"), `: an
    /// UPDATE locks rows in the order of its plan, as of the table's pages, and two such could wait for each other. Of a locking
    /// SELECT the order is that of its ORDER BY.
    private mutating func appendLocks(_ sent: [String]) {
        let conditions = (resolved.conflictKey ?? []).compactMap { key in
            resolved.sent.firstIndex(of: key).map {
                "\(layout.existing).\(layout.quotedColumns[key]) = upsert_input.\(sent[$0])"
            }
        }
        sql += "upsert_locked AS (SELECT upsert_input.n FROM \(layout.quotedName)\(existingAlias) JOIN upsert_input ON "
        sql += (conditions + ownRows).joined(separator: " AND ")
        sql += " ORDER BY upsert_input.n FOR NO KEY UPDATE OF \(layout.existing)), "
    }

    private var existingAlias: String { layout.existing == quoted(layout.name) ? "" : " AS \(layout.existing)" }

    /// `upsert_updated AS (UPDATE "t" SET ... FROM (...) AS excluded("a", "b") WHERE "t"."a" = EXCLUDED."a"`
    private mutating func appendUpdate(from rows: String, names: String) throws(PostgresError) {
        sql += "upsert_updated AS (UPDATE \(layout.quotedName)\(existingAlias) SET "
        try appendAssignments()
        let conditions = (resolved.conflictKey ?? []).map {
            "\(layout.existing).\(layout.quotedColumns[$0]) = EXCLUDED.\(layout.quotedColumns[$0])"
        }
        sql += " FROM (\(rows)) AS excluded(\(names)) WHERE \((conditions + ownRows).joined(separator: " AND "))"
        try appendFilter(" AND ", marking: false)
    }

    /// `("t".tableoid = '"t"'::regclass::oid OR (SELECT relkind = 'p' FROM pg_catalog.pg_class WHERE oid = '"t"'::regclass::oid))`:
    /// rows of tables that inherit from it do not conflict; those of its partitions do, where ONLY would reach none. A view has no
    /// tableoid.
    private var ownRows: [String] {
        guard form.hasSystemColumns else { return [] }
        return [layout.isOwn("\(layout.existing).tableoid", layout.regclass)]
    }

    private var sentNames: String {
        (resolved.sent + resolved.stamped).map { layout.quotedColumns[$0] }.joined(separator: ", ")
    }
}

extension TableLayout {
    /// An upsert that must be a statement for each row.
    func oneByOne(_ modifier: String) -> PostgresError {
        PostgresError(
            code: .unsupported,
            message: "table \"\(name)\": many rows with \(modifier), of which something is asked, are a statement each",
            hint: "leave the choice to strategy(.automatic), and run the upsert outside of a pipeline")
    }
}
