import PostgresProtocol
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
