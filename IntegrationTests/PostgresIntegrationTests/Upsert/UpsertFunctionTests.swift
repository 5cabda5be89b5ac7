import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

private struct Entry: PostgresTable, Equatable {
    var key: String
    var mood: String
    var data: String
    var n: Int
    var touchedAt: PostgresTimestamp?

    static let table = Table<Self>("function_entries") {
        Column("key", \.key, .primaryKey)
        Column("mood", \.mood, type: "function_mood")
        Column("data", \.data, type: "jsonb")
        Column("n", \.n)
        Column("touched_at", \.touchedAt, .updatedAt)
    }

    static let bump = upsert.set(\.n) { $0.existing.n + $0.excluded.n }

    static func sample(_ key: String, _ n: Int = 1) -> Entry { Entry(key: key, mood: "fine", data: "{}", n: n) }
}

private struct OtherEntry: PostgresTable {
    var key: String
    var n: Int

    static let table = Table<Self>("function_others") {
        Column("key", \.key, .primaryKey)
        Column("n", \.n)
    }
}

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertFunctionTests {
    private func table() async throws -> PostgresConnection {
        let db = try await connect()
        _ = try await db.script(
            """
            SET client_min_messages = warning;
            DROP SCHEMA IF EXISTS functions CASCADE;
            CREATE SCHEMA functions;
            DROP TABLE IF EXISTS function_entries;
            DROP TYPE IF EXISTS function_mood;
            CREATE TYPE function_mood AS ENUM ('fine', 'sad');
            CREATE TABLE function_entries (
                key varchar(20) PRIMARY KEY, mood function_mood NOT NULL, data jsonb NOT NULL, n int4 NOT NULL,
                touched_at timestamptz NOT NULL DEFAULT now());
            """)
        return db
    }

    private func functions(_ db: PostgresConnection) async throws -> [String] {
        try await db.query(
            """
            SELECT proname::text FROM pg_proc WHERE pronamespace = 'functions'::regnamespace ORDER BY 1
            """, as: String.self
        ).all()
    }

    private func entries(_ db: PostgresConnection) async throws -> [Int] {
        try await db.query("SELECT n FROM function_entries ORDER BY key", as: Int.self).all()
    }

    @Test func itDoesWhatTheUpsertDoes() async throws {
        let db = try await table()
        defer { db.close() }
        let bump = try await db.install(UpsertFunction("bump", in: "functions", Entry.bump))
        let written = try await db.upsert(bump(.sample("a")))
        #expect(written == 1)
        let many = try await db.upsert(bump.rows((0..<100).reversed().map { .sample($0 == 7 ? "a" : "k\($0)", $0) }))
        #expect(many == 100)
        let n = try await db.query("SELECT n FROM function_entries WHERE key = 'a'", as: Int.self).one()
        #expect(n == 8)
        let (first, second) = try await db.pipeline(.atomic, bump(.sample("a")).query, bump(.sample("b")).query)
        #expect(try first.affected == 1)
        #expect(try second.affected == 1)
        #expect(bump.sql.hasPrefix("SELECT FROM \"functions\".\"bump_"))
    }

    @Test func itTellsWhatBecameOfRows() async throws {
        let db = try await table()
        defer { db.close() }
        let save = try await db.install(
            UpsertFunction("save", in: "functions", Entry.upsert.ifChanged().outcomes().returning(\.n)))
        let inserted = try await db.upsert(save(.sample("a"))).one()
        #expect(inserted == UpsertedRow(outcome: .inserted, returned: 1))
        let result = try await db.upsert(save.rows([.sample("c"), .sample("a"), .sample("b", 2)]))
        #expect(result.outcomes == [.inserted, .unchanged, .inserted])
        #expect(result.map(\.returned) == [1, nil, 2])
        #expect(result.affected == 2)
        let updated = try await db.upsert(save.rows([.sample("c", 5), .sample("a", 6)]))
        #expect(updated.outcomes == [.updated, .updated])
        #expect(updated.map(\.returned) == [5, 6])
    }

    @Test func errorsComeThroughIt() async throws {
        let db = try await table()
        defer { db.close() }
        let bump = try await db.install(UpsertFunction("bump", in: "functions", Entry.bump))
        let error = await failure {
            try await db.upsert(bump(Entry(key: "a", mood: "angry", data: "{}", n: 1)))
        }
        #expect(error?.code == .invalidTextRepresentation)
        try await db.execute("DROP FUNCTION \(unsafeSQL: functionName(bump.sql))")
        let gone = await failure { try await db.upsert(bump(.sample("a"))) }
        #expect(gone?.code == .undefinedFunction)
    }

    private func functionName(_ sql: String) -> String {
        String(sql.dropFirst("SELECT FROM ".count).prefix { $0 != "(" })
    }

    @Test func installingTwiceIsInstallingOnce() async throws {
        let db = try await table()
        defer { db.close() }
        let function = UpsertFunction("bump", in: "functions", Entry.bump)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                let other = try await connect()
                group.addTask {
                    defer { other.close() }
                    try await other.install(function)
                }
            }
            try await group.waitForAll()
        }
        let names = try await functions(db)
        #expect(names.count == 2)
        let before = db.statistics.roundTrips
        try await db.install(function)
        #expect(db.statistics.roundTrips - before == 1)
        // In a transaction it is there when that commits.
        try await db.execute("DROP SCHEMA functions CASCADE")
        try await db.transaction { tx in
            try await tx.execute("CREATE SCHEMA functions")
            let bump = try await tx.install(function)
            try await tx.upsert(bump(.sample("t")))
        }
        let again = try await functions(db)
        #expect(again == names)
    }

    @Test func staleVersionsAreDroppedAndNothingElse() async throws {
        let db = try await table()
        defer { db.close() }
        let old = try await db.install(UpsertFunction("bump", in: "functions", Entry.upsert))
        try await db.install(UpsertFunction("bumper", in: "functions", Entry.upsert))
        let function = UpsertFunction("bump", in: "functions", Entry.bump)
        let new = try await db.install(function)
        try await db.execute(
            "CREATE FUNCTION functions.bump_0123456789abcdef() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        // Both versions work as long as both are there.
        try await db.upsert(old(.sample("a", 3)))
        try await db.upsert(new(.sample("a", 4)))
        let sum = try await entries(db)
        #expect(sum == [7])
        let dropped = try await db.dropStaleVersions(of: function)
        #expect(dropped.count == 2)
        #expect(dropped.allSatisfy { $0.hasPrefix("functions.bump_") })
        try await db.upsert(new(.sample("a", 4)))
        let gone = await failure { try await db.upsert(old(.sample("a", 3))) }
        #expect(gone?.code == .undefinedFunction)
        let left = try await functions(db)
        #expect(left.count == 5)
        let none = try await db.dropStaleVersions(of: function)
        #expect(none.isEmpty)
    }

    /// Of a pool, the connection that asks and the one that drops may have other search paths.
    @Test func staleVersionsAreDroppedByTheirWholeNames() async throws {
        struct Kinded: PostgresTable {
            var key: String
            var n: Int

            static let table = Table<Self>("function_kinds") {
                Column("key", \.key, .primaryKey)
                Column("n", \.n)
            }
        }
        let db = try await table()
        defer { db.close() }
        _ = try await db.script(
            """
            DROP SCHEMA IF EXISTS "two functions" CASCADE;
            CREATE SCHEMA "two functions";
            SET search_path = "two functions", public;
            CREATE DOMAIN kind AS text;
            CREATE TABLE function_kinds (key kind PRIMARY KEY, n int8 NOT NULL);
            """)
        try await db.install(UpsertFunction("save", in: "two functions", Kinded.upsert))
        let function = UpsertFunction("save", in: "two functions", Kinded.upsert.doNothing())
        let dropped = try await db.dropStaleVersions(of: function)
        #expect(dropped.count == 2)
        #expect(dropped.allSatisfy { $0.hasPrefix(#""two functions".save_"#) })
        #expect(dropped.contains { $0.hasSuffix(#"("two functions".kind, pg_catalog.int8)"#) })
        try await db.execute(#"DROP SCHEMA "two functions" CASCADE"#)
    }

    @Test func textsOfTheUpsertHaveTheTypesOfTheirPlaces() async throws {
        let db = try await table()
        defer { db.close() }
        let sadden = Entry.upsert.set(\.mood, to: "sad").set(\.data, to: #"{"it's": "a \\ b"}"#).set(\.n, to: 9)
        let call = try await db.install(UpsertFunction("sadden", in: "functions", sadden))
        for upsert in [sadden, call] {
            try await db.upsert(upsert(.sample("a")))
            try await db.upsert(upsert(.sample("a")))
            let (mood, data, n) = try await db.query(
                #"SELECT mood::text, data->>'it''s', n FROM function_entries"#, as: (String, String, Int).self
            ).one()
            #expect(mood == "sad")
            #expect(data == #"a \ b"#)
            #expect(n == 9)
            try await db.execute("TRUNCATE function_entries")
        }
    }

    @Test func whatIsNotSQLCanBeChangedBehindIt() async throws {
        let db = try await table()
        defer { db.close() }
        let bump = try await db.install(UpsertFunction("bump", in: "functions", Entry.bump))
        let chunked = bump.chunks(rows: 2).retry(.never).duplicates(.keepLast)
        let rows = (0..<5).map { Entry.sample("k\($0 % 4)", $0) }
        try await db.upsert(chunked.rows(rows))
        #expect(chunked.rows(rows).sql.hasPrefix("SELECT FROM \"functions\".\"bump_rows_"))
        let writer = UpsertWriter(db, bump)
        try await db.execute("DROP SCHEMA functions CASCADE")
        // The writer calls the function, which is not there any more.
        let error = await failure { try await writer.upsert(.sample("a")) }
        #expect(error?.code == .invalidSchemaName)
        // What it does cannot be changed any more.
        let refused = await failure { try await db.upsert(bump.ifChanged()(.sample("a"))) }
        #expect(refused?.outcome == .notSent)
        #expect(refused?.message.contains("calls a function") == true)
    }

    @Test func functionsOfOtherTablesAndNamesAreNotStale() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.install(UpsertFunction("bump_rows", in: "functions", Entry.upsert))
        try await db.execute("DROP TABLE IF EXISTS function_others")
        try await db.execute("CREATE TABLE function_others (key text PRIMARY KEY, n int8)")
        let other = try await db.install(UpsertFunction("bump", in: "functions", OtherEntry.upsert))
        let dropped = try await db.dropStaleVersions(of: UpsertFunction("bump", in: "functions", Entry.bump))
        #expect(dropped.isEmpty)
        try await db.upsert(other(OtherEntry(key: "a", n: 1)))
    }

    @Test func itsSQLCanBeInstalledByHand() async throws {
        let db = try await table()
        defer { db.close() }
        let function = UpsertFunction("bump", in: "functions", Entry.bump)
        _ = try await db.script("\(unsafeSQL: function.sql)")
        let before = db.statistics.roundTrips
        let bump = try await db.install(function)
        #expect(db.statistics.roundTrips - before == 1)
        try await db.upsert(bump(.sample("a")))
    }
}
