import Postgres

// The only file that writes ON CONFLICT (manual, "INSERT", section "ON CONFLICT Clause").

/// A statement's text, and what it answers.
struct UpsertStatement: Sendable {
    /// What comes back. Columns of the table come first, in the order they were asked for.
    enum Answer: Sendable {
        /// No rows; the count is in the command tag.
        case count
        /// A row for each row written, in the order they were sent; with outcomes, one more column: inserted.
        case ordered
        /// A row for each row sent, written or not; four more columns: ordinal from 1, number of the written row (NULL: none),
        /// how many were written, inserted.
        case matched
    }

    var sql: String
    /// Values of the shape, numbered behind those of the rows.
    var constants: [UpsertFragment.Parameter]
    var answer: Answer
}

struct UpsertSQL<Row> {
    let layout: TableLayout<Row>
    let shape: UpsertShape
    let resolved: ResolvedUpsert
    let form: UpsertForm
    var sql = ""
    var constants: [UpsertFragment.Parameter] = []

    static func statement(
        _ shape: UpsertShape, _ resolved: ResolvedUpsert, _ layout: TableLayout<Row>, _ form: UpsertForm
    ) throws(PostgresError) -> UpsertStatement {
        var writer = UpsertSQL(layout: layout, shape: shape, resolved: resolved, form: form)
        switch form.source {
        case .row: return try writer.oneRow()
        case .arrays where shape.returnsRows && shape.mayLeaveRowsOut: return try writer.matchedRows()
        case .arrays: return try writer.manyRows()
        }
    }

    /// `INSERT INTO "t" ("a", "b") VALUES ($1, $2) ON CONFLICT ("a") DO UPDATE SET "b" = EXCLUDED."b"`
    private mutating func oneRow() throws(PostgresError) -> UpsertStatement {
        let values = resolved.sent.enumerated().map { number, index in
            "$\(number + 1)" + (layout.columns[index].declaredType.map { "::" + $0 } ?? "")
        }
        let row = (values + resolved.stamped.map { _ in "now()" }).joined(separator: ", ")
        sql = insertInto + (marks ? " SELECT \(row)\(resetMark)" : " VALUES (\(row))")
        try appendConflict()
        return finishOrdered()
    }

    /// The same without a declaration; everything is quoted already.
    static func keyed(
        into table: String, names: [String], values: [String], key: String, assignments: [String]
    ) -> String {
        "INSERT INTO \(table) (\(names.joined(separator: ", "))) VALUES (\(values.joined(separator: ", ")))"
            + " ON CONFLICT (\(key)) DO UPDATE SET \(assignments.joined(separator: ", "))"
    }

    /// `INSERT INTO "t" ("a", "b") SELECT * FROM unnest($1::text[], $2::int8[]) ON CONFLICT ...`: one text for every number of
    /// rows.
    private mutating func manyRows() throws(PostgresError) -> UpsertStatement {
        let stamps = resolved.stamped.map { _ in ", now()" }.joined()
        sql = "\(insertInto) SELECT *\(stamps) FROM \(try unnest())\(resetMark)"
        try appendConflict()
        return finishOrdered()
    }

    /// `INSERT INTO "t" ("a", "b")`
    var insertInto: String {
        let names = (resolved.sent + resolved.stamped).map { layout.quotedColumns[$0] }.joined(separator: ", ")
        let alias = layout.existing == quoted(layout.name) ? "" : " AS \(layout.existing)"
        return "INSERT INTO \(layout.quotedName)\(alias) (\(names))"
    }

    /// `unnest($1::text[], $2::text[]::jsonb[])`
    func unnest() throws(PostgresError) -> String {
        var arrays: [String] = []
        for (number, index) in resolved.sent.enumerated() {
            let column = layout.columns[index]
            let element = ArrayElement(column)
            guard element.arrayOID != 0 else {
                throw PostgresError(
                    code: .unsupported,
                    message:
                        "table \"\(layout.name)\": column \"\(column.name)\" is an array or a type without an array,"
                        + " and cannot be sent in a batch: unnest would flatten it",
                    hint: "upsert these rows one by one, in a pipeline")
            }
            arrays.append("$\(number + 1)" + element.casts)
        }
        return "unnest(\(arrays.joined(separator: ", ")))"
    }

    /// ` ON CONFLICT ("a") DO UPDATE SET "b" = EXCLUDED."b" WHERE ...`
    mutating func appendConflict() throws(PostgresError) {
        sql += " ON CONFLICT"
        switch shape.target {
        case .primaryKey:
            if let key = resolved.conflictKey { appendColumns(key) }
        case .columns(let key, let predicate):
            appendColumns(key)
            try appendPredicate(predicate)
        case .constraint(let name, _): sql += " ON CONSTRAINT \(quoted(name))"
        case .index(let expressions, let predicate):
            sql += " ("
            try append(expressions)
            sql += ")"
            try appendPredicate(predicate)
        case .any: break
        }
        switch shape.action {
        case .nothing: sql += " DO NOTHING"
        case .update:
            sql += " DO UPDATE SET "
            for (number, assignment) in resolved.assignments.enumerated() {
                if number > 0 { sql += ", " }
                sql += "\(layout.quotedColumns[assignment.column]) = "
                try append(assignment.value, of: assignment.column)
            }
            try appendFilter()
        }
    }

    private mutating func appendColumns(_ indices: [Int]) {
        sql += " (" + indices.map { layout.quotedColumns[$0] }.joined(separator: ", ") + ")"
    }

    private mutating func appendPredicate(_ predicate: UpsertFragment?) throws(PostgresError) {
        guard let predicate else { return }
        sql += " WHERE "
        try append(predicate)
    }

    private mutating func appendFilter() throws(PostgresError) {
        var keyword = " WHERE "
        if let filter = shape.filter {
            var condition = UpsertFragment(text: "")
            if shape.onlyIfChanged || marks { condition.append(operand: filter) } else { condition.append(filter) }
            sql += keyword
            try append(condition)
            keyword = " AND "
        }
        if shape.onlyIfChanged {
            sql += keyword
            try appendChangeGuard()
            keyword = " AND "
        }
        if marks { sql += "\(keyword)set_config('\(mark)', '1', true) IS NOT NULL" }
    }

    /// `("t"."a", "t"."b") IS DISTINCT FROM (EXCLUDED."a", EXCLUDED."b")`; a touch column is no change.
    private mutating func appendChangeGuard() throws(PostgresError) {
        let compared = resolved.assignments.filter { if case .now = $0.value { false } else { true } }
        guard !compared.isEmpty else {
            throw .upsert("table \"\(layout.name)\": ifChanged() has no column to compare")
        }
        let existing = compared.map { "\(layout.existing).\(layout.quotedColumns[$0.column])" }
        sql += compared.count == 1 ? existing[0] : "(\(existing.joined(separator: ", ")))"
        sql += " IS DISTINCT FROM "
        if compared.count > 1 { sql += "(" }
        for (number, assignment) in compared.enumerated() {
            if number > 0 { sql += ", " }
            if case .fragment(let fragment) = assignment.value {
                if fragment.pieces == [.text("DEFAULT")] {
                    throw .upsert(
                        "table \"\(layout.name)\": ifChanged() cannot compare column"
                            + " \"\(layout.columns[assignment.column].name)\" with DEFAULT")
                }
                var operand = UpsertFragment(text: "")
                operand.append(operand: fragment)
                try append(operand)
            } else {
                try append(assignment.value, of: assignment.column)
            }
        }
        if compared.count > 1 { sql += ")" }
    }

    private mutating func append(_ value: ResolvedUpsert.Assignment, of index: Int) throws(PostgresError) {
        switch value {
        case .excluded: sql += "EXCLUDED.\(layout.quotedColumns[index])"
        case .now: sql += "now()"
        case .fragment(let fragment): try append(fragment)
        }
    }

    private mutating func append(_ fragment: UpsertFragment) throws(PostgresError) {
        if let failure = fragment.failure { throw failure }
        for piece in fragment.pieces {
            switch piece {
            case .text(let text): sql += text
            case .parameter(let parameter):
                constants.append(parameter)
                sql += "$\(resolved.sent.count + constants.count)"
            }
        }
    }

    private func finishOrdered() -> UpsertStatement {
        guard shape.returnsRows else { return UpsertStatement(sql: sql, constants: constants, answer: .count) }
        let facts = shape.wantsOutcomes ? [insertedExpression] : []
        return UpsertStatement(
            sql: sql + returning + (returnedColumns + facts).joined(separator: ", "), constants: constants,
            answer: .ordered)
    }
}

// Outcomes
extension UpsertSQL {
    /// Whether rows are marked: see `OutcomeEvidence.mark`.
    var marks: Bool { form.evidence == .mark && shape.wantsOutcomes && shape.action == .update }

    private var mark: String { markName(of: layout.quotedName) }

    /// ` WHERE set_config(...)`: true, and done anew for each row.
    var resetMark: String { marks ? " WHERE set_config('\(mark)', '0', true) IS NOT NULL" : "" }

    /// DO NOTHING writes no rows but new ones.
    var insertedExpression: String {
        if shape.action == .nothing { return "true" }
        return switch form.evidence {
        case .oldRow: "(\(oldRow).tableoid IS NULL)"
        case .lock: "(xmax = 0)"
        case .mark: "(current_setting('\(mark)', true) = '0')"
        }
    }

    // A table of one of these names hides the alias.
    private var hidesOldRow: Bool { ["old", "new"].contains { layout.name.utf8.elementsEqual($0.utf8) } }
    private var oldRow: String { hidesOldRow ? "upsert_old" : "old" }

    /// ` RETURNING `
    var returning: String {
        hidesOldRow && form.evidence == .oldRow ? " RETURNING WITH (OLD AS upsert_old) " : " RETURNING "
    }

    /// The columns asked for, and then those of the old row.
    var returnedColumns: [String] {
        let columns = shape.returning.map { layout.quotedColumns[$0] }
        return shape.wantsOldRow ? columns + columns.map { "\(oldRow).\($0)" } : columns
    }
}
