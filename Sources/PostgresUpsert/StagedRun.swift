import Postgres

extension PostgresExecutor {
    /// Runs a batch by way of a temporary table, in a transaction of its own or in that of the caller.
    func staged<Row, Output, Success>(
        _ upsert: Upsert<Row, Output>,
        _ read: (StagedAnswer, UpsertStatementRows<Row>, UpsertBatch<Row>) throws(PostgresError) -> Success
    ) async throws(PostgresError) -> Success {
        let batch = try await bind(upsert) { () throws(PostgresError) in try upsert.stagedBatch() }
        let statement = batch.batch.statements[0]
        let answer: StagedAnswer
        if let transaction = self as? PostgresTransaction {
            try await StageTurns.shared.take(transaction.id)
            defer { StageTurns.shared.pass(transaction.id) }
            answer = try await transaction.runStaged(batch, statement.query)
        } else {
            answer = try await retrying(upsert.definition.batching.retry) {
                () async throws(PostgresError) -> StagedAnswer in
                do {
                    if let connection = self as? PostgresConnection {
                        return try await connection.transaction { try await $0.runStaged(batch, statement.query) }
                    }
                    if let client = self as? PostgresClient {
                        return try await client.transaction { try await $0.runStaged(batch, statement.query) }
                    }
                } catch {
                    throw error as? PostgresError ?? .upsert("\(error)")
                }
                throw PostgresError(
                    code: .unsupported, message: "strategy(.copy) needs a connection, a transaction or a pool",
                    hint: "use strategy(.automatic)")
            }
        }
        return try read(answer, statement, batch.batch)
    }
}

extension PostgresTransaction {
    /// CREATE, COPY, INSERT and DROP: four round trips, and one for the COPY's types.
    fileprivate func runStaged<Row>(
        _ batch: StagedBatch<Row>, _ insert: PostgresQuery
    ) async throws(PostgresError) -> StagedAnswer {
        try await execute(batch.create)
        do throws(PostgresError) { return try await fillAndInsert(batch, insert) } catch {
            if error.outcome == .notSent { await dropStage() }
            throw error
        }
    }

    private func fillAndInsert<Row>(
        _ batch: StagedBatch<Row>, _ insert: PostgresQuery
    ) async throws(PostgresError) -> StagedAnswer {
        var copy = batch.copy
        try await self.copy(into: StagedRows.name, schema: "pg_temp", columns: copy.columns) {
            (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in try copy.writeRows(into: &encoder)
        }
        var pipeline = PostgresPipeline(.atomic)
        let ticket = pipeline.add(insert)
        pipeline.add(StagedRows.drop)
        let results = try await run(pipeline)
        try results.check()
        return StagedAnswer(rows: results[ticket], bytes: copy.bytes)
    }

    /// What follows was not sent, and the transaction may live on: its next rows need a stage of that name. In a task of its own, which
    /// has neither the caller's deadline nor its cancellation.
    private func dropStage() async {
        await Task.detached { _ = try? await self.execute(StagedRows.drop) }.value
    }
}

extension TableLayout {
    /// Rows cannot take the way that was asked for.
    var notStaged: PostgresError {
        PostgresError(
            code: .unsupported,
            message: "table \"\(name)\": strategy(.copy) goes neither with isolation: nor into a pipeline",
            hint: "use strategy(.automatic) there")
    }
}

/// What came back for rows of a stage, and how many bytes they had.
struct StagedAnswer {
    var rows: PostgresRows<PostgresRow>
    var bytes: Int
}

/// A batch, and what makes its stage.
struct StagedBatch<Row> {
    var batch: UpsertBatch<Row>
    var create: PostgresQuery
    var copy: StageCopy<Row>
}

extension Upsert {
    func stagedBatch() throws(PostgresError) -> StagedBatch<Row> {
        guard case .many(let rows) = rows else {
            throw .upsert("strategy(.copy) needs many rows", hint: "upsert.rows([...])")
        }
        return try definition.stagedBatch(rows)
    }
}

extension UpsertDefinition {
    fileprivate func stagedBatch(_ rows: [Row]) throws(PostgresError) -> StagedBatch<Row> {
        guard layout.fieldColumns.isEmpty else {
            throw .upsert(
                "table \"\(layout.name)\": rows that lack columns cannot be staged", hint: "use strategy(.automatic)")
        }
        let plan = plan(.stage)
        if let failure = plan.failure { throw failure }
        try checkDuplicates()
        let order = try soundRows(plan, rows, UpsertCut()).keys.order()
        if plan.sortKeyIsConflictKey, !order.duplicates.isEmpty {
            let kept = try distinct(rows, order.duplicates, plan)
            var staged = try stagedBatch(kept.rows)
            staged.batch.representatives = kept.representatives
            let sent = staged.batch.statements.first?.order ?? Array(kept.rows.indices)
            staged.copy = StageCopy(plan.columns, kept.placed(among: rows), sent.map { kept.origins[$0] })
            return staged
        }
        if order.holdsNull { try plan.checkNullKey() }
        let query = PostgresQuery(plan.text, parameterCount: plan.parameterCount) { plan.appendConstants(to: &$0) }
        let statement = UpsertStatementRows(
            query: query, plan: plan, order: order.indices, count: rows.count, bytes: 0)
        return StagedBatch(
            batch: UpsertBatch(statements: [statement], count: rows.count),
            create: try StagedRows.create(plan.columns, table: layout.name),
            copy: StageCopy(plan.columns, rows, order.indices))
    }
}

/// Rows on their way into the stage, in sending order, each with its number, from 1.
struct StageCopy<Row> {
    private static var blockRows: Int { 64 }
    private static var pieceBytes: Int { 65_536 }

    let columns: [PostgresCopyColumn]
    private let sent: [Column<Row>]
    private let rows: [Row]
    private let order: [Int]?
    private var next = 0
    /// How many bytes were written.
    private(set) var bytes = 0

    private var count: Int { order?.count ?? rows.count }

    init(_ sent: [Column<Row>], _ rows: [Row], _ order: [Int]?) {
        self.sent = sent
        self.rows = rows
        self.order = order
        columns =
            sent.enumerated().map { number, column in
                PostgresCopyColumn("c\(number + 1)", type: column.type, format: column.format)
            } + [PostgresCopyColumn("n", type: .int8)]
    }

    /// About 64 KiB of rows; false when these were the last.
    mutating func writeRows(into encoder: inout PostgresEncoder) throws(PostgresError) -> Bool {
        var block = CellBlock()
        let start = encoder.byteCount
        defer { bytes += encoder.byteCount - start }
        while next < self.count {
            if encoder.byteCount >= Self.pieceBytes { return true }
            let count = min(Self.blockRows, self.count - next)
            let indices = order.map { Array($0[next..<next + count]) } ?? Array(next..<next + count)
            block.removeAll()
            for column in sent { try encode(column, indices, into: &block) }
            try block.append { (encoder: inout PostgresEncoder) throws(PostgresError) in
                for number in next..<next + count { try encoder.writeCell(Int64(number + 1)) }
            }
            block.writeRows(count, into: &encoder)
            next += count
        }
        return false
    }

    private func encode(_ column: Column<Row>, _ indices: [Int], into block: inout CellBlock) throws(PostgresError) {
        try rows.withUnsafeBufferPointer { (rows) throws(PostgresError) in
            guard let first = rows.baseAddress else { return }
            try indices.withUnsafeBufferPointer { (indices) throws(PostgresError) in
                // Rows before it may have been sent; the server gives them up with the rest.
                do throws(PostgresError) {
                    try block.append { (encoder: inout PostgresEncoder) throws(PostgresError) in
                        try column.writeCells(first, indices.baseAddress, indices.count, &encoder)
                    }
                } catch {
                    throw error.with(outcome: .rejected)
                }
            }
        }
    }
}
