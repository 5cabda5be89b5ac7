import PostgresProtocol
import PostgresTransport
import Synchronization

/// The way of an operation when there is an observer. What has none does not come here.
extension ConnectionCore {
    private var endedRoundTrips: Int { state.withLock { $0.statistics.roundTrips } }

    nonisolated(nonsending) func performObserved(
        _ query: PostgresQuery, _ formats: ResultFormats, as writer: Int? = nil
    ) async throws(PostgresError) -> Reply {
        try await observed(.query, query: query) {
            () async throws(PostgresError) -> Reply in
            try await perform(query, formats, as: writer)
        }
    }

    nonisolated(nonsending) func scriptObserved(_ query: PostgresQuery) async throws(PostgresError) -> [Reply] {
        try await observed(.script, query: query) {
            () async throws(PostgresError) -> [Reply] in
            try await script(query)
        }
    }

    nonisolated(nonsending) func streamObserved(
        _ query: PostgresQuery, _ formats: ResultFormats
    ) async throws(PostgresError) -> RowStream {
        try await observed(.stream, query: query) {
            () async throws(PostgresError) -> RowStream in
            try await stream(query, formats)
        }
    }

    nonisolated(nonsending) func openObservedCursor(
        _ query: PostgresQuery, _ formats: ResultFormats, fetching count: Int, withHold: Bool,
        connection: any AnyObject & Sendable
    ) async throws(PostgresError) -> CursorHandle {
        try await observed(.cursor, query: query) {
            () async throws(PostgresError) -> CursorHandle in
            withHold
                ? try await declareHeldCursor(query, formats, fetching: count, connection: connection)
                : try await openLeasedCursor(query, formats, fetching: count, connection: connection)
        }
    }

    /// A COPY in, whose source may throw what it likes.
    nonisolated(nonsending) func observedCopy(_ sql: String, _ body: () async throws -> Int) async throws -> Int {
        guard let observation else { return try await body() }
        let running = observation.begin(.copyIn, sql: sql, roundTrips: endedRoundTrips)
        do {
            let rows = try await body()
            observation.end(running, Observation.Counts(affected: rows), roundTrips: endedRoundTrips)
            return rows
        } catch {
            observation.end(running, Observation.Counts(source: error), roundTrips: endedRoundTrips)
            throw error
        }
    }

    func observedCopyBlocking(_ sql: String, _ body: () throws -> Int) throws -> Int {
        guard let observation else { return try body() }
        let running = observation.begin(.copyIn, sql: sql, roundTrips: endedRoundTrips)
        do {
            let rows = try body()
            observation.end(running, Observation.Counts(affected: rows), roundTrips: endedRoundTrips)
            return rows
        } catch {
            observation.end(running, Observation.Counts(source: error), roundTrips: endedRoundTrips)
            throw error
        }
    }

    /// Runs `body`, and tells the observer, if there is one.
    nonisolated(nonsending) func observed<Success: ObservedResult>(
        _ kind: PostgresOperation.Kind, sql: String? = nil, statements: Int = 1, query: PostgresQuery? = nil,
        pipeline items: [PostgresPipeline.Item] = [], _ body: () async throws(PostgresError) -> Success
    ) async throws(PostgresError) -> Success {
        guard let observation else { return try await body() }
        let running = observation.begin(
            kind, sql: sql, statements: statements, query: query, pipeline: items, roundTrips: endedRoundTrips)
        do throws(PostgresError) {
            let result = try await body()
            observation.end(running, result.counts, roundTrips: endedRoundTrips)
            return result
        } catch {
            observation.end(running, Observation.Counts(error: error), roundTrips: endedRoundTrips)
            throw error
        }
    }

    /// The same for the blocking API.
    func observedBlocking<Success: ObservedResult>(
        _ kind: PostgresOperation.Kind, sql: String? = nil, statements: Int = 1, query: PostgresQuery? = nil,
        pipeline items: [PostgresPipeline.Item] = [], _ body: () throws(PostgresError) -> Success
    ) throws(PostgresError) -> Success {
        guard let observation else { return try body() }
        let running = observation.begin(
            kind, sql: sql, statements: statements, query: query, pipeline: items, roundTrips: endedRoundTrips)
        do throws(PostgresError) {
            let result = try body()
            observation.end(running, result.counts, roundTrips: endedRoundTrips)
            return result
        } catch {
            observation.end(running, Observation.Counts(error: error), roundTrips: endedRoundTrips)
            throw error
        }
    }
}

/// What can be told of a result.
protocol ObservedResult {
    var counts: Observation.Counts { get }
}

extension Reply: ObservedResult {
    var counts: Observation.Counts { Observation.Counts(rows: rowCount, affected: affected, error: error) }
}

extension Observation.Counts {
    /// A COPY in failed, perhaps for an error of its source.
    fileprivate init(source error: any Error) {
        self.init(
            error: error as? PostgresError
                ?? PostgresError(
                    code: error is CancellationError ? .cancelled : .sourceFailed,
                    message: "the source of the COPY failed: \(error)", outcome: .rejected))
    }
}

extension Array: ObservedResult where Element == Reply {
    /// Of several results together, and the first error.
    var counts: Observation.Counts {
        var counts = Observation.Counts()
        counts.statements = map {
            PostgresOperation.Result.Statement(rows: $0.rowCount, affected: $0.affected, error: $0.error)
        }
        for reply in self {
            counts.rows &+= reply.rowCount
            counts.affected &+= reply.affected
            if counts.error == nil { counts.error = reply.error }
        }
        return counts
    }
}

/// The rows of a COPY.
extension Int: ObservedResult {
    var counts: Observation.Counts { Observation.Counts(affected: self) }
}

/// Of a stream that was opened nothing is known yet.
extension RowStream: ObservedResult {
    var counts: Observation.Counts { Observation.Counts() }
}

extension StatementDescription: ObservedResult {
    var counts: Observation.Counts { Observation.Counts() }
}

extension Listener: ObservedResult {
    var counts: Observation.Counts { Observation.Counts() }
}

extension CursorHandle: ObservedResult {
    var counts: Observation.Counts { Observation.Counts(rows: firstRows?.rowCount ?? 0) }
}

extension TransactionFlow.Committed: ObservedResult {
    /// Of the last statements; a statement that failed for itself is an error of a transaction that was committed, too.
    var counts: Observation.Counts {
        var counts = replies.counts
        counts.error = error ?? counts.error
        return counts
    }
}
