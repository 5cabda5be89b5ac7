import Postgres

/// A statement's text, and what it answers.
struct UpsertStatement: Sendable {
    /// What comes back. Columns of the table come first, in the order they were asked for.
    enum Answer: Sendable {
        /// No rows; the count is in the command tag.
        case count
        /// A row for each row written, in the order they were sent; with outcomes, one more column: inserted.
        case ordered
        /// A row for each row sent, written or not; four more columns: ordinal from 1, the same of the written row (NULL: none),
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
        if resolved.action == .select {
            guard form.source == .row else { throw layout.oneByOne("doSelect()") }
            return try writer.selectedRow()
        }
        if shape.updatesFirst, resolved.action == .update { return try writer.updatedFirst() }
        switch form.source {
        case .row: return try writer.oneRow()
        case .values(let count): return try writer.valueRows(count)
        case .arrays, .stage:
            if shape.returnsRows, form.isNumbered || shape.mayLeaveRowsOut(resolved.action) {
                return try writer.matchedRows()
            }
            return try form.source == .arrays ? writer.manyRows() : writer.stagedRows()
        }
    }

    /// `INSERT INTO "t" ("a", "b") VALUES ($1, $2) ON CONFLICT ("a") DO UPDATE SET "b" = EXCLUDED."b"`
    private mutating func oneRow() throws(PostgresError) -> UpsertStatement {
        let row = values(row: 0)
        sql = insertInto + (marks ? " SELECT \(row) WHERE \(resetMark)" : " VALUES (\(row))")
        try appendConflict()
        return finishOrdered()
    }

    /// `INSERT INTO "t" ("a", "b") VALUES ($1, $2), ($3, $4) ON CONFLICT ...`: the columns' types reach the parameters.
    private mutating func valueRows(_ count: Int) throws(PostgresError) -> UpsertStatement {
        if let reason = UpsertSQL.cannotBeValues(shape, resolved.action, form.evidence) {
            throw PostgresError(
                code: .unsupported, message: "table \"\(layout.name)\": rows that cannot be arrays \(reason)",
                hint: "run the upsert by itself, outside of a pipeline: it is then made of a statement for each row")
        }
        let rows = (0..<count).map { "(\(values(row: $0)))" }.joined(separator: ", ")
        sql = "\(insertInto) VALUES \(rows)"
        try appendConflict()
        return finishOrdered()
    }

    /// Why rows cannot be told apart that are a list of VALUES; nil when they can.
    static func cannotBeValues(
        _ shape: UpsertShape, _ action: UpsertShape.Action, _ evidence: OutcomeEvidence
    ) -> String? {
        if shape.returnsRows, shape.mayLeaveRowsOut(action) { return "cannot be matched to those left out" }
        if evidence == .mark, shape.wantsOutcomes { return "cannot be marked one by one" }
        return nil
    }

    /// `$1, $2::jsonb, now()`
    ///
    /// - Parameter compared: whether they are compared with stored values.
    func values(row: Int, compared: Bool = false) -> String {
        let values = resolved.sent.enumerated().map { number, index in
            let column = layout.columns[index]
            let type = compared ? column.comparedType : column.castType
            return "$\(row * resolved.sent.count + number + 1)" + (type.map { "::" + $0 } ?? "")
        }
        return (values + resolved.stamped.map { _ in "now()" }).joined(separator: ", ")
    }

    /// `INSERT INTO "t" ("a", "b") SELECT * FROM unnest($1::text[], $2::int8[]) ON CONFLICT ...`: one text for every number of
    /// rows.
    private mutating func manyRows() throws(PostgresError) -> UpsertStatement {
        let stamps = resolved.stamped.map { _ in ", now()" }.joined()
        sql = "\(insertInto) SELECT *\(stamps) FROM \(try unnest())" + (marks ? " WHERE \(resetMark)" : "")
        try appendConflict()
        return finishOrdered()
    }

    /// `INSERT INTO "t" ("a", "b")`
    var insertInto: String {
        let names = (resolved.sent + resolved.stamped).map { layout.quotedColumns[$0] }.joined(separator: ", ")
        let alias = layout.existing == quoted(layout.name) ? "" : " AS \(layout.existing)"
        let overriding = shape.overriding.map { " OVERRIDING \($0.rawValue)" } ?? ""
        return "INSERT INTO \(layout.quotedName)\(alias) (\(names))\(overriding)"
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
                        + " and unnest would flatten it",
                    hint: "leave the choice to strategy(.automatic), or use .values")
            }
            arrays.append("$\(number + 1)" + element.casts)
        }
        return "unnest(\(arrays.joined(separator: ", ")))"
    }

    func finishOrdered() -> UpsertStatement {
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
    var marks: Bool { form.evidence == .mark && shape.wantsOutcomes && resolved.action == .update }

    var mark: String { markName(of: layout.quotedName) }

    /// A condition that is true, and done anew for each row.
    var resetMark: String { "set_config('\(mark)', '0', true) IS NOT NULL" }

    /// DO NOTHING writes no rows but new ones.
    var insertedExpression: String {
        if resolved.action == .nothing { return "true" }
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
