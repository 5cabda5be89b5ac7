import Postgres
import PostgresTesting
import Testing

/// Several statements in one text.
@Suite(
    .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct ScriptTests {
    @Test(arguments: ["", " ", ";", ";;;", "-- only a comment", "/* nothing */ ; -- at all"])
    func aTextWithoutStatementsHasNoResults(_ sql: String) async throws {
        let db = try await connect()
        let results = try await db.script("\(unsafeSQL: sql)")
        #expect(results.isEmpty)
        try await expectUsable(db)
    }

    @Test func everyStatementHasItsOwnResult() async throws {
        let db = try await connect()
        let results = try await db.script(
            """
            ; CREATE TEMP TABLE t (n int, s text);
            INSERT INTO t VALUES (1, 'a;b'), (2, NULL);;
            SELECT n, s FROM t ORDER BY n; -- with rows
            SELECT s FROM t WHERE false;
            UPDATE t SET n = n + 1
            """)
        #expect(results.count == 5)
        #expect(try results.map { try $0.affected } == [0, 2, 2, 0, 2])
        #expect(results.map(\.count) == [0, 0, 2, 0, 0])
        #expect(try results[2].all().map { try $0.decode("s", as: String?.self) } == ["a;b", nil])
        #expect(results[3].columns.map(\.name) == ["s"])
    }

    @Test func anErrorInTheMiddleTakesTheWholeScriptBack() async throws {
        let db = try await connect()
        try await db.script("CREATE TEMP TABLE t (n int PRIMARY KEY)")
        let error = await failure {
            try await db.script("INSERT INTO t VALUES (1); ; INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)")
        }
        #expect(error?.code == .uniqueViolation)
        #expect(error?.outcome == .rejected)
        #expect(error?.message.hasPrefix("statement 2 of the script: ") == true)
        let count = try await db.query("SELECT count(*) FROM t", as: Int.self).one()
        #expect(count == 0)
    }

    @Test func whatAScriptCommittedBeforeAnErrorStays() async throws {
        let db = try await connect()
        try await db.script("CREATE TEMP TABLE t (n int PRIMARY KEY)")
        let error = await failure {
            try await db.script("BEGIN; INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); SELECT 1/0")
        }
        #expect(error?.code == .divisionByZero)
        #expect(error?.message.hasPrefix("statement 5 of the script: ") == true)
        let numbers = try await db.query("SELECT n FROM t", as: Int.self).all()
        #expect(numbers == [1])
    }

    @Test func anErrorOfTheSyntaxIsToldBeforeAnythingRuns() async throws {
        let db = try await connect()
        let error = await failure { try await db.script("CREATE TEMP TABLE t (n int); SELEKT") }
        #expect(error?.code == .syntaxError)
        #expect(error?.position == 30)
        let gone = await failure { try await db.execute("SELECT * FROM t") }
        #expect(gone?.code == .undefinedTable)
    }
}
