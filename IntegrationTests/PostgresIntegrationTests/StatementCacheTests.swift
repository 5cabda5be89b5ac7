import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Prepared statements, as the server has them.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct StatementCacheTests {
    /// How many statements are prepared, but for this one.
    private func prepared(_ db: PostgresConnection) async throws -> Int {
        let rows = try await db.script("SELECT count(*) FROM pg_prepared_statements")
        return try rows[0].one().decode(0, as: Int.self)
    }

    @Test func aThousandTasksWithOneNewTextAreOneParse() async throws {
        let db = try await connect()
        #expect(try await prepared(db) == 0)
        let before = db.statistics
        try await withThrowingTaskGroup(of: Void.self) { group in
            for token in 0..<1000 {
                group.addTask {
                    let got = try await db.query("SELECT \(token)::int8 AS token", as: Int.self).one()
                    #expect(got == token)
                }
            }
            try await group.waitForAll()
        }
        #expect(try await prepared(db) == 1)
        // Parse and Describe once; Bind, Execute and Sync for each; and the script's Query.
        #expect((db.statistics - before).messagesSent == 3003)
    }

    @Test func aThousandTasksWithOneSyntaxErrorAllGetIt() async throws {
        let db = try await connect()
        await withTaskGroup(of: PostgresError?.self) { group in
            for token in 0..<1000 { group.addTask { await failure { try await db.execute("SELEKT \(token)") } } }
            for await error in group {
                #expect(error?.code == .syntaxError)
                #expect(error?.outcome == .rejected)
            }
        }
        #expect(try await prepared(db) == 0)
        try await expectUsable(db)
    }

    @Test func membersOfAnAtomicGroupReportTheParsesError() async throws {
        let db = try await connect()
        var pipeline = PostgresPipeline(.atomic)
        for token in 0..<10 { pipeline.add("SELEKT \(token)") }
        let results = try await db.run(pipeline)
        #expect(results.errors[0]?.code == .syntaxError)
        #expect(results.errors.dropFirst().allSatisfy { $0?.outcome == .aborted })
        try await expectUsable(db)
    }

    @Test func theLeastRecentlyUsedStatementsGo() async throws {
        let db = try await connect { $0.statementCacheCapacity = 4 }
        for number in 0..<40 {
            let got = try await db.query("SELECT \(unsafeSQL: "\(number)")::int8, \(1)::int8", as: (Int, Int).self)
                .one()
            #expect(got.0 == number)
            // Used again and again, so it stays.
            try await expectUsable(db)
        }
        #expect(try await prepared(db) <= 4)
        let before = db.statistics
        try await expectUsable(db)
        #expect((db.statistics - before).messagesSent == 3)
    }

    // The first statement's Parse is still on the way when the cache has no room for it any more.
    @Test(arguments: [true, false])
    func aStatementEvictedBeforeItsReplyIsStillDescribedForItsFollowers(_ callersMayRead: Bool) async throws {
        let db = try await connect {
            $0.statementCacheCapacity = 2
            if !callersMayRead { $0.callerReadsBelowLatency = .zero }
        }
        var pipeline = PostgresPipeline(.isolated)
        pipeline.add("SELECT pg_sleep(0.2)")
        var tickets: [PostgresPipeline.Ticket<Int>] = []
        for text in ["0", "0", "1", "2", "3", "0", "0"] {
            tickets.append(pipeline.add(PostgresQuery("SELECT \(unsafeSQL: text)").as(Int.self)))
        }
        let results = try await db.run(pipeline)
        #expect(try tickets.map { try results[$0].one() } == [0, 0, 1, 2, 3, 0, 0])
        try await expectUsable(db)
    }

    @Test func evictionAmongConcurrentTasksConfusesNobody() async throws {
        let db = try await connect { $0.statementCacheCapacity = 3 }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for token in 0..<1000 {
                group.addTask {
                    let text = "SELECT \(token % 17)::int8 * 1000000"
                    let got = try await db.query("\(unsafeSQL: text) + \(token)", as: Int.self).one()
                    #expect(got == (token % 17) * 1_000_000 + token)
                }
            }
            try await group.waitForAll()
        }
        #expect(try await prepared(db) <= 3)
    }

    @Test func withoutACacheNothingStaysPrepared() async throws {
        let db = try await connect { $0.statementCacheCapacity = 0 }
        for _ in 0..<3 { try await expectUsable(db) }
        #expect(try await prepared(db) == 0)
    }

    @Test func aChangedTableUnderACachedSelectIsSeen() async throws {
        let db = try await connect()
        let table = uniqueName("altered")
        try await db.execute("CREATE TABLE \(identifier: table) AS SELECT 1 AS a")
        let select: PostgresQuery = "SELECT * FROM \(identifier: table)"
        for _ in 0..<2 { #expect(try await db.query(select).one().columns.count == 1) }
        try await db.execute("ALTER TABLE \(identifier: table) ADD b text DEFAULT 'new'")
        for _ in 0..<3 {
            let row = try await db.query(select).one()
            #expect(row.columns.count == 2)
            #expect(try row.decode("b", as: String.self) == "new")
        }
        try await db.execute("ALTER TABLE \(identifier: table) ALTER a TYPE text")
        let (a, b) = try await db.query(select, as: (String, String).self).one()
        #expect(a == "1" && b == "new")
    }

    @Test func aChangedTableInATransactionIsATypedError() async throws {
        let db = try await connect()
        let table = uniqueName("altered")
        try await db.execute("CREATE TABLE \(identifier: table) AS SELECT 1 AS a")
        let select: PostgresQuery = "SELECT * FROM \(identifier: table)"
        _ = try await db.query(select).one()
        try await db.execute("BEGIN")
        try await db.execute("ALTER TABLE \(identifier: table) ADD b int")
        let error = await failure { try await db.query(select) }
        #expect(error?.code == .featureNotSupported)
        #expect(error?.outcome == .rejected)
        try await db.execute("ROLLBACK")
        #expect(try await db.query(select).one().columns.count == 1)
    }

    @Test func aChangedTableInAnAtomicPipelineReplaysAllOfIt() async throws {
        let db = try await connect()
        let table = uniqueName("altered")
        try await db.execute("CREATE TABLE \(identifier: table) AS SELECT 1 AS a")
        let select: PostgresQuery = "SELECT * FROM \(identifier: table)"
        _ = try await db.query(select).one()
        try await db.execute("ALTER TABLE \(identifier: table) ADD b int")
        var pipeline = PostgresPipeline(.atomic)
        pipeline.add("UPDATE \(identifier: table) SET b = coalesce(b, 0) + 1")
        let row = pipeline.add(select)
        let results = try await db.run(pipeline)
        try results.check()
        #expect(try results[row].one().decode("b", as: Int.self) == 1)
    }

    @Test func lostStatementsArePreparedAnew() async throws {
        let db = try await connect()
        for _ in 0..<2 { try await expectUsable(db) }
        try await db.script("DEALLOCATE ALL")
        for _ in 0..<2 { try await expectUsable(db) }

        try await db.script("DISCARD ALL")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<100 { group.addTask { try await expectUsable(db) } }
            try await group.waitForAll()
        }
    }

    @Test func aLostStatementInATransactionIsATypedError() async throws {
        let db = try await connect()
        let select: PostgresQuery = "SELECT \(1)::int8"
        _ = try await db.query(select).one()
        try await db.script("BEGIN; DEALLOCATE ALL")
        let error = await failure { try await db.query(select) }
        #expect(error?.code == .invalidSqlStatementName)
        try await db.script("ROLLBACK")
        #expect(try await db.query(select, as: Int.self).one() == 1)
    }

    @Test func aStreamFindsItsLostStatementAgain() async throws {
        let db = try await connect()
        func numbers() async throws -> [Int] {
            var numbers: [Int] = []
            for try await n in try await db.stream("SELECT generate_series(1, \(3)::int8)", as: Int.self) {
                numbers.append(n)
            }
            return numbers
        }
        #expect(try await numbers() == [1, 2, 3])
        try await db.script("DEALLOCATE ALL")
        #expect(try await numbers() == [1, 2, 3])
    }

    @Test func textsThatSwiftHoldsEqualAndTheServerDoesNotAreTwo() async throws {
        let db = try await connect()
        let composed = "\u{E9}"
        let decomposed = "e\u{301}"
        #expect(composed == decomposed)
        for text in [composed, decomposed, composed] {
            let row = try await db.query("SELECT '\(unsafeSQL: text)' AS \(identifier: text), \(1)").one()
            #expect(try Array(row.decode(0, as: String.self).utf8) == Array(text.utf8))
            #expect(Array(row.columns[0].name.utf8) == Array(text.utf8))
        }
        let before = try await prepared(db)
        #expect(before == 2)
    }

    @Test func preparingAheadTellsTheTypesAndIsUsed() async throws {
        let db = try await connect()
        let query: PostgresQuery = "SELECT \(1)::int8 + 1 AS sum, \("x")::date AS day"
        let statement = try await db.prepare(query)
        #expect(statement.parameterTypes.map(\.oid) == [20, 1082])
        #expect(statement.columns.map(\.name) == ["sum", "day"])
        #expect(try await prepared(db) == 1)
        let error = await failure { try await db.prepare("SELEKT") }
        #expect(error?.code == .syntaxError)
        try await expectUsable(db)
    }
}
