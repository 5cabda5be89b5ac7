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

extension UpsertReport {
    /// The same report with what became of some rows that were run again.
    fileprivate func with(_ again: UpsertReport, at inputs: [Int]) -> UpsertReport {
        var rows = rows
        for (index, row) in zip(inputs, again.rows) { rows[index] = row }
        let failures = again.failures.map { failure in
            UpsertFailure(rows: failure.rows.map { inputs[$0] }, error: failure.error)
        }
        return UpsertReport(
            rows: rows, affected: affected + again.affected, failures: self.failures + failures)
    }
}

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
    /// What cannot be sent is a failure like others, and the error names the row: a value that cannot be encoded takes its chunk with
    /// it, or only its row; a row whose key cannot be encoded, or holds a NULL that is rejected, is of no chunk and fails alone.
    ///
    /// - Throws: what is wrong with the upsert itself, and two rows of one key, before anything is sent. With `.batch` every error.
    ///   `unsupported` with `strategy(.copy)`.
    public func upsert<Row, Output>(
        _ upsert: Upsert<Row, Output>, isolation: UpsertIsolation
    ) async throws(PostgresError) -> UpsertReport<Output> {
        do throws(PostgresError) {
            if upsert.rowCount == 0 {
                if let error = upsert.error { throw error }
                return UpsertReport(rows: [], affected: 0, failures: [])
            }
            return try await report(upsert, isolation, isFirst: true)
        } catch {
            throw await explained(error, upsert.definition)
        }
    }

    private func report<Row, Output>(
        _ upsert: Upsert<Row, Output>, _ isolation: UpsertIsolation, isFirst: Bool
    ) async throws(PostgresError) -> UpsertReport<Output> {
        let definition = upsert.definition
        let wasKnown = definition.layout.memory.facts != nil
        try await prepareUnlessKnown(upsert)
        let batch = try await bind(upsert) { () throws(PostgresError) in
            try upsert.batch(UpsertCut(isByRow: isolation == .row, isIsolated: isolation != .batch))
        }
        var collected = CollectedAnswers(upsert, batch)
        if isolation == .batch {
            do throws(PostgresError) { try await runAtomically(&collected) } catch {
                // Whoever is in a transaction has to run that again.
                guard definition.reconsiders(error, wasKnown: wasKnown), isFirst, commitsByItself else { throw error }
                return try await report(upsert, isolation, isFirst: false)
            }
            return await report(collected)
        }
        await runIsolated(&collected)
        let mistaken = collected.errors.filter { definition.reconsiders($0.value, wasKnown: wasKnown) }
        let former = await report(collected)
        guard !mistaken.isEmpty, isFirst, commitsByItself else { return former }
        // Nothing of these took effect, and they are made otherwise now.
        let inputs = mistaken.keys.flatMap { batch.inputs(of: batch.statements[$0]) }.sorted()
        do throws(PostgresError) {
            let again = try await report(upsert.picking(inputs), isolation, isFirst: false)
            for index in mistaken.keys { collected.errors[index] = nil }
            return await report(collected).with(again, at: inputs)
        } catch { return former }
    }

    private func runAtomically<Row, Output>(
        _ collected: inout CollectedAnswers<Row, Output>
    ) async throws(PostgresError) {
        let batch = collected.batch
        let upsert = collected.upsert
        collected = try await retrying(upsert.definition.batching.retry) {
            () async throws(PostgresError) -> CollectedAnswers<Row, Output> in
            var attempt = CollectedAnswers(upsert, batch)
            await run(Array(batch.statements.indices), &attempt, .atomic)
            let errors = attempt.errors.sorted { $0.key < $1.key }.map(\.value)
            if let error = errors.first(where: { $0.outcome != .aborted }) ?? errors.first { throw error }
            return attempt
        }
        await runRaced(&collected)
        if let error = collected.errors.min(by: { $0.key < $1.key })?.value {
            throw batch.statements.count > 1 && commitsByItself ? error.ofCommittedBatch : error
        }
    }

    private func runIsolated<Row, Output>(_ collected: inout CollectedAnswers<Row, Output>) async {
        let batch = collected.batch
        let retry = collected.upsert.definition.batching.retry
        for (index, statement) in batch.statements.enumerated() { collected.errors[index] = statement.failure }
        var pending = batch.statements.indices.filter { batch.statements[$0].failure == nil }
        var attempt = 1
        while true {
            // Bounded, as each statement's answer is kept until all have come.
            for start in stride(from: 0, to: pending.count, by: 1024) {
                let part = Array(pending[start..<min(start + 1024, pending.count)])
                await run(part, &collected, self is PostgresTransaction ? .savepoints : .isolated)
            }
            await runRaced(&collected)
            pending = pending.filter { collected.errors[$0]?.mayRunAgain == true }
            guard !pending.isEmpty, commitsByItself, let pause = retry.pause(behindAttempt: attempt) else { return }
            attempt += 1
            do { try await Task.sleep(for: pause) } catch { return }
            for index in pending { collected.errors[index] = nil }
        }
    }

    /// Runs statements of doSelect() again whose row was neither inserted nor found.
    private func runRaced<Row, Output>(_ collected: inout CollectedAnswers<Row, Output>) async {
        for _ in 0..<selectAttempts where !collected.raced.isEmpty {
            let raced = collected.raced.sorted()
            collected.raced = []
            await run(raced, &collected, self is PostgresTransaction ? .savepoints : .isolated)
        }
        for index in collected.raced { collected.errors[index] = collected.upsert.definition.layout.notFound }
        collected.raced = []
    }

    private func run<Row, Output>(
        _ statements: [Int], _ collected: inout CollectedAnswers<Row, Output>, _ sync: PostgresPipeline.Sync
    ) async {
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

    private func report<Row, Output>(_ collected: CollectedAnswers<Row, Output>) async -> UpsertReport<Output> {
        let batch = collected.batch
        let errors = collected.errors.sorted { $0.key < $1.key }
        let explained = await explained(errors.map(\.value), collected.upsert.definition)
        let failures = zip(errors, explained).map { failed, error in
            UpsertFailure(rows: batch.inputs(of: batch.statements[failed.key]), error: error)
        }
        return UpsertReport(rows: collected.rows, affected: collected.affected, failures: failures)
    }
}

extension Upsert {
    /// The same upsert of some of its rows.
    fileprivate func picking(_ indices: [Int]) -> Self {
        guard case .many(let rows) = rows else { return self }
        return self.rows(indices.map { rows[$0] })
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

    /// What is known of each row that was given.
    var rows: [Output?] {
        guard upsert.definition.shape.returnsRows else { return [] }
        var sent: [Output?] = []
        for (index, statement) in batch.statements.enumerated() {
            sent += outputs[index]?.map(Optional.some) ?? Array(repeating: nil, count: statement.count)
        }
        return batch.positions.map { sent[$0] }
    }
}
