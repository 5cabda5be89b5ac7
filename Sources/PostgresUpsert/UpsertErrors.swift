public import Postgres

extension UpsertDefinition {
    /// The same error, with what it means for an upsert where the server's own words do not say it. They stay in
    /// `error.server`.
    @usableFromInline @inline(never)
    func explain(_ error: PostgresError) -> PostgresError { explain(error, nil) }

    /// - Parameter indexes: those of the table, if they are known.
    func explain(_ error: PostgresError, _ indexes: [UpsertUniqueIndex]?) -> PostgresError {
        guard let server = error.server else { return error }
        let table = "table \"\(layout.name)\""
        switch server.sqlState {
        case "42P10":
            if case .any = shape.target { return error }
            guard case .index = shape.target else {
                let key = (shape.conflictKey(layout) ?? []).map { layout.quotedColumns[$0] }.joined(separator: ", ")
                return error.ofMissingIndex(
                    layout.name, layout.quotedName, key: key,
                    "; a partial index also needs its predicate: onConflict(..., where:)")
            }
            return error.with(
                message: "\(table) has no unique index over the expressions that the upsert conflicts by",
                hint: "onIndex(...) must hold the same expressions as the index, and the predicate of a partial one")
        case "21000" where server.routine == "ExecOnConflictUpdate" && shape.conflictKey(layout) == nil:
            return error.with(
                message: "\(table): two rows of one statement have the same key, which only the server knows",
                hint: "name the columns, onConstraint(\"name\", \\.column), or upsert such rows one after another")
        case "21000" where server.routine == "ExecOnConflictUpdate":
            return error.with(
                message:
                    "\(table): two rows of one statement have the same key for the server, though they were sent as"
                    + " different bytes",
                hint: "as citext, numeric 1.0 and 1.00, or a collation that ignores case: merge such rows first")
        case "42704":
            guard let name = shape.constraint, server.message.contains(name) else { return error }
            return error.with(
                message: "\(table) has no constraint \(quoted(name)), which the upsert conflicts by",
                hint: "a unique index that was made by itself is no constraint: name its columns, onConflict(...)")
        case "42809" where server.routine == "infer_arbiter_indexes":
            guard let name = shape.constraint else { return error }
            // Its messages are in the server's language.
            let isExclusion =
                indexes?.contains { $0.isExclusion && $0.constraint == name } ?? server.message.contains("exclusion")
            guard isExclusion else {
                return error.with(
                    message:
                        "\(table): the upsert cannot conflict by the constraint \(quoted(name)): \(server.message)",
                    hint:
                        "by a primary key or a unique constraint it can; by an exclusion constraint only with"
                        + " doNothing(onExclusionConstraint:)")
            }
            return error.with(
                message:
                    "\(table): \(quoted(name)), by which the upsert conflicts, is an exclusion constraint, which goes with"
                    + " DO NOTHING only",
                hint: "doNothing(onExclusionConstraint: \"\(name)\")")
        case "23505" where server.table == nil || server.table == layout.name:
            return error.ofOtherConstraint(
                server, layout.name, "; doNothing() with onAnyConflict() leaves out rows that conflict by any")
        case "23502" where server.column == nil, "23514" where server.column == nil:
            return undeclaredDomain(error, server) ?? error
        case _ where shape.contradictsEvidence(server):
            return error.with(
                message: "\(table): the server and the table are not those that its outcomes were prepared for",
                hint: "run it again; before a query joins a pipeline: db.prepareOutcomes(of: \(Row.self).self)")
        case "42804":
            return error.with(
                hint:
                    "declare the column's SQL type: Column(\"name\", \\.name, type: \"jsonb\"); a String in a batch is text"
            )
        case "428C9":
            return error.with(
                hint:
                    "declare the column as .generated, or as .identity; an identity column is sent when rows conflict by it,"
                    + " and then needs overriding(.systemValue) if it is GENERATED ALWAYS"
            )
        default: return error
        }
    }
}

extension UpsertDefinition {
    /// doSelect() by a key that is compared by way of a row of the table: all columns that are not declared are NULL in it, and one of
    /// them has a domain that forbids that. Nil if it was something else.
    private func undeclaredDomain(_ error: PostgresError, _ server: PostgresError.Server) -> PostgresError? {
        guard shape.action == .select, let domain = server.dataType,
            let index = shape.conflictKey(layout)?.first(where: { isComparedByRow(layout.columns[$0]) })
        else { return nil }
        let key = layout.columns[index]
        return error.with(
            message:
                "table \"\(layout.name)\": doSelect() compares key column \"\(key.name)\" by way of a row of the table, in"
                + " which a column of domain \(quoted(domain)) has no value: \(server.message)",
            hint:
                "declare the column of that domain; or, if the key column's type has no length or precision, that type:"
                + " Column(\"\(key.name)\", ..., type: \"float4\"), say")
    }
}

extension PostgresError {
    /// 42P10: there is no unique index over the key.
    func ofMissingIndex(_ table: String, _ quotedTable: String, key: String, _ more: String = "") -> PostgresError {
        with(
            message: "table \"\(table)\" has no unique index over exactly (\(key)), which the upsert conflicts by",
            hint: "CREATE UNIQUE INDEX ON \(quotedTable) (\(key))\(more)")
    }

    /// 23505: a row conflicts by something else than the key.
    func ofOtherConstraint(_ server: Server, _ table: String, _ more: String = "") -> PostgresError {
        let constraint = server.constraint.map { quoted($0) } ?? "a constraint"
        return with(
            message:
                "table \"\(table)\": a row conflicts by \(constraint), which is not the conflict target of the upsert: "
                + server.message,
            hint: "an upsert has one target\(more)")
    }
}

extension UpsertShape {
    /// Whether there is no such unique index or constraint.
    func lacksIndex(_ error: PostgresError) -> Bool {
        switch (error.sqlState, target) {
        case ("42P10", .any): false
        case ("42P10", _), ("42704", .constraint), ("42704", .exclusion): true
        // It is there, but it is of another kind.
        case ("42809", .constraint), ("42809", .exclusion): error.server?.routine == "infer_arbiter_indexes"
        default: false
        }
    }

    /// The constraint that rows conflict by, if it is named.
    var constraint: String? {
        switch target {
        case .constraint(let name, _), .exclusion(let name): name
        case .primaryKey, .columns, .index, .any: nil
        }
    }

    /// Whether `updateFirst()` took a view for a table.
    func lacksSystemColumns(_ server: PostgresError.Server) -> Bool {
        updatesFirst && server.sqlState == "42703" && names(in: server.message).contains { $0 == "tableoid" }
    }

    /// Whether the server refused what outcomes were to be told by: it is of another version than was known, or the table of
    /// another kind.
    func contradictsEvidence(_ server: PostgresError.Server) -> Bool {
        if lacksSystemColumns(server) { return true }
        guard needsEvidence else { return false }
        return switch server.sqlState {
        // A partitioned table has no xmax: tts_virtual_getsysattr, ExecInterpExpr's callers.
        case "0A000": server.routine?.hasSuffix("getsysattr") == true
        // No such alias, before 18; a view without system columns.
        case "42P01": names(in: server.message).contains { $0 == "old" }
        case "42703": names(in: server.message).contains { $0 == "xmax" || $0 == "tableoid" }
        default: false
        }
    }
}

/// The words of a message that may be names; the others depend on the server's language.
private func names(in message: String) -> [Substring] {
    message.split { !($0.isLetter || $0.isNumber || $0 == "_" || $0 == "$") }
}

extension TableLayout {
    /// Why the old row cannot be had.
    func noOldRow(_ facts: TableFacts) -> PostgresError {
        let reason =
            facts.version < 180_000 ? "this server is \(facts.version / 10_000), and it needs 18" : "this is a view"
        return PostgresError(
            code: .unsupported, message: "table \"\(name)\": the old columns of a row cannot be returned: \(reason)",
            hint: "leave returningChange(...) out; returning(...) works everywhere")
    }
}
