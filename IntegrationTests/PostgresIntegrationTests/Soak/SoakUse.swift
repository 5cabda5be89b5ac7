import Postgres
import Synchronization
import Testing

/// A way to ask the server for a token, which its rows must then have, and no other's.
enum SoakUse: Int, Sendable, CaseIterable {
    case query, pipeline, stream, cursor, copyOut, copyIn, transaction, leftStream, leftCursor

    /// What somebody asks for, and how many seconds the server takes for it.
    struct Token: Sendable {
        let number: Int
        let sleep: Double
    }

    /// Rows of a stream, a cursor or a COPY.
    private static let rowCount = 50

    /// Asks on a connection.
    ///
    /// - Throws: only what the library says of the whole; of a pipeline, the first error among its statements.
    func run(_ token: Token, on db: PostgresConnection, _ tally: SoakTally) async throws {
        switch self {
        case .query: try await Self.query(token, on: db)
        case .pipeline: try await Self.pipeline(token, on: db)
        case .stream: try await Self.stream(token, on: db)
        case .cursor:
            try await Self.expectRows(try await db.cursor(Self.rows(token), as: Int.self, fetching: 20), token)
        case .copyOut:
            let sql = "SELECT \(token.number)::int8 FROM pg_sleep(\(token.sleep)), generate_series(1, \(Self.rowCount))"
            try await Self.expectRows(try await db.copy(rowsOf: "\(unsafeSQL: sql)", as: Int.self), token)
        case .copyIn: try await Self.copyIn(token, on: db, tally)
        case .transaction: try await db.transaction { tx in try await Self.transaction(token, tx) }
        case .leftStream: try await Self.leave(try await db.stream(Self.rows(token), as: Int.self), token)
        case .leftCursor:
            try await Self.leave(try await db.cursor(Self.rows(token), as: Int.self, fetching: 20), token)
        }
    }

    /// Asks a pool.
    func run(_ token: Token, on client: PostgresClient, _ tally: SoakTally) async throws {
        switch self {
        case .query: try await Self.query(token, on: client)
        case .pipeline: try await Self.pipeline(token, on: client)
        case .stream: try await Self.stream(token, on: client)
        case .transaction: try await client.transaction { tx in try await Self.transaction(token, tx) }
        case .leftStream: try await Self.leave(try await client.stream(Self.rows(token), as: Int.self), token)
        case .leftCursor:
            try await Self.leave(try await client.cursor(Self.rows(token), as: Int.self, fetching: 20), token)
        case .cursor, .copyOut, .copyIn: try await client.withConnection { db in try await run(token, on: db, tally) }
        }
    }

    private static func rows(_ token: Token) -> PostgresQuery {
        "SELECT \(token.number)::int8 FROM pg_sleep(\(token.sleep)), generate_series(1, \(rowCount))"
    }

    private static func expectRows(_ rows: some AsyncSequence<Int, PostgresError>, _ token: Token) async throws {
        var count = 0
        for try await number in rows {
            if number != token.number { Issue.record("a foreign token: \(number) for \(token.number)") }
            count += 1
        }
        #expect(count == rowCount)
    }

    /// Reads some rows, and not the others.
    private static func leave(_ rows: some AsyncSequence<Int, PostgresError>, _ token: Token) async throws {
        var count = 0
        for try await number in rows {
            if number != token.number { Issue.record("a foreign token: \(number) for \(token.number)") }
            count += 1
            if count == 1 + token.number % 45 { return }
        }
        Issue.record("\(count) rows")
    }

    /// Two statements, or one and another in a savepoint.
    private static func transaction(_ token: Token, _ tx: PostgresTransaction) async throws {
        let half = Token(number: token.number, sleep: token.sleep / 2)
        try await query(half, on: tx)
        if token.number.isMultiple(of: 2) {
            try await query(half, on: tx)
        } else {
            try await tx.transaction { inner in try await query(half, on: inner) }
        }
    }

    private static func query(_ token: Token, on db: some PostgresExecutor) async throws {
        let (number, _) = try await db.query(
            "SELECT \(token.number)::int8, pg_sleep(\(token.sleep))::text", as: (Int, String).self
        ).one()
        #expect(number == token.number, "a foreign token")
    }

    private static func stream(_ token: Token, on db: some PostgresStreaming) async throws {
        try await expectRows(try await db.stream(rows(token), as: Int.self), token)
    }

    private static func pipeline(_ token: Token, on db: some PostgresExecutor) async throws {
        var pipeline = PostgresPipeline(token.number.isMultiple(of: 2) ? .isolated : .atomic)
        let tickets = (0..<3).map { part in
            pipeline.add(
                PostgresQuery("SELECT \(token.number + part)::int8, pg_sleep(\(token.sleep / 3))::text")
                    .as((Int, String).self))
        }
        let results = try await db.run(pipeline)
        for (part, ticket) in tickets.enumerated() where results[ticket].error == nil {
            #expect(try results[ticket].one().0 == token.number + part, "a foreign token")
        }
        // What an atomic group says of its other statements comes from the one that failed.
        if let error = results.errors.lazy.compactMap({ $0 }).first(where: { $0.outcome != .aborted }) { throw error }
    }

    /// Ten rows, then a pause in which the copy may be cancelled, and ten more.
    private static func copyIn(_ token: Token, on db: PostgresConnection, _ tally: SoakTally) async throws {
        do {
            let copied = try await db.copy(into: "soak", columns: ["token"]) { writer in
                for part in 0..<2 {
                    // The deadline does not end this pause.
                    if part > 0 { try? await Task.sleep(for: .seconds(min(token.sleep, 0.02))) }
                    for _ in 0..<10 { try await writer.write("\(token.number)\n") }
                    try await writer.flush()
                }
            }
            #expect(copied == 20)
            tally.copied(token.number)
        } catch let error as PostgresError where error.outcome == .unknown {
            tally.doubted(token.number)
            throw error
        }
    }
}

/// What happened, by kind.
final class SoakTally: Sendable {
    private struct State {
        var counts: [String: Int] = [:]
        var copied: Set<Int> = []
        var doubted: Set<Int> = []
        /// What was sent and ended because of a cancellation: of tasks that have a connection alone, and of others.
        var alone = 0
        var shared = 0
    }

    private let state = Mutex(State())

    func cancelled(isAlone: Bool) { state.withLock { if isAlone { $0.alone += 1 } else { $0.shared += 1 } } }
    func cancellations(isAlone: Bool) -> Int { state.withLock { isAlone ? $0.alone : $0.shared } }
    func note(_ what: String) { state.withLock { $0.counts[what, default: 0] += 1 } }
    func copied(_ token: Int) { state.withLock { _ = $0.copied.insert(token) } }
    func doubted(_ token: Int) { state.withLock { _ = $0.doubted.insert(token) } }

    /// How many were cancelled, how many ended before, and of what kinds they were.
    var summary: String {
        state.withLock { state in
            let inTime = state.counts.reduce(0) { $0 + ($1.key.hasSuffix("in time") ? $1.value : 0) }
            let kinds = state.counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
            return "\(state.alone + state.shared) cancelled, \(inTime) in time: \(kinds.joined(separator: ", "))"
        }
    }

    func count(_ what: String) -> Int {
        state.withLock { state in state.counts.reduce(0) { $0 + ($1.key.hasPrefix(what) ? $1.value : 0) } }
    }

    /// That of each COPY in all rows are there, or none, as it was said.
    func expectCopies(_ db: PostgresConnection) async throws {
        let rows = try await db.query(
            "SELECT token, count(*) FROM soak GROUP BY token", as: (Int, Int).self
        ).all()
        let (copied, doubted) = state.withLock { ($0.copied, $0.doubted) }
        #expect(!copied.isEmpty)
        #expect(rows.allSatisfy { $0.1 == 20 })
        let present = Set(rows.map(\.0))
        #expect(copied.isSubset(of: present), "rows of an acknowledged COPY are missing")
        #expect(present.isSubset(of: copied.union(doubted)), "rows of a rejected COPY are there")
    }
}
