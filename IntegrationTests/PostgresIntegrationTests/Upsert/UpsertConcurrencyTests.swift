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
                        // The order alone must do.
                        let written = try await db.upsert(Counter.bump.retry(.never).rows(rows))
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

    // MARK: U34: one row

    /// A table whose trigger gives up the first upserts of each key, as the server gives up one of a deadlock. What it has counted
    /// stays, as a sequence's value is not rolled back.
    private func refusing(_ code: String, times: Int) async throws -> PostgresConnection {
        let db = try await counters(1)[0]
        try await db.script(
            """
            DROP SEQUENCE IF EXISTS upsert_refusals;
            CREATE SEQUENCE upsert_refusals;
            CREATE OR REPLACE FUNCTION upsert_refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN
                IF nextval('upsert_refusals') <= TG_ARGV[0]::int THEN
                    RAISE EXCEPTION 'given up' USING ERRCODE = TG_ARGV[1];
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON upsert_counters
            FOR EACH ROW EXECUTE FUNCTION upsert_refuse(\(unsafeSQL: "'\(times)', '\(code)'"))
            """)
        return db
    }

    /// How many attempts there were since the last time.
    private func attempts(_ db: PostgresConnection) async throws -> Int {
        let count = try await db.query(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM upsert_refusals", as: Int.self
        ).one()
        try await db.script("ALTER SEQUENCE upsert_refusals RESTART")
        return count
    }

    @Test(arguments: ["40P01", "40001"]) func u34OneRowIsRunAgainOutsideOfTransactions(_ code: String) async throws {
        let db = try await refusing(code, times: 2)
        let server = try await PostgresEphemeralServer.shared()
        let client = PostgresClient(try PostgresConfiguration(url: server.connectionURL(over: .unixSocket)))
        let row = Counter(key: "a", n: 1)
        #expect(try await db.upsert(row) == 1)
        #expect(try await attempts(db) == 3)
        #expect(try await db.upsert(Counter.bump(row)) == 1)
        #expect(try await attempts(db) == 3)
        #expect(try await client.upsert(Counter.bump(row)) == 1)
        #expect(try await attempts(db) == 3)
        #expect(try await db.upsert(into: "upsert_counters", key: ("key", "a"), set: ("n", 7), touch: nil) == 1)
        #expect(try await attempts(db) == 3)
        #expect(try await db.query("SELECT n FROM upsert_counters", as: Int.self).one() == 7)

        let once = await failure { try await db.upsert(Counter.bump(row).retry(.upTo(1))) }
        #expect(once?.sqlState == code)
        #expect(try await attempts(db) == 1)
        let second = await failure { try await db.upsert(Counter.bump(row).retry(.upTo(2))) }
        #expect(second?.sqlState == code)
        #expect(try await attempts(db) == 2)
        let inside = await failure { try await db.transaction { tx in try await tx.upsert(row) } }
        #expect(inside?.sqlState == code)
        #expect(try await attempts(db) == 1)
        let keyed = await failure {
            try await db.transaction { tx in
                try await tx.upsert(into: "upsert_counters", key: ("key", "a"), set: ("n", 7), touch: nil)
            }
        }
        #expect(keyed?.sqlState == code)
        #expect(try await attempts(db) == 1)
        await client.shutdown()
        db.close()
    }

    @Test func u34OneRowOfTheBlockingAPIIsRunAgain() async throws {
        let db = try await refusing("40001", times: 2)
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        try await onThread {
            let blocking = try PostgresBlockingConnection.connect(PostgresConfiguration(url: url))
            defer { blocking.close() }
            let row = Counter(key: "a", n: 1)
            #expect(try blocking.upsert(row) == 1)
            #expect(try blocking.query("ALTER SEQUENCE upsert_refusals RESTART").all().isEmpty)
            #expect(try blocking.upsert(Counter.bump(row)) == 1)
            #expect(try blocking.query("ALTER SEQUENCE upsert_refusals RESTART").all().isEmpty)
            #expect(try blocking.upsert(into: "upsert_counters", key: ("key", "a"), set: ("n", 7), touch: nil) == 1)
            #expect(try blocking.query("SELECT last_value FROM upsert_refusals", as: Int.self).one() == 3)
            _ = try blocking.query("ALTER SEQUENCE upsert_refusals RESTART").all()
            do {
                try blocking.transaction { tx in try tx.upsert(row) }
                Issue.record("a transaction's statement was run again")
            } catch let error as PostgresError { #expect(error.sqlState == "40001") }
        }
        #expect(try await attempts(db) == 1)
        db.close()
    }
}
