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

/// How inserted is told from updated, below PostgreSQL 18 and on tables that are not partitioned: a row that was inserted has
/// never been locked or deleted, so its `xmax` is 0; DO UPDATE leaves its own lock there. DO NOTHING writes no others.
func insertedExpression(_ action: UpsertShape.Action) -> String { action == .nothing ? "true" : "(xmax = 0)" }

struct UpsertSQL<Row> {
    let layout: TableLayout<Row>
    let shape: UpsertShape
    let resolved: ResolvedUpsert
    var sql = ""
    var constants: [UpsertFragment.Parameter] = []

    init(_ shape: UpsertShape, _ resolved: ResolvedUpsert, _ layout: TableLayout<Row>) {
        self.layout = layout
        self.shape = shape
        self.resolved = resolved
    }

    /// `INSERT INTO "t" ("a", "b") VALUES ($1, $2) ON CONFLICT ("a") DO UPDATE SET "b" = EXCLUDED."b"`
    static func oneRow(
        _ shape: UpsertShape, _ resolved: ResolvedUpsert, _ layout: TableLayout<Row>
    ) throws(PostgresError) -> UpsertStatement {
        var writer = UpsertSQL(shape, resolved, layout)
        let values = resolved.sent.enumerated().map { number, index in
            "$\(number + 1)" + (layout.columns[index].declaredType.map { "::" + $0 } ?? "")
        }
        let stamps = resolved.stamped.map { _ in "now()" }
        writer.sql = "\(writer.insertInto) VALUES (\((values + stamps).joined(separator: ", ")))"
        try writer.appendConflict()
        return writer.finishOrdered()
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
    static func manyRows(
        _ shape: UpsertShape, _ resolved: ResolvedUpsert, _ layout: TableLayout<Row>
    ) throws(PostgresError) -> UpsertStatement {
        if shape.returnsRows, shape.mayLeaveRowsOut { return try matchedRows(shape, resolved, layout) }
        var writer = UpsertSQL(shape, resolved, layout)
        let stamps = resolved.stamped.map { _ in ", now()" }.joined()
        writer.sql = "\(writer.insertInto) SELECT *\(stamps) FROM \(try writer.unnest())"
        try writer.appendConflict()
        return writer.finishOrdered()
    }

    /// The form that tells which of many rows were left out. An INSERT can return columns of its table only, so an ordinal
    /// cannot pass through it: the rows written are joined to the rows sent by the key, as the server compares it.
    private static func matchedRows(
        _ shape: UpsertShape, _ resolved: ResolvedUpsert, _ layout: TableLayout<Row>
    ) throws(PostgresError) -> UpsertStatement {
        var writer = UpsertSQL(shape, resolved, layout)
        // Under DO NOTHING each written row was inserted, and so holds the primary key that was sent. A row that was updated
        // holds the key it conflicted by, and may hold another primary key.
        let key = resolved.conflictKey ?? (shape.action == .nothing ? resolved.sortKey : [])
        guard !key.isEmpty else {
            throw .upsert(
                "table \"\(layout.name)\": outcomes of many rows that may be left out need to know the key columns",
                hint: "name them: .onConflict(\\.column), or .onConstraint(\"name\", \\.column)")
        }
        let positions = resolved.sent.indices
        let names = positions.map { "c\($0 + 1)" }
        let stamps = resolved.stamped.map { _ in "now()" }
        writer.sql =
            "WITH upsert_input AS (SELECT * FROM \(try writer.unnest()) WITH ORDINALITY AS i("
            + (names + ["n"]).joined(separator: ", ") + ")), upsert_written AS (" + writer.insertInto + " SELECT "
            + (names + stamps).joined(separator: ", ") + " FROM upsert_input ORDER BY n"
        try writer.appendConflict()
        let keys = key.enumerated().map { "\(layout.quotedColumns[$1]) AS k\($0 + 1)" }
        let returned = shape.returning.enumerated().map { "\(layout.quotedColumns[$1]) AS r\($0 + 1)" }
        let inserted = shape.wantsOutcomes ? [insertedExpression(shape.action) + " AS inserted"] : []
        writer.sql += " RETURNING " + (keys + returned + inserted).joined(separator: ", ") + ") SELECT "
        let results = shape.returning.enumerated().map { "w.r\($0 + 1) AS \(layout.quotedColumns[$1])" }
        let facts =
            ["i.n", "w.w", "(SELECT count(*) FROM upsert_written)"] + (shape.wantsOutcomes ? ["w.inserted"] : [])
        let conditions = key.enumerated().map { number, index in
            let position = resolved.sent.firstIndex(of: index) ?? 0
            return "w.k\(number + 1) = " + writer.asColumnType(index, "i.c\(position + 1)")
        }
        writer.sql +=
            (results + facts).joined(separator: ", ")
            + " FROM upsert_input AS i LEFT JOIN (SELECT *, row_number() OVER () AS w FROM upsert_written) AS w ON "
            + conditions.joined(separator: " AND ") + " ORDER BY i.n"
        return UpsertStatement(sql: writer.sql, constants: writer.constants, answer: .matched)
    }

    /// `INSERT INTO "t" ("a", "b")`
    private var insertInto: String {
        let names = (resolved.sent + resolved.stamped).map { layout.quotedColumns[$0] }.joined(separator: ", ")
        let alias = layout.existing == quoted(layout.name) ? "" : " AS \(layout.existing)"
        return "INSERT INTO \(layout.quotedName)\(alias) (\(names))"
    }

    /// `unnest($1::text[], $2::text[]::jsonb[])`
    private func unnest() throws(PostgresError) -> String {
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

    /// A value sent for a column, as the column's own type. `text = citext` compares as text, which is not how the key was
    /// compared, and a float4 or timestamp(0) column does not hold what was sent.
    private func asColumnType(_ index: Int, _ value: String) -> String {
        let column = layout.columns[index]
        if column.declaredType != nil || hasOneForm(column.type) { return value }
        let record = "jsonb_build_object(\(literal(column.name)), \(value))"
        return "(jsonb_populate_record(NULL::\(layout.quotedName), \(record))).\(layout.quotedColumns[index])"
    }

    /// ` ON CONFLICT ("a") DO UPDATE SET "b" = EXCLUDED."b" WHERE ...`
    private mutating func appendConflict() throws(PostgresError) {
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
        guard shape.filter != nil || shape.onlyIfChanged else { return }
        sql += " WHERE "
        if let filter = shape.filter {
            var condition = UpsertFragment(text: "")
            if shape.onlyIfChanged { condition.append(operand: filter) } else { condition.append(filter) }
            try append(condition)
            if shape.onlyIfChanged { sql += " AND " }
        }
        if shape.onlyIfChanged { try appendChangeGuard() }
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
        let columns = shape.returning.map { layout.quotedColumns[$0] }
        let inserted = shape.wantsOutcomes ? [insertedExpression(shape.action)] : []
        return UpsertStatement(
            sql: sql + " RETURNING " + (columns + inserted).joined(separator: ", "), constants: constants,
            answer: .ordered)
    }
}

/// Types in which equal values of the Swift type and of the column are equal for the server, whatever the column's width.
private func hasOneForm(_ type: PostgresType) -> Bool {
    [PostgresType.bool, .bytea, .int2, .int4, .int8, .oid, .uuid].contains { $0.oid == type.oid }
}

/// A name as a string literal; correct whatever `standard_conforming_strings` says.
private func literal(_ text: String) -> String {
    var escaped = ""
    var hasBackslash = false
    for scalar in text.unicodeScalars {
        if scalar == "'" || scalar == "\\" { escaped.unicodeScalars.append(scalar) }
        if scalar == "\\" { hasBackslash = true }
        escaped.unicodeScalars.append(scalar)
    }
    return (hasBackslash ? "E'" : "'") + escaped + "'"
}
