import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Deadlines and requests to cancel against a real server.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct TimeoutTests {
    static let tlsServer = Task { try await TLSTests.start { root in try root.issue() } }

    /// What a second connection sees the first one do.
    func activity(of db: PostgresConnection, seenBy other: PostgresConnection) async throws -> (String, String) {
        try await other.query(
            "SELECT state, query FROM pg_stat_activity WHERE pid = \(try #require(db.backendProcessID))",
            as: (String, String).self
        ).one()
    }

    @Test(arguments: PostgresEphemeralServer.Address.allCases)
    func aStatementPastItsDeadlineIsGoneFromTheServer(address: PostgresEphemeralServer.Address) async throws {
        let db = try await connect(over: address) { $0.cancelTimeout = .seconds(50) }
        let other = try await connect()
        // The fastest counts: other tests may keep the machine busy.
        var fastest = Duration.seconds(60)
        for _ in 0..<20 where fastest > .seconds(1) {
            let start = ContinuousClock.now
            let error = await failure {
                try await withPostgresTimeout(.milliseconds(100)) { try await db.execute("SELECT pg_sleep(60)") }
            }
            fastest = min(fastest, start.duration(to: .now))
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            #expect(error?.sqlState == "57014")
        }
        #expect(fastest < .seconds(1))
        let (state, query) = try await activity(of: db, seenBy: other)
        #expect(state == "idle")
        #expect(query.contains("pg_sleep"))
        try await expectUsable(db)
    }

    @Test func aSessionWithTLSCancelsWithTLS() async throws {
        let server = try await Self.tlsServer.value
        var configuration = try PostgresConfiguration(url: server.connectionURL())
        configuration.sslmode = .require
        configuration.cancelTimeout = .seconds(50)
        let db = try await PostgresConnection.connect(configuration)
        #expect(db.tls != nil)
        let error = await failure {
            try await withPostgresTimeout(.milliseconds(100)) { try await db.execute("SELECT pg_sleep(60)") }
        }
        #expect(error?.outcome == .rejected)
        try await expectUsable(db)
    }

    @Test func theConfigurationsTimeoutHoldsForEachStatement() async throws {
        let db = try await connect {
            $0.queryTimeout = .seconds(5)
            $0.cancelTimeout = .seconds(50)
        }
        for _ in 0..<4 { try await db.execute("SELECT pg_sleep(0.1)") }
        let error = await failure { try await db.execute("SELECT pg_sleep(60)") }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .rejected)
        let script = await failure { try await db.script("SELECT 1; SELECT pg_sleep(60)") }
        #expect(script?.outcome == .rejected)
        try await expectUsable(db)
    }

    @Test func aStatementThatWasStoppedHadNoEffect() async throws {
        let db = try await connect { $0.cancelTimeout = .seconds(50) }
        let table = uniqueName("stopped")
        try await db.execute("CREATE TABLE \(identifier: table) (n int)")
        for round in 0..<20 {
            do throws(PostgresError) {
                try await withPostgresTimeout(.milliseconds(20)) { () throws(PostgresError) in
                    try await db.execute(
                        "WITH s AS (SELECT pg_sleep(0.02)) INSERT INTO \(identifier: table) SELECT \(round) FROM s")
                }
                #expect(try await db.query("SELECT n FROM \(identifier: table)", as: Int.self).all() == [round])
            } catch {
                #expect(error.outcome == .rejected)
                let count = try await db.query("SELECT count(*) FROM \(identifier: table)", as: Int.self).one()
                #expect(count == 0)
            }
            try await db.execute("TRUNCATE \(identifier: table)")
        }
    }

    @Test func withOthersInFlightTheyAllRunToTheirEnd() async throws {
        let db = try await connect { $0.cancelTimeout = .seconds(50) }
        let table = uniqueName("shared")
        try await db.execute("CREATE TABLE \(identifier: table) (n int)")
        let holder = try await connect()
        let key = Int.random(in: 0...Int.max)
        try await holder.execute("SELECT pg_advisory_lock(\(key))")
        let insert = Task {
            try await db.execute(
                "WITH l AS (SELECT pg_advisory_xact_lock(\(key))) INSERT INTO \(identifier: table) SELECT 1 FROM l")
        }
        try await eventually("running") { try await activity(of: db, seenBy: holder).1.contains("advisory_xact") }
        let error = await failure {
            try await withPostgresTimeout(.milliseconds(30)) {
                try await db.execute("INSERT INTO \(identifier: table) VALUES (2)")
            }
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .unknown)
        try await holder.execute("SELECT pg_advisory_unlock(\(key))")
        #expect(try await insert.value == 1)
        let numbers = try await db.query("SELECT n FROM \(identifier: table) ORDER BY n", as: Int.self).all()
        #expect(numbers == [1, 2])
    }

    @Test func aStreamPastItsDeadlineIsStopped() async throws {
        let db = try await connect { $0.cancelTimeout = .seconds(50) }
        let error = await failure {
            try await withPostgresTimeout(.milliseconds(200)) {
                for try await _ in try await db.stream(
                    "SELECT n, pg_sleep(0.001) FROM generate_series(1, 1000000) AS n", as: PostgresRow.self)
                {}
            }
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .rejected)
        try await expectUsable(db)
    }

    @Test func aPipelinePastItsDeadlineTellsOfEachStatement() async throws {
        let db = try await connect { $0.cancelTimeout = .seconds(50) }
        var pipeline = PostgresPipeline()
        for seconds in [0, 60, 60, 0] { pipeline.add("SELECT pg_sleep(\(seconds))") }
        let results = try await withPostgresTimeout(.milliseconds(200)) { try await db.run(pipeline) }
        #expect(results.errors[1...2].map { $0?.code } == [.timedOut, .timedOut])
        #expect(results.errors.compactMap { $0?.outcome }.allSatisfy { $0 == .rejected })
        // A request to cancel may find a server that was not given its time there, too.
        for error in [results.errors[0], results.errors[3]] { #expect(error == nil || error?.code == .timedOut) }
        try await expectUsable(db)
    }

    @Test func aCancelledTaskStopsItsStatementWhereThatIsAskedFor() async throws {
        let db = try await connect { $0.cancelTimeout = .seconds(50) }
        let task = Task {
            await failure {
                try await withPostgresCancellation(.cancelRequest) { try await db.execute("SELECT pg_sleep(60)") }
            }
        }
        try await untilSleeping(db)
        task.cancel()
        let error = await task.value
        #expect(error?.code == .cancelled)
        #expect(error?.outcome == .rejected)
        try await expectUsable(db)
    }

    @Test func aCancelledTaskStopsItsStreamWhereThatIsAskedFor() async throws {
        let db = try await connect {
            $0.cancellation = .cancelRequest
            $0.cancelTimeout = .seconds(50)
        }
        let task = Task {
            await failure {
                for try await _ in try await db.stream("SELECT 1, pg_sleep(60)", as: PostgresRow.self) {}
            }
        }
        try await untilSleeping(db)
        task.cancel()
        #expect(await task.value?.outcome == .rejected)
        try await expectUsable(db)
    }

    @Test func cancelStopsWhateverRuns() async throws {
        let db = try await connect { $0.cancelTimeout = .seconds(50) }
        let idle = try await db.cancel()
        #expect(!idle)
        let task = Task { await failure { try await db.execute("SELECT pg_sleep(60)") } }
        try await untilSleeping(db)
        let wasRunning = try await db.cancel()
        #expect(wasRunning)
        #expect(await task.value?.code == .queryCanceled)
        try await expectUsable(db)
    }

    @Test func theBlockingCallsAreBoundAndCanBeCancelled() async throws {
        let server = try await PostgresEphemeralServer.shared()
        var configuration = try PostgresConfiguration(url: server.connectionURL(over: .unixSocket))
        configuration.queryTimeout = .milliseconds(100)
        configuration.cancelTimeout = .seconds(50)
        let bounded = configuration
        let error = try await onThread { () -> PostgresError? in
            let db = try PostgresBlockingConnection.connect(bounded)
            do throws(PostgresError) { try db.execute("SELECT pg_sleep(60)") } catch { return error }
            return nil
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .rejected)

        configuration.queryTimeout = nil
        let unbounded = configuration
        let db = try await onThread { try PostgresBlockingConnection.connect(unbounded) }
        let processID = try await onThread { try db.query("SELECT pg_backend_pid()", as: Int32.self).one() }
        let running = Task {
            try await onThread { () -> PostgresError? in
                do throws(PostgresError) { try db.execute("SELECT pg_sleep(60)") } catch { return error }
                return nil
            }
        }
        try await untilSleeping(processID)
        _ = try await onThread { try db.cancel() }
        #expect(try await running.value?.code == .queryCanceled)
    }
}
