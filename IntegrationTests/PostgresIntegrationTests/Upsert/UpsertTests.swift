import Foundation
import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

private struct Page: PostgresTable, Equatable {
    var path: String
    var hits: Int
    var fetchedAt: PostgresTimestamp?

    static let table = Table<Self>("upsert_pages", init: Self.init(path:hits:fetchedAt:)) {
        Column("path", \.path, .primaryKey)
        Column("hits", \.hits)
        Column("fetched_at", \.fetchedAt, .updatedAt)
    }

    static let bump = upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }

    init(path: String, hits: Int, fetchedAt: PostgresTimestamp? = nil) {
        self.path = path
        self.hits = hits
        self.fetchedAt = fetchedAt
    }
}

private enum Mood: String, PostgresCodable, Decodable {
    case happy
    case sad
}

/// Columns of types that a String, an integer or an array of them does not go into by itself.
private struct Person: PostgresTable, Decodable, Equatable {
    var name: String
    var mood: Mood
    var data: String
    var id: UUID
    var age: Int
    var weight: Float?
    var born: String?

    static let table = Table<Self>("upsert people") {
        Column("name", \.name, .primaryKey, type: "citext")
        Column("mood", \.mood, type: "upsert_mood")
        Column("data", \.data, type: "jsonb")
        Column("id", \.id)
        Column("age", \.age)
        Column("weight", \.weight)
        Column("born", \.born, type: "date")
    }
}

/// Against a real server, each test in a table of its own kind, emptied first.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertTests {
    private func pages() async throws -> PostgresConnection {
        let db = try await connect()
        try await db.execute(
            """
            CREATE TABLE IF NOT EXISTS upsert_pages (
                path text PRIMARY KEY, hits int NOT NULL, fetched_at timestamptz NOT NULL)
            """)
        try await db.execute("TRUNCATE upsert_pages")
        return db
    }

    private func stored(_ db: PostgresConnection) async throws -> [String: Int] {
        let rows = try await db.query("SELECT path, hits FROM upsert_pages", as: (String, Int).self).all()
        return Dictionary(uniqueKeysWithValues: rows)
    }

    @Test func aRowIsInsertedThenOverwritten() async throws {
        let db = try await pages()
        #expect(try await db.upsert(Page(path: "/", hits: 1)) == 1)
        let first = try await db.query("SELECT * FROM upsert_pages", as: Page.self).one()
        #expect(try await db.upsert(Page(path: "/", hits: 5)) == 1)
        let second = try await db.query("SELECT * FROM upsert_pages", as: Page.self).one()
        #expect(first.hits == 1)
        #expect(second.hits == 5)
        #expect(try #require(second.fetchedAt) > #require(first.fetchedAt))
        db.close()
    }

    @Test func aKeptShapeIsPreparedOnce() async throws {
        let db = try await pages()
        try await db.upsert(Page.bump(Page(path: "/", hits: 1)))
        let before = db.statistics
        for _ in 0..<10 { try await db.upsert(Page.bump(Page(path: "/", hits: 1))) }
        let cost = db.statistics - before
        #expect(cost.roundTrips == 10)
        // BindComplete, CommandComplete, ReadyForQuery.
        #expect(cost.messagesReceived == 30)
        #expect(try await stored(db) == ["/": 11])
        db.close()
    }

    @Test(arguments: [1, 2, 1000])
    func u22AnswersComeInTheOrderOfTheInput(_ count: Int) async throws {
        let db = try await pages()
        let rows = (0..<count).shuffled().map { Page(path: "/\($0)", hits: $0) }
        let known = rows.filter { $0.hits % 3 == 0 }
        #expect(try await db.upsert(known) == known.count)
        let result = try await db.upsert(Page.bump.rows(rows).returning(\.path, \.hits).outcomes())
        #expect(result.affected == count)
        #expect(result.outcomes == rows.map { $0.hits % 3 == 0 ? .updated : .inserted })
        #expect(result.returned().map(\.0) == rows.map(\.path))
        #expect(result.returned().map(\.1) == rows.map { $0.hits % 3 == 0 ? $0.hits * 2 : $0.hits })
        db.close()
    }

    @Test(arguments: [1, 2, 1000])
    func u27RowsLeftOutAreTold(_ count: Int) async throws {
        let db = try await pages()
        let rows = (0..<count).shuffled().map { Page(path: "/\($0)", hits: $0) }
        let known = rows.filter { $0.hits % 3 == 0 }
        func reset() async throws {
            try await db.execute("TRUNCATE upsert_pages")
            try await db.upsert(known)
        }
        func expected(_ leftOut: UpsertOutcome) -> [UpsertOutcome] {
            rows.map { $0.hits % 3 == 0 ? leftOut : .inserted }
        }
        try await reset()
        let nothing = try await db.upsert(Upsert(rows).doNothing().outcomes())
        #expect(nothing.outcomes == expected(.skipped))
        #expect(nothing.affected == count - known.count)
        try await reset()
        #expect(try await db.upsert(Upsert(rows).doNothing()) == count - known.count)
        try await reset()
        let filtered = try await db.upsert(Upsert(rows).where { $0.excluded.hits > $0.existing.hits }.outcomes())
        #expect(filtered.outcomes == expected(.skipped))
        try await reset()
        let unchanged = try await db.upsert(Upsert(rows).ifChanged().returning(\.hits).outcomes())
        #expect(unchanged.outcomes == expected(.unchanged))
        #expect(unchanged.map(\.returned) == rows.map { $0.hits % 3 == 0 ? nil : $0.hits })
        try await reset()
        let both = try await db.upsert(
            Upsert(rows).ifChanged().where { $0.existing.hits >= 0 }.returning(\.hits).outcomes())
        #expect(both.outcomes == expected(.notWritten))
        try await reset()
        let changed = try await db.upsert(
            Upsert(rows.map { Page(path: $0.path, hits: $0.hits + 1) }).ifChanged().outcomes())
        #expect(changed.outcomes == expected(.updated))
        db.close()
    }

    @Test func oneRowsResultReadsShort() async throws {
        let db = try await pages()
        let hits = try await db.upsert(Page.bump(Page(path: "/", hits: 3)).returning(\.hits)).one()
        #expect(hits == 3)
        #expect(try await db.upsert(Page.bump(Page(path: "/", hits: 3)).outcomes()).one() == .updated)
        let row = try await db.upsert(Page.bump(Page(path: "/", hits: 3)).returningRow()).one()
        #expect(row.path == "/")
        #expect(row.hits == 9)
        db.close()
    }

    @Test func u14ExpressionsMeanWhatTheySay() async throws {
        let db = try await pages()
        func hits(_ upsert: Upsert<Page, Never>) async throws -> Int {
            try await db.upsert(Page(path: "/", hits: 10))
            try await db.upsert(upsert(Page(path: "/", hits: 3)))
            return try await stored(db)["/"] ?? -1
        }
        #expect(try await hits(Page.upsert) == 3)
        #expect(try await hits(Page.bump) == 13)
        #expect(try await hits(Page.upsert.set(\.hits, to: 77)) == 77)
        #expect(try await hits(Page.upsert.set(\.hits) { .greatest($0.existing.hits, $0.excluded.hits) }) == 10)
        #expect(try await hits(Page.upsert.set(\.hits) { .least($0.existing.hits, $0.excluded.hits) }) == 3)
        #expect(try await hits(Page.upsert.set(\.hits) { .coalesce($0.existing.hits, 5) }) == 10)
        #expect(try await hits(Page.upsert.set(\.hits) { ($0.existing.hits - 1) * ($0.excluded.hits + 1) / 2 }) == 18)
        #expect(
            try await hits(Page.upsert.set(\.hits) { .sql("\($0.existing.hits) + length(\($0.excluded.path)) + \(1)") })
                == 12)
        #expect(try await hits(Page.upsert.update(except: \.hits)) == 10)
        #expect(try await hits(Page.upsert.where { $0.existing.hits < 10 || $0.excluded.hits == 3 }) == 3)
        #expect(try await hits(Page.upsert.where { $0.existing.hits < 10 && $0.excluded.hits == 3 }) == 10)
        #expect(try await hits(Page.upsert.where { !($0.existing.fetchedAt.isNull) }) == 3)
        db.close()
    }

    @Test func u14JSONAndArraysAreMerged() async throws {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS upsert_documents")
        try await db.execute("CREATE TABLE upsert_documents (id int PRIMARY KEY, data jsonb, tags text[])")
        let merge = Document.upsert.set(\.data) { $0.existing.data.merging($0.excluded.data) }
            .set(\.tags) { $0.existing.tags.appending($0.excluded.tags) }
        try await db.upsert(merge(Document(id: 1, data: "{\"a\": 1, \"b\": 1}", tags: ["x"])))
        let (data, tags) = try await db.upsert(
            merge(Document(id: 1, data: "{\"b\": 2}", tags: ["y", "z"])).returning(\.data, \.tags)
        ).one()
        #expect(data == "{\"a\": 1, \"b\": 2}")
        #expect(tags == ["x", "y", "z"])
        db.close()
    }

    @Test func columnsOfEveryTypeGoInSinglyAndInBatches() async throws {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS \"upsert people\"")
        try await db.execute("DROP TYPE IF EXISTS upsert_mood")
        try await createCitext(db)
        try await db.execute("CREATE TYPE upsert_mood AS ENUM ('happy', 'sad')")
        try await db.execute(
            """
            CREATE TABLE "upsert people" (name citext PRIMARY KEY, mood upsert_mood, data jsonb, id uuid UNIQUE, age int2,
                weight float4, born date)
            """)
        let people = [
            Person(name: "Zoe", mood: .sad, data: "{\"a\": 1}", id: UUID(), age: 30, weight: 61.5, born: "1990-01-31"),
            Person(name: "ada", mood: .happy, data: "[]", id: UUID(), age: 31, weight: nil, born: nil),
        ]
        #expect(try await db.upsert(Upsert(people).outcomes()).outcomes == [.inserted, .inserted])
        #expect(try await db.upsert(Upsert(people[0]).outcomes()).one() == .updated)
        let stored = try await db.query("SELECT * FROM \"upsert people\" ORDER BY age", as: Person.self).all()
        #expect(stored == people)

        // citext holds both spellings equal, and keeps the first; what comes back is not what was sent.
        var shouted = people
        shouted[0].name = "ZOE"
        shouted[1].name = "ADA"
        let skipped = try await db.upsert(Upsert(shouted).doNothing().outcomes())
        #expect(skipped.outcomes == [.skipped, .skipped])
        shouted[1].age = 99
        let changed = try await db.upsert(Upsert(shouted).ifChanged().returning(\.name, \.age).outcomes())
        #expect(changed.outcomes == [.unchanged, .updated])
        #expect(changed.returned().map(\.0) == ["ada"])

        let twice = [shouted[1], people[1]]
        let first = try await db.upsert(Upsert(twice).onConflict(\.name).doNothing().outcomes())
        #expect(first.outcomes == [.skipped, .skipped])
        let error = await #expect(throws: PostgresError.self) { try await db.upsert(twice) }
        #expect(error?.code == .cardinalityViolation)
        #expect(error?.message.contains("same key for the server") == true)
        db.close()
    }

    @Test func u27KeysThatTheServerChangesAreMatchedAsItComparesThem() async throws {
        let db = try await connect()
        try await createCitext(db)
        try await db.execute("DROP TABLE IF EXISTS upsert_odd_keys")
        try await db.execute(
            "CREATE TABLE upsert_odd_keys (a char(6), b citext, c float4, d timestamptz(0), n int, PRIMARY KEY (a, b, c, d))"
        )
        let time = try #require(PostgresTimestamp(Date(timeIntervalSince1970: 1_700_000_000.4)))
        let rows = [
            OddKey(a: "x  ", b: "B", c: 0.1, d: time, n: 1), OddKey(a: "x", b: "C", c: 0.1, d: time, n: 2),
        ]
        #expect(try await db.upsert(rows[1]) == 1)
        let result = try await db.upsert(Upsert(rows).doNothing().returning(\.n).outcomes())
        #expect(result.outcomes == [.inserted, .skipped])
        // Equal for the server alone: the first of them is written, the other is not.
        let lower = rows.map { OddKey(a: $0.a, b: $0.b.lowercased(), c: $0.c, d: $0.d, n: 7) }
        try await db.execute("TRUNCATE upsert_odd_keys")
        let mixed = try await db.upsert(Upsert(rows + lower).doNothing().outcomes())
        #expect(mixed.outcomes.filter { $0 == .inserted }.count == 2)
        #expect(mixed.affected == 2)
        // In a pipeline too.
        try await db.execute("TRUNCATE upsert_odd_keys")
        let answers = try await db.query(Upsert(rows + lower).doNothing().outcomes().query).all()
        #expect(answers.filter { $0 == .inserted }.count == 2)
        #expect(answers.filter { $0 == .skipped }.count == 2)
        db.close()
    }

    @Test func u27OutcomesAreByTheRowWhereATriggerChangesKeys() async throws {
        let db = try await pages()
        try await db.execute("DROP TABLE IF EXISTS upsert_shouted")
        try await db.execute("CREATE TABLE upsert_shouted (path text PRIMARY KEY, hits int)")
        try await db.execute(
            """
            CREATE OR REPLACE FUNCTION upsert_shout() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.hits < 0 THEN RETURN NULL; END IF; NEW.path := upper(NEW.path); RETURN NEW; END $$
            """)
        try await db.execute(
            "CREATE TRIGGER shout BEFORE INSERT ON upsert_shouted FOR EACH ROW EXECUTE FUNCTION upsert_shout()")
        let rows = [Shouted(path: "b", hits: 1), Shouted(path: "a", hits: 2)]
        // Every row has an answer, so the order is enough.
        #expect(try await db.upsert(Upsert(rows).outcomes()).outcomes == [.inserted, .inserted])
        #expect(try await db.upsert(Upsert(rows).returning(\.path)).returned() == ["B", "A"])
        #expect(try await db.upsert(Upsert(Shouted(path: "x", hits: -1)).outcomes()).one() == .notWritten)
        try await db.execute("TRUNCATE upsert_shouted")
        let more = [Shouted(path: "c", hits: -1)] + rows
        #expect(try await db.upsert(Upsert(rows).doNothing().outcomes()).outcomes == [.inserted, .inserted])
        #expect(try await db.upsert(Upsert(more).doNothing().outcomes()).outcomes == [.skipped, .skipped, .skipped])
        let error = await #expect(throws: PostgresError.self) {
            try await db.upsert(Upsert([Shouted(path: "c", hits: 1), Shouted(path: "d", hits: -1)]).outcomes())
        }
        #expect(error?.outcome == .succeeded)
        db.close()
    }

    @Test func u3TargetsThatAreNoPrimaryKey() async throws {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS upsert_accounts")
        try await db.execute(
            """
            CREATE TABLE upsert_accounts (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL,
                name text, closed bool NOT NULL, created_at timestamptz NOT NULL, double int GENERATED ALWAYS AS (2) STORED)
            """)
        try await db.execute("CREATE UNIQUE INDEX ON upsert_accounts (lower(email))")
        try await db.execute("CREATE UNIQUE INDEX ON upsert_accounts (email) WHERE NOT closed")
        try await db.execute("ALTER TABLE upsert_accounts ADD CONSTRAINT \"odd \"\"name\" UNIQUE (name)")
        let account = Account(email: "a@b", name: "n")
        let byIndex = Account.upsert.onIndex("lower(email)")
        let id = try await db.upsert(byIndex(account).returning(\.id)).one()
        var again = account
        again.email = "A@B"
        #expect(try await db.upsert(byIndex(again).returning(\.id)).one() == id)
        let partial = Account.upsert.onConflict(\.email, where: "NOT closed")
        #expect(try await db.upsert(partial(again).outcomes()).one() == .updated)
        let named = Account.upsert.onConstraint("odd \"name", \.name)
        #expect(try await db.upsert(named(account).outcomes()).one() == .updated)
        #expect(try await db.upsert(named.rows([account]).doNothing().outcomes()).outcomes == [.skipped])
        #expect(try await db.upsert(Account.upsert.onAnyConflict().doNothing().rows([account])) == 0)

        // The key declared is the identity column, which the server numbers.
        let missing = await #expect(throws: PostgresError.self) {
            try await db.upsert(Account.upsert.onConflict(\.closed)(account))
        }
        #expect(missing?.message.contains("no unique index over exactly (\"closed\")") == true)
        #expect(missing?.code == .invalidColumnReference)
        let identity = await #expect(throws: PostgresError.self) { try await db.upsert(account) }
        #expect(identity?.hint?.contains(".identity") == true)
        db.close()
    }

    @Test func anUndeclaredTypeInABatchIsExplained() async throws {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS upsert_json")
        try await db.execute("CREATE TABLE upsert_json (id int PRIMARY KEY, data jsonb)")
        let row = Undeclared(id: 1, data: "{}")
        #expect(try await db.upsert(row) == 1)
        let error = await #expect(throws: PostgresError.self) { try await db.upsert([row]) }
        #expect(error?.code == .datatypeMismatch)
        #expect(error?.hint?.contains("type: \"jsonb\"") == true)
        db.close()
    }

    @Test func oneKeyAndSomeData() async throws {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS upsert_stats")
        try await db.execute(
            "CREATE TABLE upsert_stats (stats_type text PRIMARY KEY, data jsonb NOT NULL, fetched_at timestamptz)")
        for json in ["{\"runs\": 1}", "{\"runs\": 2}"] {
            #expect(
                try await db.upsert(into: "upsert_stats", key: ("stats_type", "totals"), set: ("data", json)) == 1)
        }
        let (data, fetched) = try await db.query(
            "SELECT data->>'runs', fetched_at FROM upsert_stats", as: (String, PostgresTimestamp?).self
        ).one()
        #expect(data == "2")
        #expect(fetched != nil)
        try await db.upsert(into: "upsert_stats", key: ("stats_type", "totals"), set: ("data", "{}"), touch: nil)
        #expect(try await db.query("SELECT fetched_at FROM upsert_stats", as: PostgresTimestamp.self).one() == fetched)
        db.close()
    }

    @Test func oneKeyAndSomeDataInASchema() async throws {
        let db = try await connect()
        defer { db.close() }
        try await db.execute(#"DROP SCHEMA IF EXISTS "my app" CASCADE"#)
        try await db.execute(#"CREATE SCHEMA "my app""#)
        try await db.execute(#"CREATE TABLE "my app".stats (id int8 PRIMARY KEY, data text, fetched_at timestamptz)"#)
        for data in ["a", "b"] {
            try await db.upsert(into: "stats", schema: "my app", key: ("id", 1), set: ("data", data))
        }
        let stored = try await db.query(#"SELECT data FROM "my app".stats"#, as: String.self).all()
        #expect(stored == ["b"])
        try await db.upsert(singleRowOf: "stats", schema: "my app", set: ("data", "c"))
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        try await onThread {
            let blocking = try PostgresBlockingConnection.connect(PostgresConfiguration(url: url))
            defer { blocking.close() }
            let data = try blocking.query(#"SELECT data FROM "my app".stats"#, as: String.self).one()
            try blocking.upsert(singleRowOf: "stats", schema: "my app", set: ("data", data + "d"), touch: nil)
        }
        #expect(try await db.query(#"SELECT data FROM "my app".stats"#, as: String.self).all() == ["cd"])
    }

    @Test func anUpsertJoinsAPipeline() async throws {
        let db = try await pages()
        let total = PostgresQuery("SELECT sum(hits)::int8 FROM upsert_pages").as(Int.self)
        let bump = Page.bump(Page(path: "/", hits: 4))
        let (first, second, sum) = try await db.pipeline(
            .atomic, bump.query, bump.returning(\.hits).outcomes().query, total)
        #expect(try first.affected == 1)
        #expect(try second.one() == UpsertedRow(outcome: .updated, returned: 8))
        #expect(try sum.one() == 8)
        let batch = Page.bump.rows([Page(path: "/b", hits: 1), Page(path: "/a", hits: 2)])
        let left = Page.upsert.doNothing().rows([Page(path: "/b", hits: 1), Page(path: "/a", hits: 2)])
        let (counted, returned) = try await db.pipeline(batch.query, left.returning(\.path).query)
        #expect(try counted.affected == 2)
        // In sending order, an answer for each row sent.
        #expect(try returned.all() == [nil, nil])
        db.close()
    }

    @Test func aHostileTableIsLeftStanding() async throws {
        let db = try await connect()
        try await db.execute("CREATE SCHEMA IF NOT EXISTS \"upsert \"\"s.\"")
        try await db.execute("DROP TABLE IF EXISTS \"upsert \"\"s.\".\"excluded\"")
        try await db.execute(
            "CREATE TABLE \"upsert \"\"s.\".\"excluded\" (\"k'\\\"\"$1\" text PRIMARY KEY, \"inserted\" int)")
        let rows = [HostileRow(key: "b", n: 1), HostileRow(key: "a", n: 2)]
        let shape = HostileRow.upsert.set(\.n) { $0.existing.n + $0.excluded.n }
        #expect(try await db.upsert(shape.rows(rows).returning(\.n).outcomes()).outcomes == [.inserted, .inserted])
        #expect(try await db.upsert(shape(rows[0]).returning(\.n)).one() == 2)
        let matched = try await db.upsert(shape.rows(rows).where { $0.excluded.n > 1 }.returning(\.n).outcomes())
        #expect(matched.outcomes == [.skipped, .updated])
        #expect(matched.returned() == [4])
        db.close()
    }
}

private struct Document: PostgresTable {
    var id: Int
    var data: String
    var tags: [String]

    static let table = Table<Self>("upsert_documents") {
        Column("id", \.id, .primaryKey)
        Column("data", \.data, type: "jsonb")
        Column("tags", \.tags)
    }
}

private struct OddKey: PostgresTable {
    var a: String
    var b: String
    var c: Double
    var d: PostgresTimestamp
    var n: Int

    static let table = Table<Self>("upsert_odd_keys") {
        Column("a", \.a, .primaryKey)
        Column("b", \.b, .primaryKey)
        Column("c", \.c, .primaryKey)
        Column("d", \.d, .primaryKey)
        Column("n", \.n)
    }
}

private struct Shouted: PostgresTable {
    var path: String
    var hits: Int

    static let table = Table<Self>("upsert_shouted") {
        Column("path", \.path, .primaryKey)
        Column("hits", \.hits)
    }
}

private struct Account: PostgresTable {
    var id = 0
    var email: String
    var name: String?
    var closed = false
    var createdAt: PostgresTimestamp?
    var double = 0

    static let table = Table<Self>("upsert_accounts") {
        Column("id", \.id, .primaryKey, .identity)
        Column("email", \.email)
        Column("name", \.name)
        Column("closed", \.closed)
        Column("created_at", \.createdAt, .createdAt)
        Column("double", \.double, .generated)
    }
}

private struct Undeclared: PostgresTable {
    var id: Int
    var data: String

    static let table = Table<Self>("upsert_json") {
        Column("id", \.id, .primaryKey)
        Column("data", \.data)
    }
}

private struct HostileRow: PostgresTable {
    var key: String
    var n: Int

    static let table = Table<Self>("excluded", schema: "upsert \"s.") {
        Column("k'\\\"$1", \.key, .primaryKey)
        Column("inserted", \.n)
    }
}
