import Postgres

// Manual, "INSERT", section "ON CONFLICT Clause".

extension UpsertSQL {
    /// An upsert of one row without a declaration; everything is quoted already.
    static func keyed(
        into table: String, names: [String], values: [String], key: String, assignments: [String]
    ) -> String {
        "INSERT INTO \(table) (\(names.joined(separator: ", "))) VALUES (\(values.joined(separator: ", ")))"
            + " ON CONFLICT (\(key)) DO UPDATE SET \(assignments.joined(separator: ", "))"
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
        case .constraint(let name, _), .exclusion(let name): sql += " ON CONSTRAINT \(quoted(name))"
        case .index(let expressions, let predicate):
            sql += " ("
            try append(expressions)
            sql += ")"
            try appendPredicate(predicate)
        case .any: break
        }
        switch resolved.action {
        case .nothing, .select: sql += " DO NOTHING"
        case .update:
            sql += " DO UPDATE SET "
            try appendAssignments()
            try appendFilter(" WHERE ")
        }
    }

    /// `"a" = EXCLUDED."a", "b" = now()`
    mutating func appendAssignments() throws(PostgresError) {
        for (number, assignment) in resolved.assignments.enumerated() {
            if number > 0 { sql += ", " }
            let column = layout.quotedColumns[assignment.column]
            sql += "\(column) = "
            if case .now = assignment.value, shape.touchesOnlyChanged {
                sql += "CASE WHEN "
                try appendChangeGuard("touchOnlyChanged()")
                sql += " THEN now() ELSE \(layout.existing).\(column) END"
            } else {
                try append(assignment.value, of: assignment.column)
            }
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

    mutating func appendFilter(_ keyword: String, marking isMarking: Bool = true) throws(PostgresError) {
        let marks = marks && isMarking
        var keyword = keyword
        if let filter = shape.filter {
            var condition = UpsertFragment(text: "")
            if shape.onlyIfChanged || marks || keyword != " WHERE " {
                condition.append(operand: filter)
            } else {
                condition.append(filter)
            }
            sql += keyword
            try append(condition)
            keyword = " AND "
        }
        if shape.onlyIfChanged {
            sql += keyword
            try appendChangeGuard("ifChanged()")
            keyword = " AND "
        }
        if marks { sql += "\(keyword)set_config('\(mark)', '1', true) IS NOT NULL" }
    }

    /// `("t"."a", "t"."b") IS DISTINCT FROM (EXCLUDED."a", EXCLUDED."b")`; a touch column is no change.
    private mutating func appendChangeGuard(_ modifier: String) throws(PostgresError) {
        let compared = resolved.assignments.filter { if case .now = $0.value { false } else { true } }
        guard !compared.isEmpty else {
            throw .upsert("table \"\(layout.name)\": \(modifier) has no column to compare")
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
                        "table \"\(layout.name)\": \(modifier) cannot compare column"
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

    mutating func append(_ value: ResolvedUpsert.Assignment, of index: Int) throws(PostgresError) {
        switch value {
        case .excluded: sql += "EXCLUDED.\(layout.quotedColumns[index])"
        case .now: sql += "now()"
        case .fragment(let fragment): try append(fragment)
        }
    }

    /// How many parameters hold rows; those of the shape come behind them.
    private var rowParameters: Int {
        switch form.source {
        case .row, .arrays: resolved.sent.count
        case .values(let count): resolved.sent.count * count
        case .stage: 0
        }
    }

    mutating func append(_ fragment: UpsertFragment) throws(PostgresError) {
        if let failure = fragment.failure { throw failure }
        for piece in fragment.pieces {
            switch piece {
            case .text(let text): sql += text
            case .parameter(let parameter) where form.holdsTexts && parameter.type.oid == 0:
                sql += parameter.bytes.map { literal(String(decoding: $0, as: UTF8.self)) } ?? "NULL"
            case .parameter(let parameter):
                constants.append(parameter)
                sql += "$\(rowParameters + constants.count)"
            }
        }
    }
}
