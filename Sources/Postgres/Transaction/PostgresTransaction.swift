/// A transaction, inside the body that it was made for.
///
/// ```swift
/// let left = try await db.transaction(isolation: .serializable, retry: .upTo(5)) { tx in
///     let left = try await tx.query("SELECT left FROM stock WHERE id = \(item)", as: Int.self).one()
///     if left == 0 { throw OutOfStock() }
///     try await tx.execute("UPDATE stock SET left = left - 1 WHERE id = \(item)")
///     return left - 1
/// }
/// ```
/// BEGIN leaves with the first statement, in one round trip. Used behind the end of its body, or while a transaction nested in it
/// is open, it throws `transactionEnded`, and nothing is sent.
///
/// A statement that fails leaves the transaction failed: the server refuses every further one (25P02). A body that swallows
/// such an error cannot commit; to go on after a failure, nest a transaction, or use a pipeline with `.savepoints`.
public struct PostgresTransaction: PostgresExecutor {
    let flow: TransactionFlow
    let writer: Int
    let isNested: Bool

    init(_ flow: TransactionFlow, writer: Int, isNested: Bool = false) {
        self.flow = flow
        self.writer = writer
        self.isNested = isNested
    }

    /// Runs a statement and buffers its rows, as ``PostgresConnection/query(_:)``.
    @inlinable
    public func query<Row>(_ query: PostgresQuery.Typed<Row>) async throws(PostgresError) -> PostgresRows<Row> {
        PostgresRows(reply: try await perform(query.query, query.formats), decode: query.decode)
    }

    /// Runs a statement, and tells how many rows it inserted, updated, deleted or selected.
    @discardableResult
    public func execute(_ query: PostgresQuery) async throws(PostgresError) -> Int {
        try await perform(query, .text).affected
    }

    /// Runs the statements of a pipeline in one flight. Each holds its own outcome, which is that inside the transaction.
    ///
    /// - `.atomic`: one Sync; a failure aborts all, and the transaction has failed.
    /// - `.isolated`: a Sync behind each; a failure leaves the transaction failed, and the server refuses those behind it (25P02).
    ///   At the beginning of a transaction it costs one more round trip, for BEGIN.
    /// - `.savepoints`: a failure stays with its statement, and the transaction goes on. But if it was stopped by a deadline or a
    ///   cancelled task before all of it was sent, the transaction has failed, and nothing of it counts.
    public func run(_ pipeline: PostgresPipeline) async throws(PostgresError) -> PostgresPipeline.Results {
        do {
            let replies = try await flow.core.observed(
                .pipeline, pipeline: pipeline.items
            ) { () async throws(PostgresError) -> [Reply] in try await flow.run(pipeline, as: writer) }
            if pipeline.sync != .savepoints, replies.contains(where: { $0.error != nil }) { flow.noteFailure() }
            return PostgresPipeline.Results(replies: replies)
        } catch { throw flow.noted(error) }
    }

    /// As ``PostgresConnection/script(_:)``. BEGIN goes before it, in a round trip of its own if it was not sent yet.
    @discardableResult
    public func script(_ sql: PostgresQuery) async throws(PostgresError) -> [PostgresRows<PostgresRow>] {
        do {
            return try await flow.core.observed(.script, query: sql) {
                () async throws(PostgresError) -> [Reply] in
                try await flow.open(as: writer)
                return try await flow.core.script(sql, as: writer)
            }.map { PostgresRows(reply: $0) { (row) throws(PostgresError) in row } }
        } catch { throw flow.noted(error) }
    }

    @usableFromInline
    func perform(_ query: PostgresQuery, _ formats: ResultFormats) async throws(PostgresError) -> Reply {
        do {
            if flow.core.observation != nil { return try await performObserved(query, formats) }
            guard flow.isPlain else { return try await flow.perform(query, formats, as: writer) }
            let attempt = try flow.core.attempt(query, formats, .cached, as: writer)
            if case .done(let reply) = attempt, reply.error == nil { return reply }
            return try await flow.core.finish(query, formats, attempt, as: writer)
        } catch { throw flow.noted(error) }
    }
}

extension PostgresTransaction {
    private func performObserved(
        _ query: PostgresQuery, _ formats: ResultFormats
    ) async throws(PostgresError) -> Reply {
        try await flow.core.observed(
            .query, query: query
        ) { () async throws(PostgresError) -> Reply in
            guard flow.isPlain else { return try await flow.perform(query, formats, as: writer) }
            return try await flow.core.perform(query, formats, as: writer)
        }
    }

    /// Runs a statement and reads its rows as they are wanted: see ``PostgresRowStream``. BEGIN goes before it, in a round trip
    /// of its own if it was not sent yet.
    @inlinable
    public func stream<Row>(_ query: PostgresQuery.Typed<Row>) async throws(PostgresError) -> PostgresRowStream<Row> {
        PostgresRowStream(handle: try await stream(query.query, query.formats), decode: query.decode)
    }

    @usableFromInline
    func stream(_ query: PostgresQuery, _ formats: ResultFormats) async throws(PostgresError) -> RowStreamHandle {
        do {
            let stream = try await flow.core.observed(.stream, query: query) {
                () async throws(PostgresError) -> RowStream in
                try await flow.open(as: writer)
                // How it ends, its consumer will know.
                flow.noteFailure()
                return try await flow.core.stream(query, formats, as: writer)
            }
            return RowStreamHandle(stream: stream, core: flow.core, connection: flow.connection)
        } catch { throw flow.noted(error) }
    }
}

extension PostgresTransaction {
    /// A transaction inside this one: a savepoint, rolled back to when the body throws (manual, "SAVEPOINT"). The error of the
    /// body arrives as itself, and this transaction can go on.
    ///
    /// SQL sent: `SAVEPOINT` with the first statement of the body, `RELEASE SAVEPOINT` with the first one behind it; `ROLLBACK TO
    /// SAVEPOINT` at once. While the body runs, statements of the outer transaction are refused.
    @discardableResult
    public func transaction<Success>(
        _ body: (PostgresTransaction) async throws -> Success
    ) async throws -> Success {
        let savepoint = try flow.openSavepoint(in: writer)
        let result: Success
        do {
            result = try await body(PostgresTransaction(flow, writer: savepoint.writer, isNested: true))
        } catch {
            await flow.rollBack(to: savepoint)
            throw error
        }
        try await flow.release(savepoint)
        return result
    }

    /// Runs the last statement of the transaction, and COMMIT in the same round trip. A transaction of one statement is one round
    /// trip that way. Behind it the transaction has ended; an error that the body throws then rolls nothing back.
    ///
    /// - Throws: what `transaction` would throw, and it does so again if the body swallows it.
    public func commit<Row>(
        with query: PostgresQuery.Typed<Row>
    ) async throws(PostgresError) -> PostgresRows<Row> {
        var pipeline = PostgresPipeline(.atomic)
        let ticket = pipeline.add(query)
        return try await commit(with: pipeline)[ticket]
    }

    /// Runs the last statement and COMMIT in one round trip. `affected` of the result is the number of rows.
    @discardableResult
    public func commit(with query: PostgresQuery) async throws(PostgresError) -> PostgresRows<PostgresRow> {
        try await commit(with: query.as(PostgresRow.self))
    }

    /// Runs the last statement and COMMIT in one round trip; rows as tuples.
    public func commit<each Column: PostgresDecodable>(
        with query: PostgresQuery, as columns: (repeat each Column).Type
    ) async throws(PostgresError) -> PostgresRows<(repeat each Column)> {
        try await commit(with: query.as(columns))
    }

    /// Runs the last statements and COMMIT in one round trip.
    @discardableResult
    public func commit(with pipeline: PostgresPipeline) async throws(PostgresError) -> PostgresPipeline.Results {
        PostgresPipeline.Results(replies: try await commit(pipeline.items, pipeline.sync))
    }

    private func commit(
        _ items: [PostgresPipeline.Item], _ sync: PostgresPipeline.Sync
    ) async throws(PostgresError) -> [Reply] {
        if isNested { throw .nestedCommit }
        let committed = try await flow.core.observed(.pipeline, pipeline: items) {
            () async throws(PostgresError) -> TransactionFlow.Committed in
            try await flow.commit(items, sync, as: writer)
        }
        if let error = committed.error { throw error }
        return committed.replies
    }
}

extension PostgresTransaction: Identifiable {
    /// Which transaction it is, among those that are open in this process; a nested one is the same as the one that it is in.
    public var id: ObjectIdentifier { ObjectIdentifier(flow) }
}

extension PostgresError {
    static var nestedCommit: PostgresError {
        PostgresError(
            code: .unsupported, message: "a nested transaction ends with its body; only the outermost can commit")
    }
}
