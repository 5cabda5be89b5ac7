public import Postgres

extension PostgresExecutor {
    /// Runs a batch that asks for nothing back: one statement, or several that are one transaction and one round trip.
    @usableFromInline
    func upsertBatch<Row>(
        _ upsert: Upsert<Row, Never>
    ) async throws(PostgresError) -> (affected: Int, bytes: Int) {
        if case .many(let rows) = upsert.rows, rows.isEmpty {
            if let error = upsert.error { throw error }
            return (0, 0)
        }
        if upsert.definition.batching.strategy == .copy {
            return (try await staged(upsert) { (rows, _, _) throws(PostgresError) in try rows.affected }, 0)
        }
        let batch = try upsert.batch()
        let bytes = batch.statements.reduce(0) { $0 + $1.bytes }
        let affected = try await retrying(upsert.definition.batching.retry) { () async throws(PostgresError) -> Int in
            if batch.statements.count == 1 { return try await execute(batch.statements[0].query) }
            var affected = 0
            for rows in try await runAtomically(batch) { affected += try rows.affected }
            return affected
        }
        return (affected, bytes)
    }

    /// Runs an upsert that asks for rows.
    ///
    /// - Parameter failure: how it failed the first time, if it has been run already.
    func results<Row, Output>(
        _ upsert: Upsert<Row, Output>, after failure: PostgresError? = nil
    ) async throws(PostgresError) -> UpsertResult<Output> {
        if upsert.definition.batching.strategy == .copy, case .many = upsert.rows {
            return try await staged(upsert) { (rows, statement, batch) throws(PostgresError) in
                let (outputs, affected) = try upsert.read(try rows.all(), of: statement)
                return UpsertResult(rows: batch.positions.map { outputs[$0] }, affected: affected)
            }
        }
        let batch = try upsert.batch()
        return try await retrying(upsert.definition.batching.retry, after: failure) {
            () async throws(PostgresError) -> UpsertResult<Output> in
            var results: [PostgresRows<PostgresRow>] = []
            if batch.statements.count == 1 {
                results = [try await query(batch.statements[0].query)]
            } else {
                results = try await runAtomically(batch)
            }
            var outputs: [Output] = []
            var affected = 0
            for (statement, rows) in zip(batch.statements, results) {
                var answers = try rows.all()
                if answers.isEmpty, upsert.definition.shape.action == .select {
                    answers = [try await selected(statement.query, of: upsert.definition.layout.name)]
                }
                let read = try upsert.read(answers, of: statement)
                outputs += read.outputs
                affected += read.affected
            }
            return UpsertResult(rows: batch.positions.map { outputs[$0] }, affected: affected)
        }
    }

    /// A row that was neither inserted nor found: another came first, and is seen by a statement that begins later.
    private func selected(_ query: PostgresQuery, of table: String) async throws(PostgresError) -> PostgresRow {
        for _ in 0..<10 {
            if let row = try await self.query(query).first() { return row }
        }
        throw PostgresError(
            code: .rowCount, message: "table \"\(table)\": a row was neither inserted nor found", outcome: .succeeded,
            hint: "its key may hold NULL, be changed by a trigger, or belong to a row that row security hides")
    }

    private func runAtomically<Row>(
        _ batch: UpsertBatch<Row>
    ) async throws(PostgresError) -> [PostgresRows<PostgresRow>] {
        var pipeline = PostgresPipeline(.atomic)
        pipeline.reserveCapacity(batch.statements.count)
        let tickets = batch.statements.map { pipeline.add($0.query) }
        let results = try await run(pipeline)
        try results.check()
        return tickets.map { results[$0] }
    }
}
