import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

private struct Counter: PostgresTable {
    var key: String
    var n: Int

    static let table = Table<Self>("upsert_counters") {
        Column("key", \.key, .primaryKey)
        Column("n", \.n)
    }

    static let bump = upsert.set(\.n) { $0.existing.n + $0.excluded.n }
}

/// Nothing is lost, and no duplicate key is ever reported, whoever writes at the same time.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertConcurrencyTests {
    private func counters(_ count: Int) async throws -> [PostgresConnection] {
        var connections: [PostgresConnection] = []
        for _ in 0..<count { connections.append(try await connect()) }
        try await connections[0].execute("DROP TABLE IF EXISTS upsert_counters")
        try await connections[0].execute("CREATE TABLE upsert_counters (key text PRIMARY KEY, n int8 NOT NULL)")
        return connections
    }

    @Test func tenWorkersOnFiveKeysLoseNothing() async throws {
        let workers = try await counters(10)
        try await withThrowingTaskGroup(of: Int.self) { group in
            for (number, db) in workers.enumerated() {
                group.addTask {
                    var inserted = 0
                    for step in 0..<50 {
                        let row = Counter(key: "key\((number + step) % 5)", n: 1)
                        if try await db.upsert(Counter.bump(row).outcomes()).one() == .inserted { inserted += 1 }
                    }
                    return inserted
                }
            }
            // Each key was inserted once, by whoever came first.
            let inserted = try await group.reduce(0, +)
            #expect(inserted == 5)
        }
        let rows = try await workers[0].query("SELECT key, n FROM upsert_counters", as: (String, Int).self).all()
        #expect(rows.count == 5)
        #expect(rows.allSatisfy { $0.1 == 100 })
        for db in workers { db.close() }
    }

    @Test func u29BatchesInAnyOrderDoNotDeadlock() async throws {
        let workers = try await counters(6)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for db in workers {
                group.addTask {
                    for _ in 0..<10 {
                        let rows = (0..<200).shuffled().map { Counter(key: "key\($0)", n: 1) }
                        let written = try await db.upsert(Counter.bump.rows(rows))
                        #expect(written == 200)
                    }
                }
            }
            try await group.waitForAll()
        }
        let (keys, sum) = try await workers[0].query(
            "SELECT count(*), sum(n)::int8 FROM upsert_counters", as: (Int, Int).self
        ).one()
        #expect(keys == 200)
        #expect(sum == 12_000)
        for db in workers { db.close() }
    }

    @Test func tasksSharingOneConnectionLoseNothing() async throws {
        let db = try await counters(1)[0]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<500 {
                group.addTask { try await db.upsert(Counter.bump(Counter(key: "key\(number % 5)", n: 1))) }
            }
            try await group.waitForAll()
        }
        let rows = try await db.query("SELECT n FROM upsert_counters", as: Int.self).all()
        #expect(rows == Array(repeating: 100, count: 5))
        db.close()
    }
}
