import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Explicit pipelines: what becomes of each statement.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct PipelineTests {
    private func outcomes(_ results: PostgresPipeline.Results) -> [PostgresError.Outcome] {
        results.errors.map { $0?.outcome ?? .succeeded }
    }

    private func failing(_ sync: PostgresPipeline.Sync, _ table: String) -> PostgresPipeline {
        var pipeline = PostgresPipeline(sync)
        pipeline.add("INSERT INTO \(identifier: table) VALUES (1)")
        pipeline.add("INSERT INTO \(identifier: table) VALUES (1/\(0))")
        pipeline.add("INSERT INTO \(identifier: table) VALUES (3)")
        return pipeline
    }

    private func table(_ db: PostgresConnection, _ columns: PostgresQuery) async throws -> String {
        let table = uniqueName("pipeline")
        try await db.execute("CREATE TABLE \(identifier: table) (\(columns))")
        return table
    }

    private func numbers(_ db: PostgresConnection, _ table: String) async throws -> [Int32] {
        try await db.query("SELECT n FROM \(identifier: table) ORDER BY n", as: Int32.self).all()
    }

    // Twice: the second time every statement is in the cache.
    @Test func anIsolatedFailureTakesNothingWithIt() async throws {
        let db = try await connect()
        let table = try await table(db, "n int")
        for _ in 0..<2 {
            let results = try await db.run(failing(.isolated, table))
            #expect(outcomes(results) == [.succeeded, .rejected, .succeeded])
            #expect(results.errors[1]?.code == .divisionByZero)
        }
        #expect(try await numbers(db, table) == [1, 1, 3, 3])
    }

    @Test func anAtomicFailureTakesEverythingWithIt() async throws {
        let db = try await connect()
        let table = try await table(db, "n int")
        for _ in 0..<2 {
            let results = try await db.run(failing(.atomic, table))
            #expect(outcomes(results) == [.aborted, .rejected, .aborted])
            let error = await failure { try results.check() }
            #expect(error?.code == .divisionByZero)
            #expect(error?.outcome == .rejected)
        }
        #expect(try await numbers(db, table) == [])
        try await expectUsable(db)
    }

    @Test func aDeferredConstraintFailsAtTheEndOfTheGroup() async throws {
        let db = try await connect()
        let table = try await table(db, "n int UNIQUE DEFERRABLE INITIALLY DEFERRED")
        var pipeline = PostgresPipeline(.atomic)
        for number in [Int32(1), 2, 1] { pipeline.add("INSERT INTO \(identifier: table) VALUES (\(number))") }
        let results = try await db.run(pipeline)
        #expect(results.errors.allSatisfy { $0?.code == .uniqueViolation })
        #expect(outcomes(results).allSatisfy { $0 == .aborted || $0 == .rejected })
        #expect(try await numbers(db, table) == [])

        pipeline.sync = .isolated
        let isolated = try await db.run(pipeline)
        #expect(outcomes(isolated) == [.succeeded, .succeeded, .rejected])
        #expect(try await numbers(db, table) == [1, 2])

        // A single statement is acknowledged by the end of its group too, not by its command tag.
        let error = await failure { try await db.execute("INSERT INTO \(identifier: table) VALUES (\(Int32(2)))") }
        #expect(error?.code == .uniqueViolation)
        #expect(error?.outcome == .rejected)
    }

    @Test func aPipelineMayHoldItsOwnTransaction() async throws {
        let db = try await connect()
        let table = try await table(db, "n int")
        var pipeline = PostgresPipeline(.atomic)
        pipeline.add("BEGIN")
        pipeline.add("INSERT INTO \(identifier: table) VALUES (1)")
        pipeline.add("COMMIT")
        pipeline.add("SELECT 1/\(0)")
        let results = try await db.run(pipeline)
        #expect(outcomes(results) == [.succeeded, .succeeded, .succeeded, .rejected])
        #expect(try await numbers(db, table) == [1])
    }

    @Test func aCommitThatRollsBackIsNoSuccess() async throws {
        let db = try await connect()
        let table = try await table(db, "n int")
        var pipeline = PostgresPipeline(.isolated)
        pipeline.add("BEGIN")
        pipeline.add("INSERT INTO \(identifier: table) VALUES (1)")
        pipeline.add("SELECT 1/\(0)")
        pipeline.add("SELECT 1")
        pipeline.add("ROLLBACK")
        let results = try await db.run(pipeline)
        #expect(outcomes(results) == [.succeeded, .succeeded, .rejected, .rejected, .succeeded])
        #expect(results.errors[3]?.code == .inFailedSqlTransaction)
        #expect(try await numbers(db, table) == [])
        try await expectUsable(db)
    }

    // Both sides would wait for each other if reading ever waited for writing.
    @Test(arguments: [PostgresPipeline.Sync.isolated, .atomic], PostgresEphemeralServer.Address.allCases)
    func fiveThousandLargeStatementsWithLargeResultsFinish(
        _ sync: PostgresPipeline.Sync, _ address: PostgresEphemeralServer.Address
    ) async throws {
        let db = try await connect(over: address)
        let text = String(repeating: "p", count: 10_000)
        var pipeline = PostgresPipeline(sync)
        let tickets = (0..<5000).map { number in
            pipeline.add(PostgresQuery("SELECT \(number)::int8, \(text)").as((Int, String).self))
        }
        let results = try await db.run(pipeline)
        for (number, ticket) in tickets.enumerated() {
            let (back, backText) = try results[ticket].one()
            if back != number || backText.utf8.count != 10_000 {
                Issue.record("statement \(number) got \(back) and \(backText.utf8.count) bytes")
                break
            }
        }
        try await expectUsable(db)
    }

    // Small enough in number for the caller to read its own replies, and too large for one piece, of which the server sends
    // nothing before the Sync of the last.
    @Test func aFewVeryLargeStatementsInOneGroupFinish() async throws {
        let db = try await connect()
        let text = String(repeating: "v", count: 200_000)
        var pipeline = PostgresPipeline(.atomic)
        let tickets = (0..<8).map { number in
            pipeline.add(PostgresQuery("SELECT \(number)::int8, length(\(text))").as((Int, Int).self))
        }
        for _ in 0..<3 {
            let results = try await db.run(pipeline)
            for (number, ticket) in tickets.enumerated() { #expect(try results[ticket].one() == (number, 200_000)) }
        }
    }

    @Test func aFailureInTheFirstPieceOfALargeGroupReachesThePiecesBehindIt() async throws {
        let db = try await connect()
        let table = try await table(db, "n int, t text")
        let text = String(repeating: "f", count: 10_000)
        var pipeline = PostgresPipeline(.atomic)
        for number in Int32(0)..<500 {
            pipeline.add("INSERT INTO \(identifier: table) VALUES (1000 / (\(number) - 10), \(text))")
        }
        let results = try await db.run(pipeline)
        #expect(results.errors[10]?.code == .divisionByZero)
        #expect(outcomes(results).enumerated().allSatisfy { $0.element == ($0.offset == 10 ? .rejected : .aborted) })
        #expect(try await numbers(db, table) == [])
        try await expectUsable(db)
    }

    @Test func aSessionThatEndsAmongThePiecesOfAGroupIsNoSuccess() async throws {
        let table = try await table(connect(), "n int, t text")
        let text = String(repeating: "e", count: 10_000)
        for sync in [PostgresPipeline.Sync.isolated, .atomic] {
            let db = try await connect()
            var pipeline = PostgresPipeline(sync)
            for number in Int32(0)..<1000 {
                pipeline.add("INSERT INTO \(identifier: table) VALUES (\(number), \(text))")
                if number == 10 { pipeline.add("SELECT pg_terminate_backend(pg_backend_pid())") }
            }
            let results = try await db.run(pipeline)
            #expect(results.count == 1001)
            let kept = try await countAndEmpty(table)
            let succeeded = results.errors.filter { $0 == nil }.count
            #expect(succeeded == kept)
            #expect(results.errors[11]?.code == .adminShutdown)
            let outcome = results.errors[12]?.outcome
            #expect(outcome == .notSent || outcome == (sync == .atomic ? .aborted : .unknown))
        }
    }

    private func countAndEmpty(_ table: String) async throws -> Int {
        let db = try await connect()
        let count = try await db.query("SELECT count(*) FROM \(identifier: table)", as: Int.self).one()
        try await db.execute("TRUNCATE \(identifier: table)")
        return count
    }

    @Test func aCancelledLargePipelineEndsAndTheConnectionGoesOn() async throws {
        for sync in [PostgresPipeline.Sync.isolated, .atomic] {
            let db = try await connect()
            let text = String(repeating: "p", count: 10_000)
            var pipeline = PostgresPipeline(sync)
            for _ in 0..<2000 { pipeline.add("SELECT \(text), pg_sleep(0.0001)") }
            let task = Task { [pipeline] in try await db.run(pipeline) }
            await eventually("begun") { db.statistics.bytesSent > 100_000 }
            task.cancel()
            switch await task.result {
            case .success(let results):
                #expect(results.count == 2000)
                #expect(results.errors.allSatisfy { $0 == nil || $0?.code == .cancelled })
            case .failure(let error): #expect((error as? PostgresError)?.code == .cancelled)
            }
            try await expectUsable(db)
        }
    }

    @Test func aCancelledLargePipelineOnTheLoopsThreadEnds() async throws {
        let db = try await connect()
        let text = String(repeating: "p", count: 10_000)
        for sync in [PostgresPipeline.Sync.isolated, .atomic] {
            var pipeline = PostgresPipeline(sync)
            for _ in 0..<1000 { pipeline.add("SELECT \(text)") }
            let task = Task(executorPreference: db.executor) { [pipeline] in
                withUnsafeCurrentTask { $0?.cancel() }
                return try await db.run(pipeline)
            }
            _ = await task.result
            let begin = db.statistics.bytesSent
            let second = Task(executorPreference: db.executor) { [pipeline] in try await db.run(pipeline) }
            await eventually("begun") { db.statistics.bytesSent > begin }
            second.cancel()
            _ = await second.result
            try await expectUsable(db)
        }
    }

    @Test(arguments: [32_767, 32_768, 65_535])
    func asManyParametersAsTheProtocolTakes(_ count: Int) async throws {
        let db = try await connect()
        let query: PostgresQuery = "SELECT sum(v) FROM unnest(ARRAY[\(list: (0..<count).map(Int32.init))]) v"
        #expect(query.parameterCount == count)
        let sum = try await db.query(query, as: Int.self).one()
        #expect(sum == (0..<count).reduce(0, +))
    }

    @Test func oneParameterMoreIsRefusedBeforeAnythingIsSent() async throws {
        let db = try await connect()
        let before = db.statistics
        let values = (0..<65_536).map(Int32.init)
        let single = await failure { try await db.execute("SELECT ARRAY[\(list: values)]") }
        #expect(single?.code == .invalidArgument)
        #expect(single?.outcome == .notSent)
        var pipeline = PostgresPipeline(.atomic)
        pipeline.add("SELECT 1")
        pipeline.add("SELECT ARRAY[\(list: values)]")
        let group = await failure { [pipeline] in try await db.run(pipeline) }
        #expect(group?.code == .invalidArgument)
        #expect(group?.outcome == .notSent)
        #expect((db.statistics - before).bytesSent == 0)
        try await expectUsable(db)
    }

    @Test func anEmptyPipelineIsNothing() async throws {
        let db = try await connect()
        let before = db.statistics
        for sync in [PostgresPipeline.Sync.isolated, .atomic] {
            let count = try await db.run(PostgresPipeline(sync)).count
            #expect(count == 0)
        }
        #expect((db.statistics - before).bytesSent == 0)
    }
}
