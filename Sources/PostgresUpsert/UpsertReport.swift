public import Postgres

/// Rows that were not written, and why.
public struct UpsertFailure: Sendable {
    /// Indices into the rows that were given.
    public let rows: [Int]
    /// Its outcome says whether it is certain that they were not written.
    public let error: PostgresError
}

/// What became of the rows of an upsert whose parts fail by themselves.
public struct UpsertReport<Output> {
    /// What is known of each row, in the order in which they were given; nil for those that failed. Empty when nothing was
    /// asked for.
    public let rows: [Output?]
    /// How many rows were inserted or updated.
    public let affected: Int
    /// What failed, in the order in which it was sent.
    public let failures: [UpsertFailure]

    /// Throws the first failure, if there is one.
    public func check() throws(PostgresError) {
        if let failure = failures.first { throw failure.error }
    }
}

extension UpsertReport: Sendable where Output: Sendable {}

extension PostgresExecutor {
    /// Runs an upsert so that an error takes no more with it than `isolation` says, and tells what became of the others.
    ///
    /// ```swift
    /// let report = try await db.upsert(Upsert(rows), isolation: .row)
    /// for failure in report.failures { print(failure.rows, failure.error) }
    /// ```
    /// Each chunk, or each row, is a transaction of its own, all of them in one flight; inside a transaction each has a savepoint
    /// of its own. What fails for a deadlock or a serialization failure is run again, as ``Upsert/retry(_:)`` says.
    ///
    /// - Throws: what is found before anything is sent: a value that cannot be encoded, two rows of one key. With `.batch` every
    ///   error.
    public func upsert<Row, Output>(
        _ upsert: Upsert<Row, Output>, isolation: UpsertIsolation
    ) async throws(PostgresError) -> UpsertReport<Output> {
        let definition = upsert.definition
        do throws(PostgresError) {
            if upsert.rowCount == 0 {
                if let error = upsert.error { throw error }
                return UpsertReport(rows: [], affected: 0, failures: [])
            }
            try await prepareUnlessKnown(upsert)
            let batch = try await bind(upsert) { () throws(PostgresError) in
                try upsert.batch(UpsertCut(isByRow: isolation == .row))
            }
            return try await report(upsert, batch, isolation == .batch ? .atomic : .isolated)
        } catch {
            throw await explained(error, definition)
        }
    }

    private func report<Row, Output>(
        _ upsert: Upsert<Row, Output>, _ batch: UpsertBatch<Row>, _ sync: PostgresPipeline.Sync
    ) async throws(PostgresError) -> UpsertReport<Output> {
        var collected = CollectedAnswers(upsert, batch)
        if sync == .atomic {
            try await retrying(upsert.definition.batching.retry) { () async throws(PostgresError) -> Void in
                var attempt = CollectedAnswers(upsert, batch)
                try await run(Array(batch.statements.indices), &attempt, .atomic)
                let errors = attempt.errors.sorted { $0.key < $1.key }.map(\.value)
                if let error = errors.first(where: { $0.outcome != .aborted }) ?? errors.first { throw error }
                collected = attempt
            }
            await runRaced(&collected)
            if let error = collected.errors.min(by: { $0.key < $1.key })?.value {
                throw commitsByItself ? error.ofCommittedBatch : error
            }
            return collected.report()
        }
        let retry = upsert.definition.batching.retry
        var pending = Array(batch.statements.indices)
        var attempt = 1
        while true {
            // Bounded, as each statement's answer is kept until all have come.
            for start in stride(from: 0, to: pending.count, by: 1024) {
                let part = Array(pending[start..<min(start + 1024, pending.count)])
                try await run(part, &collected, self is PostgresTransaction ? .savepoints : .isolated)
            }
            await runRaced(&collected)
            pending = pending.filter { collected.errors[$0]?.mayRunAgain == true }
            guard !pending.isEmpty, commitsByItself, let pause = retry.pause(behindAttempt: attempt) else {
                return collected.report()
            }
            attempt += 1
            do { try await Task.sleep(for: pause) } catch { return collected.report() }
            for index in pending { collected.errors[index] = nil }
        }
    }

    /// Runs statements of doSelect() again whose row was neither inserted nor found.
    private func runRaced<Row, Output>(_ collected: inout CollectedAnswers<Row, Output>) async {
        for _ in 0..<selectAttempts where !collected.raced.isEmpty {
            let raced = collected.raced.sorted()
            collected.raced = []
            do throws(PostgresError) {
                try await run(raced, &collected, self is PostgresTransaction ? .savepoints : .isolated)
            } catch {
                for index in raced { collected.errors[index] = error }
            }
        }
        for index in collected.raced { collected.errors[index] = collected.upsert.definition.layout.notFound }
        collected.raced = []
    }

    private func run<Row, Output>(
        _ statements: [Int], _ collected: inout CollectedAnswers<Row, Output>, _ sync: PostgresPipeline.Sync
    ) async throws(PostgresError) {
        var pipeline = PostgresPipeline(sync)
        pipeline.reserveCapacity(statements.count)
        let tickets = statements.map { pipeline.add(collected.batch.statements[$0].query) }
        let results: PostgresPipeline.Results
        do throws(PostgresError) { results = try await run(pipeline) } catch {
            // Nothing of this part was sent, but others may have been.
            for index in statements { collected.errors[index] = error }
            return
        }
        for (index, ticket) in zip(statements, tickets) { collected.add(results[ticket], of: index) }
    }
}

/// The answers of a batch's statements as they come.
private struct CollectedAnswers<Row: PostgresTable, Output> {
    let upsert: Upsert<Row, Output>
    let batch: UpsertBatch<Row>
    var outputs: [Int: [Output]] = [:]
    var errors: [Int: PostgresError] = [:]
    /// The statements of doSelect() that answered nothing.
    var raced: Set<Int> = []
    var affected = 0

    init(_ upsert: Upsert<Row, Output>, _ batch: UpsertBatch<Row>) {
        self.upsert = upsert
        self.batch = batch
    }

    mutating func add(_ rows: PostgresRows<PostgresRow>, of index: Int) {
        let statement = batch.statements[index]
        do throws(PostgresError) {
            if case .count = statement.plan.answer {
                affected += try rows.affected
            } else {
                let answers = try rows.all()
                if answers.isEmpty, upsert.definition.shape.action == .select {
                    raced.insert(index)
                    return
                }
                let read = try upsert.read(answers, of: statement)
                outputs[index] = read.outputs
                affected += read.affected
            }
        } catch {
            errors[index] = error
        }
    }

    func report() -> UpsertReport<Output> {
        let definition = upsert.definition
        // That the rows are run again is the caller's business.
        for error in errors.values { _ = definition.reconsiders(error) }
        let failures = errors.sorted { $0.key < $1.key }.map { index, error in
            UpsertFailure(rows: batch.inputs(of: batch.statements[index]), error: definition.explain(error))
        }
        guard definition.shape.returnsRows else {
            return UpsertReport(rows: [], affected: affected, failures: failures)
        }
        var sent: [Output?] = []
        for (index, statement) in batch.statements.enumerated() {
            sent += outputs[index]?.map(Optional.some) ?? Array(repeating: nil, count: statement.count)
        }
        return UpsertReport(rows: batch.positions.map { sent[$0] }, affected: affected, failures: failures)
    }
}
