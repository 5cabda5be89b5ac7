import Glibc
import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Deadlines of transactions, COPY, pipelines, cursors and the blocking API against a real server: what ends, ends cleanly.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct DeadlineTests {
    private struct OwnFailure: Error, Equatable {}

    /// A connection that has time to cancel, and a table whose deferred trigger sleeps for as many seconds as a row says.
    private func sleepy() async throws -> (PostgresConnection, String) {
        let db = try await connect { $0.cancelTimeout = .seconds(50) }
        let table = uniqueName("sleepy")
        try await db.script(
            """
            CREATE TABLE \(identifier: table) (seconds int);
            CREATE FUNCTION \(identifier: table)() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(NEW.seconds); RETURN NEW; END $$;
            """)
        return (db, table)
    }

    private func addTrigger(_ db: PostgresConnection, _ table: String, deferred: Bool) async throws {
        try await db.execute(
            deferred
                ? """
                CREATE CONSTRAINT TRIGGER sleeps AFTER INSERT ON \(identifier: table) DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION \(identifier: table)()
                """
                : """
                CREATE TRIGGER sleeps BEFORE INSERT ON \(identifier: table)
                FOR EACH ROW EXECUTE FUNCTION \(identifier: table)()
                """)
    }

    private func count(_ db: PostgresConnection, _ table: String) async throws -> Int {
        try await db.query("SELECT count(*) FROM \(identifier: table)", as: Int.self).one()
    }

    // MARK: Transactions

    @Test func aCommitPastItsDeadlineIsCancelledAndItsOutcomeKnown() async throws {
        let (db, table) = try await sleepy()
        try await addTrigger(db, table, deferred: true)
        let error = await failure {
            try await withPostgresTimeout(.seconds(4)) {
                try await db.transaction { tx in try await tx.execute("INSERT INTO \(identifier: table) VALUES (60)") }
            }
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .rejected)
        let rows = try await count(db, table)
        #expect(rows == 0)
        try await expectUsable(db)
    }

    @Test(arguments: [PostgresPipeline.Sync.atomic, .savepoints])
    func aTransactionInOneFlightPastItsDeadlineTellsTheTruth(sync: PostgresPipeline.Sync) async throws {
        let (db, table) = try await sleepy()
        var pipeline = PostgresPipeline(sync)
        pipeline.add("INSERT INTO \(identifier: table) VALUES (1)")
        pipeline.add("SELECT pg_sleep(60)")
        let toSend = pipeline
        do throws(PostgresError) {
            let results = try await withPostgresTimeout(.seconds(1)) { () throws(PostgresError) in
                try await db.transaction(toSend)
            }
            #expect(sync == .savepoints)
            #expect(results.errors.map { $0?.outcome } == [nil, .rejected])
        } catch {
            // Of savepoints, COMMIT may have been hit, too.
            #expect(error.code == .timedOut)
            #expect(error.outcome == .rejected || error.outcome == .aborted)
            let rows = try await count(db, table)
            #expect(rows == 0)
        }
        try await expectUsable(db)
    }

    @Test(arguments: [true, false])
    func aTransactionWhoseStatementWasLeftIsRolledBackAtOnce(cancelled: Bool) async throws {
        let (db, table) = try await sleepy()
        let start = ContinuousClock.now
        let task = Task {
            await failure {
                try await withPostgresTimeout(cancelled ? .seconds(3600) : .seconds(4)) {
                    try await db.transaction { tx in
                        try await tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
                        try await tx.execute("SELECT pg_sleep(60)")
                    }
                }
            }
        }
        if cancelled {
            try await untilSleeping(db)
            task.cancel()
        }
        let error = await task.value
        #expect(error?.code == (cancelled ? .cancelled : .timedOut))
        #expect(start.duration(to: .now) < .seconds(40))
        let rows = try await count(db, table)
        #expect(rows == 0)
        try await expectUsable(db)
    }

    @Test func aNestedTransactionPastItsDeadlineIsRolledBack() async throws {
        let (db, table) = try await sleepy()
        let error = await failure {
            try await withPostgresTimeout(.seconds(1)) {
                try await db.transaction { tx in
                    try await tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
                    try await tx.transaction { inner in try await inner.execute("SELECT pg_sleep(60)") }
                }
            }
        }
        #expect(error?.code == .timedOut)
        let rows = try await count(db, table)
        #expect(rows == 0)
        try await expectUsable(db)
    }

    // MARK: COPY

    @Test func aCopyInPastItsDeadlineIsUndone() async throws {
        let (db, table) = try await sleepy()
        try await addTrigger(db, table, deferred: false)
        let error = await failure {
            try await withPostgresTimeout(.seconds(1)) {
                try await db.copy(into: table, column: "seconds", values: [Int32(60), 60])
            }
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .rejected)
        let rows = try await count(db, table)
        #expect(rows == 0)
        try await expectUsable(db)
    }

    @Test func aCopyInWhoseSourceEndsBehindTheDeadlineIsUndone() async throws {
        let (db, table) = try await sleepy()
        let clock = ContinuousClock()
        let error = await failure {
            let deadline = clock.now + .milliseconds(600)
            try await withPostgresTimeout(.milliseconds(500)) {
                try await db.copy(into: table) { writer in
                    try await writer.write("0\n")
                    try await writer.flush()
                    try await clock.sleep(until: deadline)
                }
            }
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .rejected)
        let rows = try await count(db, table)
        #expect(rows == 0)
        try await expectUsable(db)
    }

    @Test func aCopyInWaitsForALockNoLongerThanItMay() async throws {
        let (db, table) = try await sleepy()
        let holder = try await connect()
        try await holder.transaction { tx in
            try await tx.execute("LOCK TABLE \(identifier: table)")
            let error = await failure {
                try await withPostgresTimeout(.seconds(1)) {
                    try await db.copy(into: table) { writer in try await writer.write("1\n") }
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
        }
        try await expectUsable(db)
    }

    @Test(arguments: [true, false])
    func aCopyOutPastItsDeadlineIsStopped(typed: Bool) async throws {
        let db = try await connect { $0.cancelTimeout = .seconds(50) }
        let error = await failure {
            try await withPostgresTimeout(.seconds(1)) {
                if typed {
                    for try await n in try await db.copy(
                        rowsOf: "SELECT n FROM generate_series(1, 100000) AS n WHERE pg_sleep(0.002) IS NOT NULL",
                        as: Int32.self)
                    {
                        #expect(n > 0)
                    }
                } else {
                    for try await chunk in try await db.copy(
                        rowsOf: "SELECT n, pg_sleep(0.002) FROM generate_series(1, 100000) AS n")
                    {
                        #expect(!chunk.isEmpty)
                    }
                }
            }
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .rejected)
        try await expectUsable(db)
    }

    @Test(arguments: [true, false])
    func cancelFailsACopyInWhoseSourceIsSlow(writesOn: Bool) async throws {
        let (db, table) = try await sleepy()
        let (written, hasWritten) = AsyncStream<Void>.makeStream()
        let (cancelled, hasCancelled) = AsyncStream<Void>.makeStream()
        let copy = Task {
            await failure {
                try await db.copy(into: table) { writer in
                    try await writer.write("1\n")
                    try await writer.flush()
                    hasWritten.finish()
                    for await _ in cancelled {}
                    guard writesOn else { return }
                    try await writer.write("2\n")
                    try await writer.flush()
                }
            }
        }
        for await _ in written {}
        let wasRunning = try await db.cancel()
        #expect(wasRunning)
        hasCancelled.finish()
        let error = await copy.value
        #expect(error?.code == .queryCanceled)
        #expect(error?.outcome == .rejected)
        let rows = try await count(db, table)
        #expect(rows == 0)
        try await expectUsable(db)
    }

    // MARK: Pipelines

    /// Two rows around statements that are more than the server reads while it sleeps.
    private func large(_ table: String) -> PostgresPipeline {
        let text = String(repeating: "x", count: 1 << 20)
        var pipeline = PostgresPipeline(.atomic)
        pipeline.add("INSERT INTO \(identifier: table) VALUES (1)")
        pipeline.add("SELECT pg_sleep(60)")
        for _ in 0..<12 { pipeline.add("SELECT length(\(text))") }
        pipeline.add("INSERT INTO \(identifier: table) VALUES (2)")
        return pipeline
    }

    @Test func anAtomicPipelineThatWasSentInPartAtItsDeadlineIsUndone() async throws {
        let (db, table) = try await sleepy()
        let pipeline = large(table)
        let results = try await withPostgresTimeout(.seconds(1)) { try await db.run(pipeline) }
        #expect(results.errors[1]?.code == .timedOut)
        #expect(results.errors[1]?.outcome == .rejected)
        #expect(results.errors.allSatisfy { $0 != nil && $0?.outcome != .unknown && $0?.outcome != .succeeded })
        let rows = try await count(db, table)
        #expect(rows == 0)
        try await expectUsable(db)
    }

    @Test func whatWasSentOfAnAtomicPipelineIsUndoneWithoutAFailureOfItsOwn() async throws {
        // The statement that is under way does not mind being cancelled; what was to follow could not be sent.
        let (db, table) = try await sleepy()
        try await db.script(
            """
            DROP FUNCTION \(identifier: table)();
            CREATE FUNCTION \(identifier: table)() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                FOR round IN 1..20 LOOP
                    BEGIN PERFORM pg_sleep(0.1); EXCEPTION WHEN query_canceled THEN NULL; END;
                END LOOP;
                RETURN 1;
            END $$;
            """)
        let text = String(repeating: "x", count: 1 << 20)
        var pipeline = PostgresPipeline(.atomic)
        pipeline.add("INSERT INTO \(identifier: table) VALUES (1)")
        pipeline.add("SELECT \(identifier: table)()")
        for _ in 0..<12 { pipeline.add("SELECT length(\(text))") }
        pipeline.add("INSERT INTO \(identifier: table) VALUES (2)")
        let toSend = pipeline
        let results = try await withPostgresTimeout(.seconds(1)) { try await db.run(toSend) }
        #expect(results.errors.allSatisfy { $0 != nil && $0?.outcome != .unknown && $0?.outcome != .succeeded })
        let rows = try await count(db, table)
        #expect(rows == 0)
        try await expectUsable(db)
    }

    @Test func cancelLetsALargeAtomicPipelineComeToItsEnd() async throws {
        let (db, table) = try await sleepy()
        let pipeline = large(table)
        let run = Task { try await db.run(pipeline) }
        try await untilSleeping(db)
        let wasRunning = try await db.cancel()
        #expect(wasRunning)
        let results = try await run.value
        #expect(results.errors[1]?.code == .queryCanceled)
        #expect(results.errors.allSatisfy { $0 != nil })
        let rows = try await count(db, table)
        #expect(rows == 0)
        try await expectUsable(db)
    }

    // MARK: Cursors

    @Test(arguments: [true, false])
    func aCursorPastItsDeadlineIsStopped(withHold: Bool) async throws {
        let db = try await connect { $0.cancelTimeout = .seconds(50) }
        let error = await failure {
            try await withPostgresTimeout(.seconds(1)) {
                // With hold, the server computes everything first.
                for try await n in try await db.cursor(
                    "SELECT n FROM generate_series(1, 1000000) AS n WHERE pg_sleep(0.002) IS NOT NULL",
                    as: Int.self, fetching: 10, withHold: withHold)
                {
                    #expect(n > 0)
                }
            }
        }
        #expect(error?.code == .timedOut)
        // If a batch ended just before it could be cancelled, the next one was not asked for.
        #expect(error?.outcome == .rejected || error?.outcome == .notSent)
        try await expectUsable(db)
        let open = try await db.query("SELECT count(*) FROM pg_cursors WHERE name <> ''", as: Int.self).one()
        #expect(open == 0)
        let other = try await connect()
        let pid = try #require(db.backendProcessID)
        try await eventually("no transaction is left open") {
            try await other.query("SELECT state FROM pg_stat_activity WHERE pid = \(pid)", as: String.self).one()
                == "idle"
        }
    }

    @Test func aStatementInTheLoopOverItsOwnCursorIsAnErrorAtOnce() async throws {
        let db = try await connect()
        var rows = 0
        var later: [Task<Int, any Error>] = []
        for try await n in try await db.cursor("SELECT n FROM generate_series(1, 30) AS n", as: Int.self, fetching: 10)
        {
            rows += 1
            guard n == 15 else { continue }
            for error in [
                await failure { try await db.execute("SELECT 1") },
                await failure { try await db.transaction { tx in try await tx.execute("SELECT 1") } },
                await failure { try await db.copy(into: "nowhere") { _ in } },
            ] {
                #expect(error?.code == .unsupported)
                #expect(error?.outcome == .notSent)
                #expect(error?.message.contains("cursor") == true)
            }
            // Another task waits for its turn.
            later.append(Task { try await db.query("SELECT 7", as: Int.self).one() })
        }
        #expect(rows == 30)
        for task in later {
            let number = try await task.value
            #expect(number == 7)
        }
        try await expectUsable(db)
    }

    @Test func aStatementInTheBodyOfItsOwnCopyIsAnErrorAtOnce() async throws {
        let (db, table) = try await sleepy()
        let copied = try await db.copy(into: table) { writer in
            try await writer.write("1\n")
            let error = await failure { try await db.execute("SELECT 1") }
            #expect(error?.code == .unsupported)
            #expect(error?.message.contains("COPY") == true)
        }
        #expect(copied == 1)
        try await expectUsable(db)
    }

    // MARK: The blocking API

    private func blocking() async throws -> PostgresBlockingConnection {
        let server = try await PostgresEphemeralServer.shared()
        var configuration = try PostgresConfiguration(url: server.connectionURL(over: .unixSocket))
        configuration.cancelTimeout = .seconds(50)
        let ready = configuration
        return try await onThread { try PostgresBlockingConnection.connect(ready) }
    }

    /// Runs blocking work on a thread of its own, with a deadline there.
    ///
    /// - Returns: its error.
    private func error(
        within time: Duration = .milliseconds(500), _ work: @escaping @Sendable () throws -> Void
    ) async throws -> PostgresError? {
        try await onThread { () -> PostgresError? in
            do {
                try withPostgresTimeout(time) { try work() }
                return nil
            } catch let error as PostgresError { return error }
        }
    }

    @Test func blockingCallsObeyTheDeadlineOfTheirThread() async throws {
        let db = try await blocking()
        let table = uniqueName("blocking")
        _ = try await onThread { try db.execute("CREATE TABLE \(identifier: table) (n int)") }
        var pipeline = PostgresPipeline()
        for seconds in [0, 60] { pipeline.add("SELECT pg_sleep(\(seconds))") }
        let toSend = pipeline
        let works: [@Sendable () throws -> Void] = [
            { try db.execute("SELECT pg_sleep(60)") },
            { try db.script("SELECT pg_sleep(60)") },
            {
                let results = try db.run(toSend)
                if let error = results.errors[1] { throw error }
            },
            {
                let query: PostgresQuery = "SELECT n, pg_sleep(60) FROM generate_series(1, 9) AS n"
                var rows = try db.stream(query.as(PostgresRow.self))
                _ = try rows.next()
            },
            { _ = try db.copy(rowsOf: "SELECT pg_sleep(60)") { _ in } },
            { try db.transaction { tx in _ = try tx.execute("SELECT pg_sleep(60)") } },
            {
                try db.transaction { tx in
                    try tx.transaction { inner in _ = try inner.execute("SELECT pg_sleep(60)") }
                }
            },
            { _ = try db.cursor(PostgresQuery("SELECT pg_sleep(60)").as(PostgresRow.self)) },
        ]
        for (index, work) in works.enumerated() {
            let error = try await error(work)
            #expect(error?.code == .timedOut, "work \(index)")
            #expect(error?.outcome == .rejected, "work \(index)")
            let one = try await onThread { try db.query("SELECT 1", as: Int.self).one() }
            #expect(one == 1, "work \(index)")
        }
    }

    @Test func aBlockingTransactionPastItsDeadlineIsRolledBack() async throws {
        let db = try await blocking()
        let table = uniqueName("blocking")
        _ = try await onThread { try db.execute("CREATE TABLE \(identifier: table) (n int)") }
        let error = try await error(within: .seconds(3)) {
            try db.transaction { tx in
                try tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
                usleep(3_050_000)
            }
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .aborted)
        let rows = try await onThread {
            try db.query("SELECT count(*) FROM \(identifier: table)", as: Int.self).one()
        }
        #expect(rows == 0)
    }

    @Test(arguments: [true, false])
    func aBlockingCopyPastItsDeadlineIsUndone(writesOn: Bool) async throws {
        let db = try await blocking()
        let table = uniqueName("blocking")
        _ = try await onThread { try db.execute("CREATE TABLE \(identifier: table) (n int)") }
        let error = try await error {
            try db.copy(into: table) { writer in
                try writer.write("1\n")
                try writer.flush()
                usleep(550_000)
                guard writesOn else { return }
                try writer.write("2\n")
                try writer.flush()
            }
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .rejected)
        let rows = try await onThread {
            try db.query("SELECT count(*) FROM \(identifier: table)", as: Int.self).one()
        }
        #expect(rows == 0)
    }

    /// More than a server takes in the time; what it takes at once gives the writer no reason to wait.
    @Test(arguments: [true, false])
    func aCopyIsStoppedInTheMiddleOfAWrite(isBlocking: Bool) async throws {
        let table = uniqueName("long_write")
        let lines = Array(repeating: UInt8(ascii: "\n"), count: 32 << 20)
        let error: PostgresError?
        let sent: Int
        if isBlocking {
            let db = try await blocking()
            _ = try await onThread { try db.execute("CREATE TABLE \(identifier: table) (t text)") }
            error = try await self.error { try db.copy(into: table) { try $0.write(lines) } }
            sent = db.statistics.bytesSent
        } else {
            let db = try await connect()
            try await db.execute("CREATE TABLE \(identifier: table) (t text)")
            error = await failure {
                try await withPostgresTimeout(.milliseconds(500)) {
                    try await db.copy(into: table) { try await $0.write(lines) }
                }
            }
            sent = db.statistics.bytesSent
        }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .rejected)
        #expect(sent < lines.count)
    }

    @Test func aBlockingWaitForANotificationObeysTheDeadline() async throws {
        let db = try await blocking()
        let channel = uniqueName("silent")
        let timedOut = try await error {
            _ = try db.listen(to: channel).waitForNotification()
        }
        #expect(timedOut?.code == .timedOut)
        let none = try await error(within: .seconds(3600)) {
            let notification = try db.listen(to: channel).waitForNotification(timeout: .milliseconds(20))
            #expect(notification == nil)
        }
        #expect(none == nil)
    }

    @Test func aStatementBesideItsOwnBlockingCursorIsAnErrorAtOnce() async throws {
        let db = try await blocking()
        let error = try await onThread { () -> PostgresError? in
            var cursor = try db.cursor(
                PostgresQuery("SELECT n FROM generate_series(1, 30) AS n").as(PostgresRow.self), fetching: 10)
            _ = try cursor.next()
            defer { try? cursor.close() }
            do throws(PostgresError) { try db.execute("SELECT 1") } catch { return error }
            return nil
        }
        #expect(error?.code == .unsupported)
    }
}
