public import Postgres

extension PostgresExecutor {
    /// Runs a batch that asks for nothing back: one statement, or several that are one transaction and one round trip.
    ///
    /// - Parameter failure: how it failed the first time, if it has been run already.
    @usableFromInline
    func upsertBatch<Row>(
        _ upsert: Upsert<Row, Never>, after failure: PostgresError? = nil
    ) async throws(PostgresError) -> (affected: Int, bytes: Int) {
        if case .many(let rows) = upsert.rows, rows.isEmpty {
            if let error = upsert.error { throw error }
            return (0, 0)
        }
        if upsert.definition.batching.strategy == .copy, case .many = upsert.rows {
            return try await staged(upsert) { (answer, _, _) throws(PostgresError) in
                (affected: try answer.rows.affected, bytes: answer.bytes)
            }
        }
        let batch = try await bind(upsert) { () throws(PostgresError) in try upsert.batch() }
        let bytes = batch.statements.reduce(0) { $0 + $1.bytes }
        let affected = try await retrying(upsert.definition.batching.retry, after: failure) {
            () async throws(PostgresError) -> Int in
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
            return try await staged(upsert) { (answer, statement, batch) throws(PostgresError) in
                let (outputs, affected) = try upsert.read(try answer.rows.all(), of: statement)
                return UpsertResult(rows: batch.positions.map { outputs[$0] }, affected: affected)
            }
        }
        let batch = try await bind(upsert) { () throws(PostgresError) in try upsert.batch() }
        let results = try await retrying(upsert.definition.batching.retry, after: failure) {
            () async throws(PostgresError) -> [PostgresRows<PostgresRow>] in
            if batch.statements.count == 1 { return [try await query(batch.statements[0].query)] }
            return try await runAtomically(batch)
        }
        // From here on the batch is in: nothing below may run it again.
        var outputs: [Output] = []
        var affected = 0
        for (statement, rows) in zip(batch.statements, results) {
            var answers = try rows.all()
            if answers.isEmpty, upsert.definition.shape.action == .select {
                do throws(PostgresError) { answers = [try await selected(statement.query, upsert.definition)] } catch {
                    throw batch.statements.count > 1 && commitsByItself ? error.ofCommittedBatch : error
                }
            }
            let read = try upsert.read(answers, of: statement)
            outputs += read.outputs
            affected += read.affected
        }
        return UpsertResult(rows: batch.positions.map { outputs[$0] }, affected: affected)
    }

    /// A row that was neither inserted nor found: another came first, and is seen by a statement that begins later.
    private func selected<Row>(
        _ query: PostgresQuery, _ definition: UpsertDefinition<Row>
    ) async throws(PostgresError) -> PostgresRow {
        for _ in 0..<selectAttempts {
            let row = try await retrying(definition.batching.retry) { () async throws(PostgresError) -> PostgresRow? in
                try await self.query(query).first()
            }
            if let row { return row }
        }
        throw definition.layout.notFound
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

/// How often a row that was neither inserted nor found is asked for again.
var selectAttempts: Int { 10 }

extension TableLayout {
    var notFound: PostgresError {
        PostgresError(
            code: .rowCount, message: "table \"\(name)\": a row was neither inserted nor found", outcome: .succeeded,
            hint: "its key may hold NULL, be changed by a trigger, or belong to a row that row security hides")
    }
}

extension PostgresError {
    /// The error of one row's statement, run again behind the COMMIT of its batch.
    var ofCommittedBatch: PostgresError {
        with(
            outcome: .succeeded,
            message: "the batch is in, but a row of it that another inserted meanwhile was not read: \(message)")
    }
}
