import Foundation
import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Types that the server infers, so that values need no casts.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct InferredTypeTests {
    @Test func aStringGoesIntoColumnsOfManyTypes() async throws {
        let db = try await connect()
        try await db.script(
            """
            CREATE TYPE pg_temp.mood AS ENUM ('sad', 'happy');
            CREATE DOMAIN pg_temp.code AS text CHECK (VALUE ~ '^[a-z]+$');
            CREATE TEMP TABLE strings (e pg_temp.mood, j json, jb jsonb, u uuid, d date, c pg_temp.code, v varchar(10),
                n numeric, i inet, a text[], r int4range, t interval, ch char(3), x xml)
            """)
        let uuid = UUID().uuidString.lowercased()
        for _ in 0..<2 {
            try await db.execute("DELETE FROM strings")
            try await db.execute(
                """
                INSERT INTO strings VALUES (\("happy"), \("{\"a\": 1}"), \("{\"a\": 1}"), \(uuid), \("2024-02-29"), \("abc"),
                    \("varchar"), \("1.50"), \("10.0.0.1"), \("{a,\"b c\"}"), \("[1,5)"), \("1 day 02:00:00"), \("x"),
                    \("<x/>"))
                """)
        }
        let row = try await db.query("SELECT * FROM strings").one()
        let texts = try (0..<row.columns.count).map { try row.decode($0, as: String.self) }
        #expect(
            texts == [
                "happy", "{\"a\": 1}", "{\"a\": 1}", uuid, "2024-02-29", "abc", "varchar", "1.50", "10.0.0.1",
                "{a,\"b c\"}", "[1,5)", "1 day 02:00:00", "x  ", "<x/>",
            ])
        let found = try await db.query(
            "SELECT v FROM strings WHERE e = \("happy") AND u = \(uuid) AND d = \("2024-02-29") AND jb = \("{\"a\":1}")",
            as: String.self
        ).one()
        #expect(found == "varchar")
        let wrong = await failure { try await db.execute("UPDATE strings SET e = \("angry")") }
        #expect(wrong?.sqlState == "22P02")
        let refused = await failure { try await db.execute("UPDATE strings SET c = \("ABC")") }
        #expect(refused?.sqlState == "23514")
        try await expectUsable(db)
    }

    private enum Mood: String, PostgresCodable, Equatable {
        case sad, happy
    }

    @Test func anEnumOfStringsIsAnEnumOfTheServer() async throws {
        let db = try await connect()
        try await db.script(
            "CREATE TYPE pg_temp.mood AS ENUM ('sad', 'happy', 'new'); CREATE TEMP TABLE moods (m pg_temp.mood)")
        try await db.execute("INSERT INTO moods VALUES (\(Mood.happy)), (\(Mood.sad)), (\(Mood?.none))")
        let moods = try await db.query("SELECT m FROM moods", as: Mood?.self).all()
        #expect(moods == [.happy, .sad, nil])
        let error = await failure { try await db.query("SELECT 'new'::pg_temp.mood", as: Mood.self).one() }
        #expect(error?.code == .cannotDecode)
    }

    @Test func aStringWhoseTypeCannotBeInferredIsText() async throws {
        let db = try await connect()
        for _ in 0..<2 {
            let text = try await db.query("SELECT jsonb_build_object('a', \("x"))::text", as: String.self).one()
            #expect(text == "{\"a\": \"x\"}")
        }
        // A second execution knows: one round trip, no Parse.
        let before = db.statistics
        let query: PostgresQuery = "SELECT jsonb_build_object('a', \("y"))::text"
        _ = try await db.query(query).one()
        _ = try await db.query(query).one()
        #expect((db.statistics - before).roundTrips <= 3)

        var pipeline = PostgresPipeline(.atomic)
        let first = pipeline.add(PostgresQuery("SELECT \(1)::int8").as(Int.self))
        let second = pipeline.add(PostgresQuery("SELECT jsonb_build_array(\("p"))::text").as(String.self))
        let results = try await db.run(pipeline)
        #expect(try results[first].one() == 1)
        #expect(try results[second].one() == "[\"p\"]")

        try await db.execute("BEGIN")
        let error = await failure { try await db.execute("SELECT jsonb_build_object('b', \("z"))") }
        #expect(error?.code == .indeterminateDatatype)
        #expect(error?.hint?.contains("::text") == true)
        try await db.execute("ROLLBACK")
    }

    @Test func tasksWithAStringWhoseTypeCannotBeInferredAllGetTheirs() async throws {
        let db = try await connect()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for token in 0..<200 {
                group.addTask {
                    let text = try await db.query(
                        "SELECT jsonb_build_object('token', \("\(token)"))::text", as: String.self
                    ).one()
                    #expect(text == "{\"token\": \"\(token)\"}")
                }
            }
            try await group.waitForAll()
        }
    }

    @Test func anIntGoesIntoColumnsOfOtherWidths() async throws {
        let db = try await connect()
        try await db.script("CREATE TEMP TABLE numbers (a int2, b int4, c int8, d numeric, e float8)")
        try await db.execute("INSERT INTO numbers VALUES (\(1), \(2), \(3), \(4), \(5))")
        let (a, b, c) = try await db.query("SELECT a, b, c FROM numbers", as: (Int, Int, Int).self).one()
        #expect((a, b, c) == (1, 2, 3))
        #expect(
            try await db.query("SELECT d::text, e FROM numbers WHERE b = \(2)", as: (String, Double).self).one() == (
                "4", 5
            ))
        let overflow = await failure { try await db.execute("INSERT INTO numbers (b) VALUES (\(Int.max))") }
        #expect(overflow?.sqlState == "22003")
    }

    @Test func aFunctionThatTakesNoBigintGivesAHint() async throws {
        let db = try await connect()
        let error = await failure { try await db.execute("SELECT repeat('x', \(3))") }
        #expect(error?.code == .undefinedFunction)
        #expect(error?.hint?.contains("Int32") == true)
        #expect(try await db.query("SELECT repeat('x', \(Int32(3)))", as: String.self).one() == "xxx")
    }

    @Test func everyTypeIsReadableAsText() async throws {
        let db = try await connect()
        let row = try await db.query(
            "SELECT relacl, oid, relname, relkind FROM pg_class WHERE relname = 'pg_class'",
            as: ([String], String, String, String).self
        ).one()
        #expect(row.2 == "pg_class")
        #expect(row.3 == "r")
        #expect(!row.0.isEmpty)
    }

    @Test func valuesThatDoNotFitAreTypedErrors() async throws {
        let db = try await connect()
        let narrow = await failure { try await db.query("SELECT 70000::int8", as: Int16.self).one() }
        #expect(narrow?.code == .cannotDecode)
        let null = await failure { try await db.query("SELECT NULL::int8 AS n", as: Int.self).one() }
        #expect(null?.code == .unexpectedNull)
        #expect(null?.message.contains("\"n\"") == true)
        let mismatch = await failure { try await db.query("SELECT 'x'::text", as: UUID.self).one() }
        #expect(mismatch?.code == .typeMismatch || mismatch?.code == .cannotDecode)
        let columns = await failure { try await db.query("SELECT 1, 2", as: (Int, Int, Int).self).one() }
        #expect(columns?.code == .columnCount)
        let name = await failure { try await db.query("SELECT 1 AS a").one().decode("b", as: Int.self) }
        #expect(name?.code == .noSuchColumn)
        let zero = await failure { try await db.query("SELECT \("a\0b")") }
        #expect(zero?.code == .invalidArgument)
        #expect(zero?.outcome == .notSent)
        try await expectUsable(db)
    }

    @Test func namesWithQuotesAreQuoted() async throws {
        let db = try await connect()
        for name in ["a\"b", "a\";drop table t;--", "Ünï", "select", "a.b", "a b"] {
            let table = uniqueName(name)
            try await db.execute("CREATE TEMP TABLE \(identifier: table) (\(identifier: name) int)")
            try await db.execute("INSERT INTO \(identifier: table) (\(identifier: name)) VALUES (\(7))")
            let row = try await db.query("SELECT \(identifier: name) FROM \(identifier: table)").one()
            #expect(try row.decode(name, as: Int.self) == 7)
        }
    }
}
