public import Postgres

extension UpsertFunction {
    /// By what its versions are known, so that no other function is ever dropped.
    fileprivate var comment: String { "postgres-swift upsert \(quoted(name)) of table \(Row.table.layout.quotedName)" }
}

extension PostgresExecutor {
    /// Makes the functions of an upsert, unless they are there: in one transaction, whoever does the same at the same time.
    ///
    /// SQL: a query on `pg_proc`; if one is missing `CREATE OR REPLACE FUNCTION ...` and `COMMENT ON FUNCTION ...`. Where they are there
    /// no right to create functions is needed.
    ///
    /// Functions keep the types that columns had when they were made: after an ALTER COLUMN ... TYPE drop and install them.
    ///
    /// - Returns: an upsert that calls them: `SELECT * FROM "public"."bump_page_..."($1, $2)`. It runs wherever an upsert does. Rows
    ///   that cannot travel as arrays are sent by the plain statement.
    @discardableResult
    public func install<Row, Output>(
        _ function: UpsertFunction<Row, Output>
    ) async throws(PostgresError) -> Upsert<Row, Output> {
        try await prepare(function)
        let versions = try function.versions()
        let missing = try await missing(versions, function.schema)
        guard !missing.isEmpty else { return try function.call() }
        var pipeline = PostgresPipeline(.atomic)
        // Two that replace the same function at the same time disturb each other.
        pipeline.add("SELECT pg_advisory_xact_lock(\(Int64(bitPattern: stableHash(function.comment))))")
        for version in missing {
            pipeline.add("\(unsafeSQL: version.definition)")
            pipeline.add(
                "COMMENT ON FUNCTION \(unsafeSQL: version.quotedName) IS \(unsafeSQL: literal(function.comment))")
        }
        try await run(pipeline).check()
        return try function.call()
    }

    /// The text of an upsert that asks for outcomes depends on the server.
    private func prepare<Row, Output>(_ function: UpsertFunction<Row, Output>) async throws(PostgresError) {
        let definition = function.upsert.definition
        guard definition.shape.needsEvidence, definition.layout.memory.facts == nil else { return }
        try await prepareOutcomes(of: Row.self)
    }

    private func missing<Row>(
        _ versions: [UpsertFunctionVersion<Row>], _ schema: String
    ) async throws(PostgresError) -> [UpsertFunctionVersion<Row>] {
        let found = try await query(
            """
            SELECT p.proname::text FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n \
            ON n.oid = p.pronamespace WHERE n.nspname = \(schema) AND p.proname = ANY(\(versions.map(\.name))::text[])
            """, as: String.self
        ).all()
        return versions.filter { !found.contains($0.name) }
    }

    /// Drops the functions of other versions of an upsert. Do it when no program calls them any more: whoever does gets
    /// `undefinedFunction`.
    ///
    /// SQL: `DROP FUNCTION ...`, for functions of the same name and table with another hash, whose comment is that of `install`.
    ///
    /// - Returns: their names and the types of their parameters, with schemas.
    @discardableResult
    public func dropStaleVersions<Row, Output>(
        of function: UpsertFunction<Row, Output>
    ) async throws(PostgresError) -> [String] {
        try await prepare(function)
        let current = try function.versions().map(\.name)
        // Whole names: the connection of a pool that drops them may have another search_path than the one that asks.
        let stale = try await query(
            """
            SELECT format('%I.%I(%s)', n.nspname, p.proname, (SELECT string_agg(format('%I.%I', tn.nspname, t.typname), \
            ', ' ORDER BY a.number) FROM unnest(p.proargtypes) WITH ORDINALITY AS a(type, number) \
            JOIN pg_catalog.pg_type AS t ON t.oid = a.type JOIN pg_catalog.pg_namespace AS tn \
            ON tn.oid = t.typnamespace)) FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n \
            ON n.oid = p.pronamespace WHERE n.nspname = \(function.schema) \
            AND starts_with(p.proname, \(function.name) || '_') \
            AND substr(p.proname, length(\(function.name)) + 2) ~ '^(rows_)?[0-9a-f]{16}$' \
            AND p.proname <> ALL(\(current)::text[]) \
            AND obj_description(p.oid, 'pg_proc') = \(function.comment) ORDER BY 1
            """, as: String.self
        ).all()
        guard !stale.isEmpty else { return [] }
        var pipeline = PostgresPipeline(.atomic)
        for name in stale { pipeline.add("DROP FUNCTION IF EXISTS \(unsafeSQL: name)") }
        try await run(pipeline).check()
        return stale
    }
}
