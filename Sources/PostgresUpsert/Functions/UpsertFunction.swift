public import Postgres

/// An upsert as functions of the database, one for a row and one for arrays of rows: made from the upsert, so that the SQL is
/// written once, and programs in other languages can call what this one does.
///
/// ```swift
/// let function = UpsertFunction("bump_page", PageStats.bump)
/// print(function.sql)      // CREATE OR REPLACE FUNCTION "public"."bump_page_5d0c..."("page_stats"."path"%TYPE, int8) ...
/// let bump = try await db.install(function)          // an upsert that calls it
/// try await db.upsert(bump(page))
/// try await db.upsert(bump.rows(pages))
/// ```
/// The functions' names end in a hash of what they do. So a new version of a program brings new functions, and the old version goes on
/// calling its own, until `dropStaleVersions(of:)`.
///
/// They are written in PL/pgSQL, which keeps the plans of its statements, and run with the rights and the `search_path` of their caller.
/// Put modifiers on the upsert before the function is made: an upsert that calls it takes none.
public struct UpsertFunction<Row: PostgresTable, Output>: Sendable {
    /// The name without the hash.
    public let name: String
    public let schema: String
    let upsert: Upsert<Row, Output>

    /// - Parameters:
    ///   - name: at most 41 bytes, without quotes.
    ///   - schema: an existing one, without quotes.
    ///   - upsert: its rows are not used.
    public init(_ name: String, in schema: String = "public", _ upsert: Upsert<Row, Output>) {
        self.name = name
        self.schema = schema
        self.upsert = upsert
    }

    /// The statements that make the functions. Of an upsert that asks for outcomes they depend on the server, and are those of the
    /// server that was asked last.
    public var sql: String {
        do throws(PostgresError) {
            return try versions().map { $0.definition + ";\n" }.joined(separator: "\n")
        } catch {
            return "-- \(error.message)"
        }
    }

    /// Why the functions cannot be made; nil when they can.
    public var error: PostgresError? {
        do throws(PostgresError) {
            _ = try versions()
            return nil
        } catch {
            return error
        }
    }

    /// The function for a row, and that for arrays where the columns can be such.
    func versions() throws(PostgresError) -> [UpsertFunctionVersion<Row>] {
        for identifier in [name, schema] { if let error = checkIdentifier(identifier) { throw error } }
        guard name.utf8.count <= 41 else {
            throw .upsert("the function's name \"\(name)\" is longer than 41 bytes, which leave room for its hash")
        }
        let definition = upsert.definition
        guard definition.layout.fieldColumns.isEmpty else {
            throw PostgresError(
                code: .unsupported,
                message: "table \"\(definition.layout.name)\": a function takes all columns, and some may be absent",
                hint: "declare a row type without UpsertField")
        }
        guard !definition.shape.updatesFirst else {
            throw PostgresError(
                code: .unsupported,
                message: "table \"\(definition.layout.name)\": updateFirst() cannot be made a function",
                hint: "leave it out, or call the plain upsert")
        }
        var versions = [try UpsertFunctionVersion(name, schema, plan(.row))]
        if definition.source() == .arrays {
            versions.append(try UpsertFunctionVersion(name + "_rows", schema, plan(.arrays)))
        }
        return versions
    }

    private func plan(_ source: UpsertForm.Source) -> UpsertPlan<Row> {
        let definition = upsert.definition
        return definition.plan(UpsertForm(source: source, evidence: definition.evidence, holdsTexts: true))
    }

    /// The upsert that calls the functions.
    func call() throws(PostgresError) -> Upsert<Row, Output> {
        let plans = try versions().map { $0.call }
        return Upsert(
            rows: upsert.rows, definition: UpsertDefinition(upsert.definition, calls: plans), output: upsert.output)
    }
}

/// One function: its text, its name by that, and the statement that calls it.
struct UpsertFunctionVersion<Row>: Sendable {
    /// `"public"."bump_page_5d0c8a9b1f2e3d4c"`
    let quotedName: String
    let name: String
    /// `CREATE OR REPLACE FUNCTION ...`
    let definition: String
    let call: UpsertPlan<Row>

    init(_ base: String, _ schema: String, _ plan: UpsertPlan<Row>) throws(PostgresError) {
        if let failure = plan.failure { throw failure }
        let writer = UpsertFunctionText(plan)
        let parameters = try writer.parameters()
        let results = writer.results()
        let rest = writer.rest(parameters, results)
        let name = "\(base)_\(hexadecimal(stableHash(rest)))"
        self.name = name
        quotedName = "\(quoted(schema)).\(quoted(name))"
        definition = "CREATE OR REPLACE FUNCTION \(quotedName)\(rest)"
        let arguments = parameters.indices.map { "$\($0 + 1)" }.joined(separator: ", ")
        let names = results.map { quoted($0.name) }.joined(separator: ", ")
        let sql =
            results.isEmpty
            ? "SELECT FROM \(quotedName)(\(arguments))"
            : "SELECT * FROM \(quotedName)(\(arguments)) AS upsert_result(\(names))"
        call = UpsertPlan(plan, calling: sql)
    }
}
