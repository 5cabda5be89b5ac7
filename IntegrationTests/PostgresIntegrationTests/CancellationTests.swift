import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Cancelled tasks: their own error, and nobody else's.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct CancellationTests {
    @Test func aCancelledTaskSendsNothing() async throws {
        let db = try await connect()
        try await expectUsable(db)
        let before = db.statistics
        let error = await Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return await failure { try await db.execute("SELECT 1") }
        }.value
        #expect(error?.code == .cancelled)
        #expect(error?.outcome == .notSent)
        #expect(db.statistics == before)
    }

    @Test func aTaskCancelledWhileItsStatementRunsIsToldThatItMayTakeEffect() async throws {
        let db = try await connect()
        let table = uniqueName("cancelled")
        try await db.execute("CREATE TABLE \(identifier: table) (n int)")
        // The statement waits for a lock until it is let go below.
        let holder = try await connect()
        let key = Int.random(in: 0...Int.max)
        try await holder.execute("SELECT pg_advisory_lock(\(key))")
        let task = Task {
            await failure {
                try await db.execute(
                    "WITH l AS (SELECT pg_advisory_xact_lock(\(key))) INSERT INTO \(identifier: table) SELECT 1 FROM l")
            }
        }
        let pid = try #require(db.backendProcessID)
        try await eventually("waiting") {
            let event = try await holder.query(
                "SELECT wait_event FROM pg_stat_activity WHERE pid = \(pid)", as: String?.self
            ).one()
            return event == .some("advisory")
        }
        task.cancel()
        let error = await task.value
        #expect(error?.code == .cancelled)
        #expect(error?.outcome == .unknown)
        try await holder.execute("SELECT pg_advisory_unlock(\(key))")
        // It ran to its end, and its reply went to nobody.
        #expect(try await db.query("SELECT count(*) FROM \(identifier: table)", as: Int.self).one() == 1)
    }

    @Test(arguments: [UInt64(1), 20_261_124])
    func randomCancellationsNeverShiftAReply(_ seed: UInt64) async throws {
        var random = SplitMix(state: seed)
        let db = try await connect()
        var cancelled = 0
        for round in 0..<40 {
            let plans = (0..<25).map { index in
                (token: round * 1000 + index, delay: Int(random.next() % 800) - 400, cancel: random.next() % 3 == 0)
            }
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for plan in plans {
                    group.addTask {
                        let task = Task { () async throws -> (Int, String) in
                            try await db.query(
                                "SELECT \(plan.token)::int8, repeat(\("\(plan.token),")::text, 50)",
                                as: (Int, String).self
                            ).one()
                        }
                        if plan.cancel {
                            // Half of them at once: on a fast machine the others may all come too late.
                            if plan.delay > 0 { try await Task.sleep(for: .microseconds(plan.delay)) }
                            task.cancel()
                        }
                        do {
                            let (token, text) = try await task.value
                            #expect(token == plan.token)
                            #expect(text == String(repeating: "\(plan.token),", count: 50))
                            return false
                        } catch let error as PostgresError {
                            #expect(plan.cancel)
                            #expect(error.code == .cancelled)
                            #expect(error.outcome == .notSent || error.outcome == .unknown)
                            return true
                        }
                    }
                }
                for try await wasCancelled in group where wasCancelled { cancelled += 1 }
            }
            try await expectUsable(db)
        }
        // Some come too late to be one.
        #expect(cancelled > 0, "seed \(seed)")
    }

    @Test func aCancelledPipelineDoesNotShiftReplies() async throws {
        let db = try await connect()
        for round in 0..<50 {
            let task = Task {
                var pipeline = PostgresPipeline(round.isMultiple(of: 2) ? .isolated : .atomic)
                for number in 0..<100 { pipeline.add("SELECT \(number)") }
                return try await db.run(pipeline)
            }
            for _ in 0..<round { await Task.yield() }
            task.cancel()
            if case .success(let results) = await task.result {
                #expect(results.count == 100)
                #expect(results.errors.allSatisfy { $0 == nil || $0?.code == .cancelled })
            }
            try await expectUsable(db)
        }
    }

    @Test func aCancelledScriptAndPreparationDoNotShiftReplies() async throws {
        let db = try await connect()
        for round in 0..<50 {
            let script = Task { try await db.script("SELECT 1; SELECT 2; SELECT 3") }
            let prepare = Task { try await db.prepare("SELECT \(unsafeSQL: "\(round)")") }
            for _ in 0..<(round % 7) { await Task.yield() }
            script.cancel()
            prepare.cancel()
            if case .success(let results) = await script.result { #expect(results.count == 3) }
            _ = await prepare.result
            try await expectUsable(db)
        }
    }
}

/// A generator that gives the same numbers for the same seed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
