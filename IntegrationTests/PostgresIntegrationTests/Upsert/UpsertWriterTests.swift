import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

private struct Hit: PostgresTable {
    var key: String
    var n: Int

    static let table = Table<Self>("writer_hits") {
        Column("key", \.key, .primaryKey)
        Column("n", \.n)
    }

    static let bump = upsert.set(\.n) { $0.existing.n + $0.excluded.n }
}

/// The error, if there is one.
private func error(of operation: () async throws -> Void) async -> PostgresError? {
    do { try await operation() } catch { return error as? PostgresError }
    return nil
}

/// Many tasks, few commits, and nothing lost.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertWriterIntegrationTests {
    private func prepare(_ db: some PostgresExecutor) async throws {
        try await db.execute("DROP TABLE IF EXISTS writer_hits")
        try await db.execute("CREATE TABLE writer_hits (key text PRIMARY KEY, n int8 NOT NULL CHECK (n >= 0))")
    }

    private func client(_ maximum: Int = 4) async throws -> PostgresClient {
        let server = try await PostgresEphemeralServer.shared()
        var options = PostgresClient.Options()
        options.maximumConnections = maximum
        return PostgresClient(try PostgresConfiguration(url: server.connectionURL(over: .unixSocket)), pool: options)
    }

    @Test func u44SixtyFourTasksOnFiveKeysCountExactly() async throws {
        let db = try await client()
        try await prepare(db)
        let writer = UpsertWriter(db, Hit.bump)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<64 {
                group.addTask {
                    for step in 0..<25 { try await writer.upsert(Hit(key: "k\((task + step) % 5)", n: 1)) }
                }
            }
            try await group.waitForAll()
        }
        let (keys, sum) = try await db.query("SELECT count(*), sum(n)::int8 FROM writer_hits", as: (Int, Int).self)
            .one()
        #expect(keys == 5)
        #expect(sum == 1600)
        #expect(writer.statistics.rows == 1600)
        #expect(writer.statistics.failedRows == 0)
        #expect(writer.statistics.waiting == 0)
        await db.shutdown()
    }

    @Test func u44EqualKeysOfAFlightAreMergedIfTheUpsertSaysHow() async throws {
        let db = try await client()
        try await prepare(db)
        let merging = Hit.bump.duplicates(.merge { Hit(key: $0.key, n: $0.n + $1.n) })
        let writer = UpsertWriter(db, merging)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<64 {
                group.addTask {
                    for step in 0..<25 { try await writer.upsert(Hit(key: "k\((task + step) % 5)", n: 1)) }
                }
            }
            try await group.waitForAll()
        }
        let sum = try await db.query("SELECT sum(n)::int8 FROM writer_hits", as: Int.self).one()
        #expect(sum == 1600)
        let statistics = writer.statistics
        #expect(statistics.postponedRows == 0)
        #expect(statistics.rowsPerFlight.sum == 1600)
        // More rows than there are keys.
        #expect(statistics.rowsPerFlight.maximum > 5)
        #expect(statistics.flights < 1600)
        await db.shutdown()
    }

    @Test func u44EachCallerLearnsWhatBecameOfItsOwnRow() async throws {
        let db = try await connect()
        defer { db.close() }
        try await prepare(db)
        let writer = UpsertWriter(db, Hit.bump.outcomes().returning(\.n))
        try await withThrowingTaskGroup(of: (Int, UpsertedRow<Int>).self) { group in
            for number in 0..<100 {
                group.addTask { (number, try await writer.upsert(Hit(key: "own\(number % 50)", n: 1))) }
            }
            var inserted: [Int: Int] = [:]
            for try await (number, row) in group {
                if row.outcome == .inserted {
                    inserted[number % 50, default: 0] += 1
                    #expect(row.returned == 1)
                } else {
                    #expect(row.outcome == .updated)
                    #expect(row.returned == 2)
                }
            }
            #expect(inserted.count == 50)
            #expect(inserted.values.allSatisfy { $0 == 1 })
        }
    }

    @Test func u44ARowThatTheServerRefusesFailsItsCallerOnly() async throws {
        let db = try await client()
        try await prepare(db)
        let writer = UpsertWriter(db, Hit.upsert)
        let failures = await withTaskGroup(of: PostgresError?.self) { group -> [PostgresError] in
            for number in 0..<200 {
                group.addTask {
                    do throws(PostgresError) {
                        try await writer.upsert(Hit(key: "p\(number)", n: number == 77 ? -1 : number))
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            var failures: [PostgresError] = []
            for await error in group { if let error { failures.append(error) } }
            return failures
        }
        #expect(failures.map(\.code) == [.checkViolation])
        #expect(failures.first?.constraint == "writer_hits_n_check")
        let count = try await db.query("SELECT count(*) FROM writer_hits", as: Int.self).one()
        #expect(count == 199)
        await db.shutdown()
    }

    /// A trigger may raise an error of a class that otherwise is about the statement.
    @Test(arguments: ["42501", "55000", "0A000"])
    func u44ARowThatATriggerRefusesFailsItsCallerOnly(_ state: String) async throws {
        let db = try await client()
        try await prepare(db)
        try await db.execute(
            """
            CREATE OR REPLACE FUNCTION writer_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF NEW.n = 7 THEN RAISE EXCEPTION 'seven' USING ERRCODE = '\(unsafeSQL: state)'; END IF;
                RETURN NEW;
            END $$
            """)
        try await db.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON writer_hits FOR EACH ROW EXECUTE FUNCTION writer_refuse()")
        let writer = UpsertWriter(db, Hit.upsert)
        let states = await withTaskGroup(of: String?.self) { group -> [String] in
            for number in 0..<40 {
                group.addTask { await error { try await writer.upsert(Hit(key: "p\(number)", n: number)) }?.sqlState }
            }
            var states: [String] = []
            for await state in group { if let state { states.append(state) } }
            return states
        }
        #expect(states == [state])
        let count = try await db.query("SELECT count(*) FROM writer_hits", as: Int.self).one()
        #expect(count == 39)
        await db.shutdown()
    }

    /// What can be known before two rows meet in a flight is told when the first comes.
    @Test func u44AWrongDeclarationIsToldToALoneRow() async throws {
        let db = try await connect()
        defer { db.close() }
        try await prepare(db)
        let upsert = Hit.bump.onConstraint("writer_hits_pkey").duplicates(.keepLast)
        let counting = UpsertWriter(db, upsert)
        let lone = await failure { try await counting.upsert(Hit(key: "a", n: 1)) }
        #expect(lone?.outcome == .notSent)
        #expect(lone?.message.contains("needs to know the key columns") == true)
        let asking = UpsertWriter(db, upsert.returning(\.n))
        let asked = await failure { try await asking.upsert(Hit(key: "a", n: 1)) }
        #expect(asked?.message == lone?.message)
        #expect(try await db.query("SELECT count(*) FROM writer_hits", as: Int.self).one() == 0)
    }

    @Test func u43ALongSequenceIsWritten() async throws {
        let db = try await client()
        try await prepare(db)
        let writer = UpsertWriter(db, Hit.bump, options: .init(maximumRows: 500, maximumWaiting: 2000))
        let rows = AsyncStream<Hit> { continuation in
            for number in 0..<20_000 { continuation.yield(Hit(key: "s\(number % 15_000)", n: 1)) }
            continuation.finish()
        }
        let written = try await writer.upsert(contentsOf: rows)
        #expect(written == 20_000)
        let (keys, sum) = try await db.query("SELECT count(*), sum(n)::int8 FROM writer_hits", as: (Int, Int).self)
            .one()
        #expect(keys == 15_000)
        #expect(sum == 20_000)
        #expect(writer.statistics.rowsPerFlight.maximum <= 500)
        await db.shutdown()
    }

    @Test func u44WhenTheServerDiesEveryCallerIsTold() async throws {
        let db = try await connect()
        try await prepare(db)
        let blocker = try await connect()
        defer { blocker.close() }
        let writer = UpsertWriter(db, Hit.bump)
        try await writer.upsert(Hit(key: "held", n: 1))
        let pid = try await db.query("SELECT pg_backend_pid()", as: Int32.self).one()
        let errors = try await blocker.transaction { tx in
            // The flight waits for this lock until its backend is ended.
            try await tx.execute("UPDATE writer_hits SET n = n + 1 WHERE key = 'held'")
            return try await withThrowingTaskGroup(of: PostgresError?.self) { group in
                for number in 0..<10 {
                    group.addTask {
                        do throws(PostgresError) {
                            try await writer.upsert(Hit(key: number == 0 ? "held" : "h\(number)", n: 1))
                            return nil
                        } catch {
                            return error
                        }
                    }
                }
                try await eventually("no flight waits for the lock") {
                    try await tx.query(
                        "SELECT count(*) FROM pg_locks WHERE pid = \(pid) AND NOT granted", as: Int.self
                    ).one() > 0
                }
                try await tx.execute("SELECT pg_terminate_backend(\(pid))")
                var errors: [PostgresError] = []
                for try await error in group { if let error { errors.append(error) } }
                return errors
            }
        }
        #expect(!errors.isEmpty)
        #expect(errors.allSatisfy { $0.outcome != .succeeded })
        #expect(writer.statistics.waiting == 0)
        #expect(writer.statistics.flying == 0)
    }
}
