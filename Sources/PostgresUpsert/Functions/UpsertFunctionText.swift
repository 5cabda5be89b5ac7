import Postgres

/// Writes a function around a statement, whose parameters become the function's (manual, "CREATE FUNCTION", "PL/pgSQL").
struct UpsertFunctionText<Row> {
    struct Result {
        /// How the caller knows the column.
        var name: String
        var type: String
    }

    let plan: UpsertPlan<Row>
    private var layout: TableLayout<Row> { plan.layout }

    init(_ plan: UpsertPlan<Row>) { self.plan = plan }

    /// The types of the parameters: what the values of the columns are sent as, and then the constants of the upsert.
    func parameters() throws(PostgresError) -> [String] {
        var types: [String] = []
        for (position, column) in plan.columns.enumerated() {
            if plan.form.source == .arrays {
                guard let element = builtInTypeName(plan.elements[position].elementOID) else {
                    throw unnamed(column)
                }
                types.append(element + "[]")
            } else if column.type.oid == 0, column.declaredType == nil {
                // Sent without a type: it gets the column's.
                types.append(typeOf(column.name))
            } else if let name = typeName(column.type.oid == 0 ? PostgresType.text.oid : column.type.oid) {
                types.append(name)
            } else {
                throw unnamed(column)
            }
        }
        for constant in plan.constants {
            guard let name = typeName(constant.type.oid == 0 ? PostgresType.text.oid : constant.type.oid) else {
                throw PostgresError(
                    code: .unsupported,
                    message: "table \"\(layout.name)\": a constant of the upsert is of a type without a name here"
                        + " (OID \(constant.type.oid))", hint: "write it into the SQL: .sql(\"...\")")
            }
            types.append(name)
        }
        return types
    }

    private func typeName(_ oid: UInt32) -> String? {
        builtInTypeName(oid) ?? builtInElementName(ofArray: oid).map { $0 + "[]" }
    }

    /// `"page_stats"."path"%TYPE`
    private func typeOf(_ column: String) -> String { "\(layout.quotedName).\(quoted(column))%TYPE" }

    private func unnamed(_ column: Column<Row>) -> PostgresError {
        PostgresError(
            code: .unsupported,
            message: "table \"\(layout.name)\": column \"\(column.name)\" is of a type without a name here (OID"
                + " \(column.type.oid))", hint: "call the plain upsert instead")
    }

    /// The columns of the answer; none when only the count is of interest.
    func results() -> [Result] {
        let shape = plan.shape
        let columns = shape.returning.map { layout.columns[$0].name }
        var results = columns.map { Result(name: $0, type: typeOf($0)) }
        if shape.wantsOldRow { results += columns.map { Result(name: "old_" + $0, type: typeOf($0)) } }
        let facts: [(String, String)] =
            switch plan.answer {
            case .count: []
            case .ordered: [("upsert_inserted", "bool")]
            case .matched:
                [
                    ("upsert_n", "int8"), ("upsert_written", "int8"), ("upsert_count", "int8"),
                    ("upsert_inserted", "bool"),
                ]
            }
        let wanted = shape.wantsOutcomes || shape.action == .select ? facts : Array(facts.dropLast())
        return results + wanted.map { Result(name: $0.0, type: $0.1) }
    }

    /// All of the statement behind the function's name.
    func rest(_ parameters: [String], _ results: [Result]) -> String {
        let table = results.enumerated().map { "upsert_\($0 + 1) \($1.type)" }.joined(separator: ", ")
        let returns = results.isEmpty ? "SETOF bool" : "TABLE (\(table))"
        // A count cannot be the tag of a SELECT, a number of rows can.
        let body =
            results.isEmpty
            ? """
            DECLARE upsert_affected int8;
            BEGIN
                \(plan.text.sql);
                GET DIAGNOSTICS upsert_affected = ROW_COUNT;
                RETURN QUERY SELECT true FROM generate_series(1, upsert_affected);
            END
            """
            : """
            BEGIN
                RETURN QUERY \(plan.text.sql);
            END
            """
        var quote = "$upsert$"
        while body.contains(quote) { quote = "$upsert" + quote.dropFirst(7).dropLast() + "_$" }
        return """
            (\(parameters.joined(separator: ", "))) RETURNS \(returns) LANGUAGE plpgsql AS \(quote)
            #variable_conflict use_column
            \(body)
            \(quote)
            """
    }
}
