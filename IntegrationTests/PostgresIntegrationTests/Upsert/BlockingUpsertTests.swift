import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

private struct Entry: PostgresTable, Equatable {
    var key: String
    var n: Int
    var version: Int = 0

    static let table = Table<Self>("blocking_entries", init: Self.init(key:n:version:)) {
        Column("key", \.key, .primaryKey)
        Column("n", \.n)
        Column("version", \.version)
    }

    static let bump = upsert.set(\.n) { $0.existing.n + $0.excluded.n }
    static let save = upsert.version(\.version)
}

/// Upserts of the blocking API.
@Suite(
    .inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"),
    .timeLimit(.minutes(2)))
struct BlockingUpsertTests {
    /// Runs a test on a thread of its own, with an empty table.
    private func withTable(_ test: @escaping @Sendable (PostgresBlockingConnection) throws -> Void) async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        try await onThread {
            let db = try PostgresBlockingConnection.connect(url)
            defer { db.close() }
            try db.script(
                """
                SET client_min_messages = warning;
                DROP TABLE IF EXISTS blocking_entries;
                CREATE TABLE blocking_entries (
                    key text PRIMARY KEY, n int8 NOT NULL CHECK (n <> 13), version int8 NOT NULL DEFAULT 0)
                """)
            try test(db)
        }
    }

    private func stored(_ db: some PostgresBlockingExecutor) throws -> [String: Int] {
        let rows = try db.query("SELECT key, n FROM blocking_entries", as: (String, Int).self).all()
        return Dictionary(uniqueKeysWithValues: rows)
    }

    private func error(_ operation: () throws -> Void) -> PostgresError? {
        do { try operation() } catch { return error as? PostgresError }
        return nil
    }

    @Test func oneRowIsOneRoundTrip() async throws {
        try await withTable { db throws in
            try db.prepareOutcomes(of: Entry.self)
            let before = db.statistics
            #expect(try db.upsert(Entry(key: "a", n: 1)) == 1)
            #expect(try db.upsert(Entry.bump(Entry(key: "a", n: 2))) == 1)
            let result = try db.upsert(Entry.bump(Entry(key: "a", n: 4)).returning(\.n).outcomes()).one()
            #expect(result == UpsertedRow(outcome: .updated, returned: 7))
            let skipped = try db.upsert(Upsert(Entry(key: "a", n: 1)).doNothing().outcomes())
            #expect(skipped.outcomes == [.skipped])
            #expect(try db.upsert(into: "blocking_entries", key: ("key", "b"), set: ("n", 3), touch: nil) == 1)
            #expect((db.statistics - before).roundTrips == 5)
            #expect(try stored(db) == ["a": 7, "b": 3])
        }
    }

    @Test(arguments: [UpsertStrategy.automatic, .unnest, .values, .copy])
    func everyStrategy(_ strategy: UpsertStrategy) async throws {
        try await withTable { db throws in
            let rows = (0..<150).shuffled().map { Entry(key: "k\($0)", n: $0 + 100) }
            let bump = Entry.bump.strategy(strategy).chunks(rows: 64)
            #expect(try db.upsert(bump.rows(rows.filter { $0.n % 3 == 0 })) == rows.count { $0.n % 3 == 0 })
            let result = try db.upsert(bump.rows(rows).returning(\.n).outcomes())
            #expect(result.outcomes == rows.map { $0.n % 3 == 0 ? .updated : .inserted })
            #expect(result.returned() == rows.map { $0.n % 3 == 0 ? $0.n * 2 : $0.n })
            try db.transaction { tx throws in
                #expect(try tx.upsert(bump.rows(rows)) == 150)
                try tx.transaction { inner throws in
                    #expect(try inner.upsert(bump.rows(rows).outcomes()).outcomes.allSatisfy { $0 == .updated })
                }
            }
            #expect(try stored(db)["k1"] == 303)
        }
    }

    @Test func aTransactionRollsUpsertsBack() async throws {
        try await withTable { db throws in
            let failed = error {
                try db.transaction { tx throws in
                    try tx.upsert(Entry(key: "a", n: 1))
                    try tx.upsert([Entry(key: "b", n: 2), Entry(key: "c", n: 3)])
                    try tx.upsert(Entry(key: "d", n: 13))
                }
            }
            #expect(failed?.code == .checkViolation)
            #expect(try stored(db) == [:])
        }
    }

    @Test func anErrorTakesNoMoreWithItThanItMay() async throws {
        try await withTable { db throws in
            let rows = [Entry(key: "a", n: 1), Entry(key: "b", n: 13), Entry(key: "c", n: 3)]
            let report = try db.upsert(Upsert(rows).outcomes(), isolation: .row)
            #expect(report.rows == [.inserted, nil, .inserted])
            #expect(report.failures.map(\.rows) == [[1]])
            try db.transaction { tx throws in
                let report = try tx.upsert(Entry.bump.rows(rows), isolation: .row)
                #expect(report.affected == 2)
                #expect(report.failures.map(\.error.code) == [.checkViolation])
            }
            #expect(try stored(db) == ["a": 2, "c": 6])
            let whole = error { try db.upsert(Upsert(rows), isolation: .batch).check() }
            #expect(whole?.code == .checkViolation)
        }
    }

    /// What the server gives up runs again, one row as many; inside of a transaction only that may.
    @Test(arguments: [1, 3])
    func whatWasGivenUpRunsAgain(_ count: Int) async throws {
        try await withTable { db throws in
            try db.script(
                """
                CREATE TEMP SEQUENCE tries;
                CREATE FUNCTION pg_temp.give_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF nextval('tries') % 3 <> 0 THEN RAISE SQLSTATE '40001'; END IF;
                    RETURN NEW;
                END $$;
                CREATE TRIGGER give_up BEFORE INSERT ON blocking_entries FOR EACH STATEMENT
                    EXECUTE FUNCTION pg_temp.give_up()
                """)
            let rows = (0..<count).map { Entry(key: "k\($0)", n: $0) }
            let upsert = count == 1 ? Entry.bump(rows[0]) : Entry.bump.rows(rows)
            let result = try db.upsert(upsert.retry(.upTo(3, base: .nanoseconds(1))).outcomes())
            #expect(result.affected == count)
            #expect(try db.query("SELECT last_value FROM tries", as: Int.self).one() == 3)
            let refused = error { _ = try db.upsert(upsert.retry(.upTo(2, base: .nanoseconds(1))).outcomes()) }
            #expect(refused?.code == .serializationFailure)
            #expect(try db.query("SELECT last_value FROM tries", as: Int.self).one() == 5)
            try db.execute("SELECT setval('tries', 3)")
            let inside = error {
                try db.transaction { tx in _ = try tx.upsert(upsert.outcomes()) }
            }
            #expect(inside?.code == .serializationFailure)
            #expect(try db.query("SELECT last_value FROM tries", as: Int.self).one() == 4)
        }
    }

    /// A table that has become another kind of table since its facts were learnt.
    @Test(arguments: [1, 2], [false, true])
    func factsThatAreWrongAreLearntAgain(_ count: Int, _ isInTransaction: Bool) async throws {
        try await withTable { db throws in
            try db.prepareOutcomes(of: Entry.self)
            try db.script(
                """
                ALTER TABLE blocking_entries RENAME TO blocking_base;
                CREATE VIEW blocking_entries AS SELECT * FROM blocking_base
                """)
            defer { _ = try? db.script("DROP VIEW blocking_entries; DROP TABLE blocking_base") }
            let rows = (0..<count).map { Entry(key: "k\($0)", n: $0) }
            let upsert = (count == 1 ? Entry.bump(rows[0]) : Entry.bump.rows(rows)).outcomes()
            if isInTransaction {
                let inside = error { try db.transaction { _ = try $0.upsert(upsert) } }
                #expect(inside?.code == .undefinedColumn)
                #expect(inside?.message.contains("are not those that its outcomes were prepared for") == true)
            }
            #expect(try db.upsert(upsert).outcomes == rows.map { _ in .inserted })
            #expect(try db.upsert(upsert).outcomes == rows.map { _ in .updated })
        }
    }

    @Test func anErrorNamesTheIndexesThatThereAre() async throws {
        try await withTable { db throws in
            try db.execute("ALTER TABLE blocking_entries DROP CONSTRAINT blocking_entries_pkey")
            for failed in [
                error { try db.upsert(Entry(key: "a", n: 1)) },
                error { try db.upsert([Entry(key: "a", n: 1), Entry(key: "b", n: 1)]) },
                error { _ = try db.upsert(Entry.bump(Entry(key: "a", n: 1)).returning(\.n)) },
            ] {
                #expect(failed?.message.contains("it has no unique index") == true)
            }
        }
    }

    @Test func aVersionThatIsStaleIsToldAndResolved() async throws {
        try await withTable { db throws in
            #expect(try db.upsert(Entry.save(Entry(key: "a", n: 1, version: 1))) == 1)
            #expect(try db.upsert(Entry.save(Entry(key: "a", n: 2, version: 1))) == 2)
            let stale = error { try db.upsert(Entry.save(Entry(key: "a", n: 3, version: 1))) }
            #expect(stale?.code == .staleVersion)
            var resolved = 0
            let version = try db.upsert(
                Entry.save(Entry(key: "a", n: 40, version: 1)), retry: .upTo(3, base: .nanoseconds(1))
            ) { current, mine in
                resolved += 1
                return Entry(key: mine.key, n: current.n + mine.n)
            }
            #expect(version == 3)
            #expect(resolved == 1)
            #expect(try stored(db) == ["a": 42])
        }
    }

    @Test func functionsAreInstalledAndCalled() async throws {
        try await withTable { db throws in
            let function = UpsertFunction("blocking_bump", Entry.bump)
            let call = try db.install(function)
            #expect(try db.upsert(call(Entry(key: "a", n: 1))) == 1)
            #expect(try db.upsert(call.rows([Entry(key: "a", n: 1), Entry(key: "b", n: 1)])) == 2)
            #expect(try stored(db) == ["a": 2, "b": 1])
            #expect(try db.dropStaleVersions(of: function) == [])
            try db.script(
                """
                DO $$ DECLARE f regprocedure; BEGIN
                    FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE starts_with(proname, 'blocking_bump_') LOOP
                        EXECUTE 'DROP FUNCTION ' || f;
                    END LOOP;
                END $$
                """)
        }
    }

    /// On several threads, each with batches and single rows, over one connection.
    @Test func threadsShareOneConnection() async throws {
        try await withTable { db in try db.prepareOutcomes(of: Entry.self) }
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        let db = try await onThread { try PostgresBlockingConnection.connect(url) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    try await onThread {
                        for _ in 0..<25 {
                            try db.upsert(Entry.bump(Entry(key: "k0", n: 100)))
                            try db.upsert(Entry.bump.rows((0..<10).map { Entry(key: "k\($0)", n: 100) }))
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let sums = try await onThread { try stored(db) }
        #expect(sums["k0"] == 20_000)
        #expect(sums["k9"] == 10_000)
        db.close()
    }

    // MARK: Waiting on the calling thread

    @Test func whatWouldWaitForItselfIsRefused() async throws {
        try await withTable { db throws in
            let rows = [Entry(key: "a", n: 1), Entry(key: "b", n: 2)]
            try db.transaction { tx throws in
                try tx.upsert(rows)
                let inside = error { try db.upsert(rows) }
                #expect(inside?.code == .unsupported)
                #expect(inside?.outcome == .notSent)
            }
            var cursor = try db.cursor("SELECT generate_series(1, 9)", as: Int32.self, fetching: 2)
            #expect(try cursor.next() == 1)
            let inside = error { try db.upsert(rows) }
            #expect(inside?.code == .unsupported)
            try cursor.close()
            #expect(try db.upsert(rows) == 2)
        }
    }

    @Test func deadlinesHold() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        try await withTable { db throws in
            let other = try PostgresBlockingConnection.connect(url)
            defer { other.close() }
            let rows = [Entry(key: "a", n: 1), Entry(key: "b", n: 2)]
            try other.transaction { tx throws in
                try tx.upsert(rows)
                let late = error { try withPostgresTimeout(.milliseconds(20)) { _ = try db.upsert(rows) } }
                #expect(late?.code == .timedOut)
                #expect(late?.outcome == .rejected)
            }
            #expect(try db.upsert(rows) == 2)
        }
    }

    @Test func whateverIsAsynchronousCanBeWaitedFor() async throws {
        try await withTable { db throws in
            let indexes = try db.wait { (db) async throws(PostgresError) in try await db.uniqueIndexes(of: Entry.self) }
            #expect(indexes.count == 1)
            let failed = error {
                try db.wait { (db) async throws(PostgresError) in _ = try await db.execute("SELECT 1 / \(0)") }
            }
            #expect(failed?.code == .divisionByZero)
            #expect(try db.query("SELECT 1", as: Int.self).one() == 1)
        }
    }
}
