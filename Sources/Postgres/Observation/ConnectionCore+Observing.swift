import PostgresProtocol
import PostgresTransport
import Synchronization

/// The way of an operation when there is an observer. What has none does not come here.
extension ConnectionCore {
    private var endedRoundTrips: Int { state.withLock { $0.statistics.roundTrips } }

    nonisolated(nonsending) func performObserved(
        _ query: PostgresQuery, _ formats: ResultFormats, as writer: Int? = nil
    ) async throws(PostgresError) -> Reply {
        try await observed(.query, query: query, { Observation.Counts(rows: $0.rowCount, affected: $0.affected) }) {
            () async throws(PostgresError) -> Reply in
            try await perform(query, formats, as: writer)
        }
    }

    nonisolated(nonsending) func scriptObserved(
        _ query: PostgresQuery, as writer: Int? = nil
    ) async throws(PostgresError) -> [Reply] {
        try await observed(.script, query: query, { Observation.Counts($0) }) {
            () async throws(PostgresError) -> [Reply] in
            try await script(query, as: writer)
        }
    }

    nonisolated(nonsending) func streamObserved(
        _ query: PostgresQuery, _ formats: ResultFormats, as writer: Int? = nil
    ) async throws(PostgresError) -> RowStream {
        try await observed(.stream, query: query, { _ in Observation.Counts() }) {
            () async throws(PostgresError) -> RowStream in
            try await stream(query, formats, as: writer)
        }
    }

    /// A COPY in, whose source may throw what it likes.
    nonisolated(nonsending) func observedCopy(_ sql: String, _ body: () async throws -> Int) async throws -> Int {
        guard let observation else { return try await body() }
        let running = observation.begin(.copy, sql: sql, roundTrips: endedRoundTrips)
        do {
            let rows = try await body()
            observation.end(running, Observation.Counts(affected: rows), roundTrips: endedRoundTrips)
            return rows
        } catch {
            let known =
                error as? PostgresError
                ?? PostgresError(
                    code: .cancelled, message: "the source of the COPY failed: \(error)", outcome: .rejected)
            observation.end(running, Observation.Counts(error: known), roundTrips: endedRoundTrips)
            throw error
        }
    }

    /// Runs `body`, and tells the observer, if there is one.
    nonisolated(nonsending) func observed<Success>(
        _ kind: PostgresOperation.Kind, sql: String? = nil, statements: Int = 1, query: PostgresQuery? = nil,
        _ counts: (Success) -> Observation.Counts,
        _ body: () async throws(PostgresError) -> Success
    ) async throws(PostgresError) -> Success {
        guard let observation else { return try await body() }
        let running = observation.begin(
            kind, sql: sql, statements: statements, query: query, roundTrips: endedRoundTrips)
        do throws(PostgresError) {
            let result = try await body()
            observation.end(running, counts(result), roundTrips: endedRoundTrips)
            return result
        } catch {
            observation.end(running, Observation.Counts(error: error), roundTrips: endedRoundTrips)
            throw error
        }
    }

    /// The same for the blocking API.
    func observedBlocking<Success>(
        _ kind: PostgresOperation.Kind, sql: String? = nil, statements: Int = 1, query: PostgresQuery? = nil,
        _ counts: (Success) -> Observation.Counts,
        _ body: () throws(PostgresError) -> Success
    ) throws(PostgresError) -> Success {
        guard let observation else { return try body() }
        let running = observation.begin(
            kind, sql: sql, statements: statements, query: query, roundTrips: endedRoundTrips)
        do throws(PostgresError) {
            let result = try body()
            observation.end(running, counts(result), roundTrips: endedRoundTrips)
            return result
        } catch {
            observation.end(running, Observation.Counts(error: error), roundTrips: endedRoundTrips)
            throw error
        }
    }
}

extension Observation.Counts {
    /// Of several results.
    init(_ replies: [Reply]) {
        for reply in replies {
            rows &+= reply.rowCount
            affected &+= reply.affected
            if error == nil { error = reply.error }
        }
    }
}
