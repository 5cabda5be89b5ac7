import Postgres
import PostgresTesting
import TestTurns
import Testing

@testable import PostgresUpsert

private struct Watched: PostgresTable {
    var key: String
    var part: Int?
    var n: Int

    static let table = Table<Self>("watched_rows") {
        Column("key", \.key, .primaryKey)
        Column("part", \.part)
        Column("n", \.n)
    }
}

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertWatchingTests {
    private func table(
        _ change: (inout PostgresConfiguration) -> Void = { _ in }
    ) async throws -> PostgresConnection {
        let db = try await connect(over: .unixSocket, change)
        try await db.execute("DROP TABLE IF EXISTS watched_rows")
        try await db.execute(
            "CREATE TABLE watched_rows (key text PRIMARY KEY, part int8, n int8 NOT NULL CHECK (n > 0))")
        return db
    }

    @Test func upsertsAreCountedAsTheyRun() async throws {
        let metrics = UpsertMetrics()
        let db = try await table { $0.observer = metrics }
        defer { db.close() }
        _ = metrics.nextWindow()
        try await db.upsert(Watched(key: "a", n: 1))
        try await db.upsert((0..<10).map { Watched(key: "k\($0)", n: 1) })
        _ = await failure { try await db.upsert(Watched(key: "b", n: 0)) }
        _ = try await db.query("SELECT count(*) FROM watched_rows", as: Int.self).one()
        let window = metrics.nextWindow()
        #expect(window.upserts.operations == 3)
        #expect(window.upserts.affected == 11)
        #expect(window.upserts.errors == [.checkViolation: 1])
        #expect(window.others.operations == 1)
        let alerts = UpsertAlertThresholds().alerts(window)
        #expect(alerts.contains { $0.kind == .errorRate })
    }

    /// However many statements an upsert is, and whatever else it travels with.
    @Test func upsertsAreCountedHoweverTheyTravel() async throws {
        let metrics = UpsertMetrics()
        let db = try await table { $0.observer = metrics }
        defer { db.close() }
        let rows = (0..<10).map { Watched(key: "k\($0)", n: 1) }
        func window(_ run: () async throws -> Void) async throws -> UpsertMetrics.Window {
            _ = metrics.nextWindow()
            try await run()
            return metrics.nextWindow()
        }
        let pipeline = try await window {
            var pipeline = PostgresPipeline()
            pipeline.add(Upsert(rows[0]).query)
            pipeline.add("SELECT 1")
            try await db.run(pipeline).check()
        }
        #expect(pipeline.upserts.operations == 1)
        #expect(pipeline.upserts.affected == 1)
        #expect(pipeline.others.operations == 1)
        let chunks = try await window { try await db.upsert(Upsert(rows).chunks(rows: 5)) }
        #expect(chunks.upserts.operations == 2)
        #expect(chunks.upserts.affected == 10)
        #expect(chunks.upserts.duration.count == 2)
        let isolated = try await window {
            let report = try await db.upsert(Upsert(rows + [Watched(key: "z", n: 0)]), isolation: .row)
            #expect(report.failures.count == 1)
        }
        #expect(isolated.upserts.operations == 11)
        #expect(isolated.upserts.affected == 10)
        #expect(isolated.upserts.errors == [.checkViolation: 1])
        let savepoints = try await window {
            _ = try await db.transaction { tx in try await tx.upsert(Upsert(rows), isolation: .row) }
        }
        #expect(savepoints.upserts.operations == 10)
        let staged = try await window { try await db.upsert(Upsert(rows).strategy(.copy)) }
        #expect(staged.upserts.operations == 1)
        #expect(staged.upserts.affected == 10)
        let committed = try await window {
            try await db.transaction { tx in _ = try await tx.commit(with: Upsert(rows[1]).query.query) }
        }
        #expect(committed.upserts.operations == 1)
    }

    @Test func keysAreCounted() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.upsert((0..<6).map { Watched(key: "k\($0)", part: $0 < 2 ? nil : $0 % 2, n: 1) })
        let byKey = try await db.keyCount(of: Watched.self, expected: 6)
        #expect(byKey.rows == 6)
        #expect(byKey.keys == 6)
        #expect(byKey.problem == nil)
        let short = try await db.keyCount(of: Watched.self, expected: 7)
        #expect(short.problem == "6 distinct keys instead of 7")
        // NULL is a key, too: 0, 1 and NULL.
        let byPart = try await db.keyCount(of: Watched.self, by: \.part)
        #expect(byPart.keys == 3)
        #expect(byPart.problem == "6 rows, but 3 distinct keys: some keys have several rows")
        let both = try await db.keyCount(of: Watched.self, by: \.part, \.key)
        #expect(both.keys == 6)
    }

    @Test func whoWaitsForALockIsSeen() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.upsert(Watched(key: "a", n: 1))
        let watcher = try await connect()
        defer { watcher.close() }
        let waiter = try await connect()
        defer { waiter.close() }
        let none = try await watcher.lockWaits(on: Watched.self)
        #expect(none.isEmpty)
        let holder = try await db.query("SELECT pg_backend_pid()", as: Int32.self).one()
        let pid = try await waiter.query("SELECT pg_backend_pid()", as: Int32.self).one()
        async let upserted = waiter.upsert(Watched(key: "a", n: 3))
        try await db.transaction { tx in
            try await tx.upsert(Watched(key: "a", n: 2))
            try await eventually("nobody waits") {
                let waits = try await watcher.lockWaits(on: Watched.self)
                guard let wait = waits.first(where: { $0.pid == pid }) else {
                    // The other may have come first.
                    return try await watcher.query("SELECT n FROM watched_rows", as: Int.self).one() == 3
                }
                #expect(wait.blockedBy == [holder])
                #expect(wait.sql.contains("ON CONFLICT"))
                return true
            }
        }
        let written = try await upserted
        #expect(written == 1)
    }

    @Test func statementsAreFoundWhereTheExtensionIs() async throws {
        let db = try await table()
        defer { db.close() }
        let none = try await db.statementStatistics(of: Watched.self)
        #expect(none == nil)

        var options = PostgresEphemeralServer.Options()
        options.settings["shared_preload_libraries"] = "pg_stat_statements"
        try await PostgresEphemeralServer.withServer(options) { server in
            let other = try await PostgresConnection.connect(server.connectionURL(over: .unixSocket))
            defer { other.close() }
            let installed = try await other.query(
                "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'", as: Int.self
            ).one()
            try #require(installed == 1)
            try await other.execute("CREATE EXTENSION pg_stat_statements")
            try await other.execute("CREATE TABLE watched_rows (key text PRIMARY KEY, part int8, n int8 NOT NULL)")
            for n in 1...5 { try await other.upsert(Watched(key: "a", n: n)) }
            // The names of others that hold its name.
            for name in ["watched_rows_2", "old_watched_rows", "Watched_Rows", "a watched_rows", "watched_rows\"x"] {
                try await other.execute("CREATE TABLE \(identifier: name) (n int8)")
                try await other.execute("INSERT INTO \(identifier: name) VALUES (1)")
            }
            try await other.execute("DELETE FROM Public . WATCHED_ROWS WHERE key = 'none'")
            let statistics = try await other.statementStatistics(of: Watched.self)
            #expect(statistics?.count == 2)
            #expect(statistics?.contains { $0.sql.hasPrefix("DELETE FROM Public . WATCHED_ROWS") } == true)
            let upsert = statistics?.first { $0.sql.contains("ON CONFLICT") }
            #expect(upsert?.calls == 5)
            #expect(upsert?.rows == 5)
            #expect(statistics?.contains { $0.sql.hasPrefix("CREATE TABLE") } == false)
        }
    }

    /// What the server's regular expressions make of a name.
    @Test(arguments: [
        ("watched_rows", nil, "UPDATE watched_rows SET n = 1", true),
        ("watched_rows", nil, "update Watched_Rows set n = 1", true),
        ("watched_rows", nil, #"INSERT INTO "watched_rows" ("n") VALUES ($1)"#, true),
        ("watched_rows", nil, #"INSERT INTO "Watched_rows" ("n") VALUES ($1)"#, false),
        ("watched_rows", nil, "SELECT 1 FROM old_watched_rows", false),
        ("watched_rows", nil, "SELECT 1 FROM watched_rows_old", false),
        ("watched_rows", nil, "SELECT 1 FROM watched_rows$", false),
        ("watched_rows", nil, "SELECT 1 FROM éwatched_rows", false),
        ("watched_rows", nil, #"SELECT 1 FROM "watched_rows""x""#, false),
        ("watched_rows", nil, #"SELECT 1 FROM "x""watched_rows""#, false),
        ("watched_rows", nil, "SELECT watched_rows.n FROM any.watched_rows", true),
        ("watched_rows", "a b", #"SELECT 1 FROM "a b".watched_rows"#, true),
        ("watched_rows", "a b", #"SELECT 1 FROM "a b" . "watched_rows""#, true),
        ("watched_rows", "a b", #"SELECT 1 FROM "b".watched_rows"#, false),
        ("watched_rows", "a b", "SELECT 1 FROM b.watched_rows", false),
        ("watched_rows", "app", "SELECT 1 FROM App.Watched_Rows", true),
        ("watched_rows", "app", "SELECT 1 FROM my_app.watched_rows", false),
        ("watched_rows", "app", "SELECT 1 FROM watched_rows", true),
        ("Über.uns", nil, #"SELECT 1 FROM "Über.uns""#, true),
        ("Über.uns", nil, #"SELECT 1 FROM "Überxuns""#, false),
        ("a\"b", nil, #"SELECT 1 FROM "a""b""#, true), ("2nd", nil, "SELECT 1 FROM 2nd", false),
    ])
    func aNameIsFoundAsAName(_ name: String, _ schema: String?, _ sql: String, _ isFound: Bool) async throws {
        let db = try await connect()
        defer { db.close() }
        let mention = TableMention(name: name, schema: schema)
        let found = try await db.query(
            "SELECT coalesce(\(sql) ~ \(mention.quotedName) OR \(sql) ~* \(mention.plainName), false)", as: Bool.self
        ).one()
        #expect(found == isFound, "\(mention)")
    }
}
