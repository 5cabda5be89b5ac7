#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A transaction of the blocking API: as ``PostgresTransaction``.
public struct PostgresBlockingTransaction: Sendable {
    let flow: TransactionFlow
    let writer: Int
    let isNested: Bool

    init(_ flow: TransactionFlow, writer: Int, isNested: Bool = false) {
        self.flow = flow
        self.writer = writer
        self.isNested = isNested
    }

    /// As ``PostgresTransaction/query(_:)``.
    public func query<Row>(_ query: PostgresQuery.Typed<Row>) throws(PostgresError) -> PostgresRows<Row> {
        PostgresRows(reply: try perform(query.query, query.formats), decode: query.decode)
    }

    /// As ``PostgresTransaction/execute(_:)``.
    @discardableResult
    public func execute(_ query: PostgresQuery) throws(PostgresError) -> Int { try perform(query, .text).affected }

    /// As ``PostgresTransaction/run(_:)``.
    public func run(_ pipeline: PostgresPipeline) throws(PostgresError) -> PostgresPipeline.Results {
        do {
            let replies = try flow.core.observedBlocking(.pipeline, pipeline: pipeline.items) {
                () throws(PostgresError) -> [Reply] in try flow.runBlocking(pipeline, as: writer)
            }
            if pipeline.sync != .savepoints, replies.contains(where: { $0.error != nil }) { flow.noteFailure() }
            return PostgresPipeline.Results(replies: replies)
        } catch { throw flow.noted(error) }
    }

    /// As ``PostgresTransaction/script(_:)``.
    @discardableResult
    public func script(_ sql: PostgresQuery) throws(PostgresError) -> [PostgresRows<PostgresRow>] {
        do {
            return try flow.core.observedBlocking(.script, query: sql) {
                () throws(PostgresError) -> [Reply] in
                try flow.openBlocking(as: writer)
                return try flow.core.scriptBlocking(sql, as: writer)
            }.map { PostgresRows(reply: $0) { (row) throws(PostgresError) in row } }
        } catch { throw flow.noted(error) }
    }

    /// As ``PostgresTransaction/stream(_:)``.
    public func stream<Row>(_ query: PostgresQuery.Typed<Row>) throws(PostgresError) -> PostgresBlockingRowStream<Row> {
        do {
            let stream = try flow.core.observedBlocking(.stream, query: query.query) {
                () throws(PostgresError) -> RowStream in
                try flow.openBlocking(as: writer)
                flow.noteFailure()
                return try flow.core.streamBlocking(query.query, query.formats, as: writer)
            }
            return PostgresBlockingRowStream(
                handle: RowStreamHandle(stream: stream, core: flow.core, connection: flow.connection),
                decode: query.decode)
        } catch { throw flow.noted(error) }
    }

    private func perform(_ query: PostgresQuery, _ formats: ResultFormats) throws(PostgresError) -> Reply {
        do {
            return try flow.core.observedBlocking(.query, query: query) { () throws(PostgresError) -> Reply in
                flow.isPlain
                    ? try flow.core.performBlocking(query, formats, as: writer)
                    : try flow.performBlocking(query, formats, as: writer)
            }
        } catch { throw flow.noted(error) }
    }

    /// A savepoint: as ``PostgresTransaction/transaction(_:)``.
    @discardableResult
    public func transaction<Success>(_ body: (PostgresBlockingTransaction) throws -> Success) throws -> Success {
        let savepoint = try flow.openSavepoint(in: writer)
        let result: Success
        do {
            result = try body(PostgresBlockingTransaction(flow, writer: savepoint.writer, isNested: true))
        } catch {
            flow.rollBackBlocking(to: savepoint)
            throw error
        }
        try flow.releaseBlocking(savepoint)
        return result
    }

    /// Runs the last statement and COMMIT in one round trip: as the form of ``PostgresTransaction``.
    public func commit<Row>(with query: PostgresQuery.Typed<Row>) throws(PostgresError) -> PostgresRows<Row> {
        var pipeline = PostgresPipeline(.atomic)
        let ticket = pipeline.add(query)
        return try commit(with: pipeline)[ticket]
    }

    /// As ``PostgresTransaction/commit(with:)-(PostgresQuery)``.
    @discardableResult
    public func commit(with query: PostgresQuery) throws(PostgresError) -> PostgresRows<PostgresRow> {
        try commit(with: query.as(PostgresRow.self))
    }

    /// Runs the last statement and COMMIT in one round trip; rows as tuples.
    public func commit<each Column: PostgresDecodable>(
        with query: PostgresQuery, as columns: (repeat each Column).Type
    ) throws(PostgresError) -> PostgresRows<(repeat each Column)> {
        try commit(with: query.as(columns))
    }

    /// As ``PostgresTransaction/commit(with:)-(PostgresPipeline)``.
    @discardableResult
    public func commit(with pipeline: PostgresPipeline) throws(PostgresError) -> PostgresPipeline.Results {
        if isNested { throw .nestedCommit }
        let committed = try flow.core.observedBlocking(.pipeline, pipeline: pipeline.items) {
            () throws(PostgresError) -> TransactionFlow.Committed in
            try flow.commitBlocking(pipeline.items, pipeline.sync, as: writer)
        }
        if let error = committed.error { throw error }
        return PostgresPipeline.Results(replies: committed.replies)
    }
}

extension PostgresBlockingConnection {
    /// Runs a body in a transaction: as ``PostgresConnection/transaction(isolation:readOnly:deferrable:retry:_:)``.
    @discardableResult
    public func transaction<Success>(
        isolation: PostgresTransaction.Isolation = .serverDefault, readOnly: Bool = false, deferrable: Bool = false,
        retry: PostgresTransaction.Retry = .never, _ body: (PostgresBlockingTransaction) throws -> Success
    ) throws -> Success {
        let begin = isolation.begin(readOnly: readOnly, deferrable: deferrable)
        var attempt = 1
        while true {
            let flow = try TransactionFlow.beginBlocking(core, connection: self, begin)
            do {
                let result = try OwnTransaction.runBlocking(flow) {
                    try body(PostgresBlockingTransaction(flow, writer: flow.writer))
                }
                try flow.commitUnlessEndedBlocking()
                return result
            } catch {
                flow.rollBackBlocking()
                guard let pause = retry.pause(after: error, attempt: attempt, flow) else { throw error }
                usleep(UInt32(clamping: pause.clampedNanoseconds / 1000))
            }
            attempt += 1
        }
    }

    /// Runs a pipeline as one transaction, in one round trip: as
    /// ``PostgresConnection/transaction(_:isolation:readOnly:deferrable:retry:)``, without running it again.
    @discardableResult
    public func transaction(
        _ pipeline: PostgresPipeline, isolation: PostgresTransaction.Isolation = .serverDefault,
        readOnly: Bool = false, deferrable: Bool = false
    ) throws(PostgresError) -> PostgresPipeline.Results {
        let begin = isolation.begin(readOnly: readOnly, deferrable: deferrable)
        let committed = try core.observedBlocking(.pipeline, pipeline: pipeline.items) {
            () throws(PostgresError) -> TransactionFlow.Committed in try runTransaction(pipeline, begin)
        }
        if let error = committed.error { throw error }
        return PostgresPipeline.Results(replies: committed.replies)
    }

    func runTransaction(
        _ pipeline: PostgresPipeline, _ begin: PostgresQuery
    ) throws(PostgresError) -> TransactionFlow.Committed {
        let flow = try TransactionFlow.beginBlocking(core, connection: self, begin)
        do {
            return try flow.commitBlocking(pipeline.items, pipeline.sync, as: flow.writer)
        } catch {
            flow.rollBackBlocking()
            throw error
        }
    }
}
