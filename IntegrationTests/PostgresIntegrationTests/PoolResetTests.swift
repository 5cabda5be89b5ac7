import Postgres
import PostgresTesting
import TestTurns
import Testing

/// What one user of a pooled connection leaves behind, the next one must not meet.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct PoolResetTests {
    /// One connection, so that the next user gets the same session.
    private func client(
        _ reset: PostgresClient.Options.Reset = .afterLeases,
        over address: PostgresEphemeralServer.Address = .unixSocket,
        cleanupTimeout: Duration = .seconds(60)
    ) async throws -> PostgresClient {
        try await makeClient(over: address) {
            $0.maximumConnections = 1
            $0.acquireTimeout = .seconds(60)
            $0.cleanupTimeout = cleanupTimeout
            $0.reset = reset
        }
    }

    private struct Mess: Sendable, CustomTestStringConvertible {
        let name: String
        /// What the first user runs.
        let statements: [PostgresQuery]
        /// Must be true afterwards.
        let check: PostgresQuery
        var testDescription: String { name }

        init(_ name: String, _ statements: PostgresQuery..., check: PostgresQuery) {
            self.name = name
            self.statements = statements
            self.check = check
        }
    }

    private static let messes = [
        Mess(
            "an open transaction", "BEGIN", "SELECT pg_current_xact_id()",
            check: "SELECT pg_current_xact_id_if_assigned() IS NULL"),
        Mess("a failed transaction", "BEGIN", "SELECT 1 / 0", check: "SELECT true"),
        Mess("LISTEN", "LISTEN news", check: "SELECT count(*) = 0 FROM pg_listening_channels()"),
        Mess(
            "SET", "SET work_mem = '77MB'", "SET search_path = pg_catalog",
            check:
                "SELECT current_setting('work_mem') <> '77MB' AND current_setting('search_path') <> 'pg_catalog' AND current_setting('DateStyle') LIKE 'ISO%'"
        ),
        Mess("a temporary table", "CREATE TEMP TABLE mine (n int)", check: "SELECT to_regclass('mine') IS NULL"),
        Mess(
            "an advisory lock", "SELECT pg_advisory_lock(7777)",
            check: "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
        Mess(
            "a cursor", "BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT",
            check: "SELECT count(*) = 0 FROM pg_cursors WHERE name = 'c'"),
        Mess("SET ROLE", "SET ROLE pg_monitor", check: "SELECT current_user = session_user"),
        Mess(
            "SET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION pg_monitor",
            check: "SELECT session_user <> 'pg_monitor'"),
        Mess("an open transaction with a lock", "BEGIN", "SELECT pg_advisory_xact_lock(7778)", check: "SELECT true"),
    ]

    @Test(arguments: messes.indices, PostgresEphemeralServer.Address.allCases)
    func theNextUserMeetsACleanSession(_ index: Int, _ address: PostgresEphemeralServer.Address) async throws {
        let mess = Self.messes[index]
        let client = try await client(over: address)
        let before = try await client.withConnection { db in
            for statement in mess.statements { _ = try? await db.execute(statement) }
            return db.backendProcessID
        }
        try await client.withConnection { db in
            #expect(db.backendProcessID == before, "\(mess.name): another session")
            let isClean = try await db.query(mess.check, as: Bool.self).one()
            #expect(isClean, "\(mess.name)")
        }
        // And for the client's own statements.
        try await client.withConnection { db in
            for statement in mess.statements { _ = try? await db.execute(statement) }
        }
        let isClean = try await client.query(mess.check, as: Bool.self).one()
        #expect(isClean, "\(mess.name)")
        #expect(client.statistics.connects == 1)
        #expect(client.statistics.resets == 3)
    }

    @Test func unreadRowsAreReadAndThrownAway() async throws {
        let client = try await client()
        try await client.withConnection { db in
            var rows = try await db.stream("SELECT generate_series(1, 100000)::int8", as: Int.self).makeAsyncIterator()
            let first = try await rows.next()
            #expect(first == 1)
        }
        #expect(try await client.query("SELECT 42", as: Int.self).one() == 42)
    }

    @Test func aStatementThatStillRunsIsWaitedForOrTheConnectionIsClosed() async throws {
        for (seconds, limit, closes) in [(1.0, 60, 0), (60.0, 1, 1)] {
            let client = try await client(cleanupTimeout: .seconds(limit))
            let mark = uniqueName("sleep")
            let observer = try await connect()
            let task = Task {
                try await client.execute("SELECT pg_sleep(\(seconds)) AS \(identifier: mark)")
            }
            try await eventually("not running") {
                try await observer.query(
                    """
                    SELECT count(*) FROM pg_stat_activity
                    WHERE query LIKE '%' || \(mark) || '%' AND state = 'active' AND pid <> pg_backend_pid()
                    """, as: Int.self
                ).one() == 1
            }
            task.cancel()
            _ = await task.result
            #expect(try await client.query("SELECT 42", as: Int.self).one() == 42)
            #expect(client.statistics.closes[.dirty] ?? 0 == closes)
        }
    }

    @Test func aBeginOfASingleStatementIsRolledBack() async throws {
        let client = try await client()
        try await client.execute("BEGIN")
        let error = await failure { try await client.execute("SAVEPOINT s") }
        #expect(error?.code == .noActiveSqlTransaction)
        await eventually("not clean") { client.statistics.cleaning == 0 }
    }

    @Test func theResetCostsNoRoundTripAndKeepsPreparedStatements() async throws {
        let client = try await client()
        let query = PostgresQuery("SELECT 'pooled'::text").as(String.self)
        let before = try await client.withConnection { db in
            _ = try await db.query(query).one()
            _ = try await db.query(query).one()
            return db.statistics
        }
        for round in 1...20 {
            let after = try await client.withConnection { db in
                let text = try await db.query(query).one()
                #expect(text == "pooled")
                return db.statistics
            }
            let cost = after - before
            #expect(cost.roundTrips == round)
            // The reset is one message; Bind, Execute and Sync are three: nothing was parsed again.
            #expect(cost.messagesSent == 4 * round)
        }
        #expect(client.statistics.resets == 20)
        #expect(client.statistics.connects == 1)
    }

    @Test func aResetThatNobodyComesForIsDoneAlone() async throws {
        let client = try await client()
        let pid = try await client.withConnection { db in
            try await db.execute("SELECT pg_advisory_lock(99)")
            return db.backendProcessID ?? 0
        }
        let server = try await PostgresEphemeralServer.shared()
        try await eventually("the lock stays") {
            try await server.runSQL("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = \(pid)") == "0"
        }
        await eventually("not counted") { client.statistics.resets == 1 && client.statistics.idle == 1 }
    }

    @Test(arguments: [PostgresClient.Options.Reset.afterLeases, .always, .never])
    func resetsComeWhenTheOptionSaysSo(_ reset: PostgresClient.Options.Reset) async throws {
        let client = try await client(reset)
        try await client.execute("SET work_mem = '66MB'")
        let afterStatement = try await client.query("SHOW work_mem", as: String.self).one()
        #expect((afterStatement == "66MB") == (reset != .always))
        try await client.withConnection { db in try await db.execute("SET work_mem = '55MB'") }
        let afterLease = try await client.query("SHOW work_mem", as: String.self).one()
        #expect((afterLease == "55MB") == (reset == .never))
    }

    @Test func aLeaseThatSendsNothingKeepsTheResetForTheNext() async throws {
        let client = try await client()
        try await client.withConnection { db in try await db.execute("SET work_mem = '44MB'") }
        try await client.withConnection { _ in }
        #expect(try await client.query("SHOW work_mem", as: String.self).one() != "44MB")
        #expect(client.statistics.resets == 1)
    }

    @Test func theFirstRequestAfterAResetMayBeOfAnyKind() async throws {
        let client = try await client()
        for kind in 0..<5 {
            try await client.withConnection { db in try await db.execute("SET work_mem = '33MB'") }
            try await client.withConnection { db in
                let setting: String
                switch kind {
                case 0: setting = try await db.pipeline(.atomic, PostgresQuery("SHOW work_mem").as(String.self)).one()
                case 1: setting = try await db.script("SHOW work_mem")[0].one().decode(0, as: String.self)
                case 2:
                    var found = ""
                    for try await row in try await db.stream("SHOW work_mem", as: String.self) { found = row }
                    setting = found
                case 3:
                    _ = try await db.prepare("SHOW work_mem")
                    setting = try await db.query("SHOW work_mem", as: String.self).one()
                default:
                    async let first = db.query("SHOW work_mem", as: String.self).one()
                    async let second = db.query("SHOW work_mem", as: String.self).one()
                    let both = try await (first, second)
                    #expect(both.0 == both.1)
                    setting = both.0
                }
                #expect(setting != "33MB", "kind \(kind)")
            }
        }
        #expect(client.statistics.connects == 1)
    }

    @Test func aConnectionThatIsKeptBeyondItsLeaseIsClosed() async throws {
        let client = try await client()
        let kept = try await client.withConnection { db in db }
        #expect(kept.isClosed)
        let error = await failure { try await kept.execute("SELECT 1") }
        #expect(error?.code == .connectionClosed)
        #expect(try await client.query("SELECT 1", as: Int.self).one() == 1)
        #expect(client.statistics.closes == [.kept: 1])
    }
}
