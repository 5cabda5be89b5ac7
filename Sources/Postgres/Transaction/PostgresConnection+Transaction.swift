extension PostgresConnection {
    /// Runs a body in a transaction: commits when it returns, rolls back when it throws, and then throws the body's own error.
    ///
    /// SQL sent: `BEGIN` with the isolation level, `READ ONLY` and `DEFERRABLE` as asked, in one round trip with the first
    /// statement; `COMMIT`, with the last one if that is run by ``PostgresTransaction/commit(with:)-(PostgresQuery)``. A body
    /// without statements sends nothing (manual, "BEGIN", "SET TRANSACTION").
    ///
    /// Until the transaction has ended, statements of other tasks on this connection wait. One of the body itself, or of a task
    /// made in it, on the connection instead of the transaction is an error. If the task is cancelled, or a deadline has passed, before
    /// COMMIT is sent, the transaction is rolled back, and this returns when that is done, or when the connection is closed because
    /// it took longer than ``PostgresConfiguration/cancelTimeout``. A statement that is still running then is cancelled first.
    /// A COMMIT that was sent is cancelled at the deadline, and `cancelTimeout` after the task was cancelled; if that has no
    /// effect within another `cancelTimeout`, the connection is closed.
    ///
    /// Do not mix it with `BEGIN` run as a statement: COMMIT would end that transaction.
    ///
    /// - Parameters:
    ///   - readOnly: refuses statements that write; false leaves it to the server's default.
    ///   - deferrable: lets a serializable, read-only transaction wait for a snapshot with which it cannot fail.
    ///   - retry: whether the body runs again after a serialization failure or a deadlock. Never, whatever it says, if it is not
    ///     known what became of COMMIT.
    /// - Throws: the body's error. ``PostgresError`` of COMMIT otherwise: `rejected` if the server refused it, as for a deferred
    ///   constraint; `inFailedSqlTransaction` with the outcome `aborted` if a statement had failed and the body swallowed that;
    ///   with the outcome `unknown` if the connection was lost, or had to be closed, before the answer.
    @discardableResult
    public func transaction<Success>(
        isolation: PostgresTransaction.Isolation = .serverDefault, readOnly: Bool = false, deferrable: Bool = false,
        retry: PostgresTransaction.Retry = .never,
        _ body: (PostgresTransaction) async throws -> Success
    ) async throws -> Success {
        let begin = isolation.begin(readOnly: readOnly, deferrable: deferrable)
        var attempt = 1
        while true {
            let flow = try await TransactionFlow.begin(core, connection: self, begin)
            do {
                let result = try await OwnTransaction.run(flow) {
                    try await body(PostgresTransaction(flow, writer: flow.writer))
                }
                try await flow.commitUnlessEnded()
                return result
            } catch {
                await flow.rollBack()
                guard let pause = retry.pause(after: error, attempt: attempt, flow) else { throw error }
                // Cancelled in the pause: nothing is open, and the error says so.
                do { try await Task.sleep(for: pause) } catch _ { throw error }
            }
            attempt += 1
        }
    }

    /// Runs a pipeline as one transaction, in one round trip: BEGIN, its statements, COMMIT.
    ///
    /// With `.savepoints` a statement may fail for itself, and the others are committed: see each one's outcome. Otherwise any
    /// failure rolls back all.
    ///
    /// - Throws: why the transaction was not committed.
    @discardableResult
    public func transaction(
        _ pipeline: PostgresPipeline, isolation: PostgresTransaction.Isolation = .serverDefault,
        readOnly: Bool = false, deferrable: Bool = false, retry: PostgresTransaction.Retry = .never
    ) async throws(PostgresError) -> PostgresPipeline.Results {
        let begin = isolation.begin(readOnly: readOnly, deferrable: deferrable)
        var attempt = 1
        while true {
            var flow: TransactionFlow?
            let committed = try await core.observed(.pipeline, pipeline: pipeline.items) {
                () async throws(PostgresError) -> TransactionFlow.Committed in
                try await core.runTransaction(pipeline, begin, connection: self, &flow)
            }
            guard let error = committed.error, let flow else {
                return PostgresPipeline.Results(replies: committed.replies)
            }
            guard let pause = retry.pause(after: error, attempt: attempt, flow) else { throw error }
            do { try await Task.sleep(for: pause) } catch { throw .cancelled(.notSent) }
            attempt += 1
        }
    }
}

extension ConnectionCore {
    /// A pipeline as `PostgresConnection.run` has it.
    nonisolated(nonsending) func run(
        _ pipeline: PostgresPipeline, connection: any AnyObject & Sendable
    ) async throws(PostgresError) -> [Reply] {
        guard observation == nil else {
            return try await observed(.pipeline, pipeline: pipeline.items) {
                () async throws(PostgresError) -> [Reply] in
                try await runUnobserved(pipeline, connection: connection)
            }
        }
        return try await runUnobserved(pipeline, connection: connection)
    }

    private nonisolated(nonsending) func runUnobserved(
        _ pipeline: PostgresPipeline, connection: any AnyObject & Sendable
    ) async throws(PostgresError) -> [Reply] {
        switch pipeline.sync {
        case .isolated: return try await run(pipeline.items, .isolated)
        case .atomic: return try await run(pipeline.items, .atomic)
        case .savepoints:
            let begin = PostgresTransaction.Isolation.serverDefault.begin(readOnly: false, deferrable: false)
            var flow: TransactionFlow?
            return try await runTransaction(pipeline, begin, connection: connection, &flow).replies
        }
    }

    /// - Parameter used: the transaction that it was, for who wants to know how it ended.
    fileprivate nonisolated(nonsending) func runTransaction(
        _ pipeline: PostgresPipeline, _ begin: PostgresQuery, connection: any AnyObject & Sendable,
        _ used: inout TransactionFlow?
    ) async throws(PostgresError) -> TransactionFlow.Committed {
        let flow = try await TransactionFlow.begin(self, connection: connection, begin)
        used = flow
        do {
            return try await flow.commit(pipeline.items, pipeline.sync, as: flow.writer)
        } catch {
            await flow.rollBack()
            throw error
        }
    }
}
