import Postgres
import PostgresTesting
import Synchronization
import TestTurns
import Testing

/// Transactions against each other: conflicts, the retry of a body, advisory locks.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct TransactionConflictTests {
    /// Lets two tasks meet.
    private final class Meeting: Sendable {
        private let state = Mutex<(waiting: CheckedContinuation<Void, Never>?, met: Bool)>((nil, false))

        /// Waits for the other one, the first time.
        func meet() async {
            await withCheckedContinuation { continuation in
                let other = state.withLock { state -> CheckedContinuation<Void, Never>?? in
                    if state.met { return .some(nil) }
                    guard let waiting = state.waiting else {
                        state.waiting = continuation
                        return nil
                    }
                    state.met = true
                    state.waiting = nil
                    return waiting
                }
                guard let other else { return }
                other?.resume()
                continuation.resume()
            }
        }
    }

    private final class Count: Sendable {
        private let count = Atomic<Int>(0)
        var value: Int { count.load(ordering: .relaxed) }
        func increase() { count.add(1, ordering: .relaxed) }
    }

    /// Both read the sum and add a row that depends on it: one of them must fail.
    private func writeSkew(
        retry: PostgresTransaction.Retry, commitsWithLast: Bool
    ) async throws -> (errors: [PostgresError], runs: Int, sums: [Int]) {
        let table = try await makeTable(try await connect())
        let meeting = Meeting()
        let runs = Count()
        var errors: [PostgresError] = []
        await withTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<2 {
                group.addTask {
                    do {
                        let db = try await connect()
                        try await db.transaction(isolation: .serializable, retry: retry) { tx in
                            runs.increase()
                            let sum = try await tx.query(
                                "SELECT coalesce(sum(n), 0)::int8 FROM \(identifier: table)", as: Int.self
                            ).one()
                            await meeting.meet()
                            let insert: PostgresQuery = "INSERT INTO \(identifier: table) VALUES (\(sum + 1))"
                            if commitsWithLast {
                                try await tx.commit(with: insert)
                            } else {
                                try await tx.execute(insert)
                            }
                        }
                        return nil
                    } catch let error as PostgresError {
                        return error
                    } catch {
                        Issue.record("\(error)")
                        return nil
                    }
                }
            }
            for await error in group { if let error { errors.append(error) } }
        }
        return (errors, runs.value, try await numbers(try await connect(), table))
    }

    @Test(arguments: [false, true])
    func aSerializationFailureIsTheError(commitsWithLast: Bool) async throws {
        let (errors, runs, sums) = try await writeSkew(retry: .never, commitsWithLast: commitsWithLast)
        #expect(errors.map(\.code) == [.serializationFailure])
        #expect(errors.first?.outcome == .rejected)
        #expect(runs == 2)
        #expect(sums == [1])
    }

    @Test(arguments: [false, true])
    func aSerializationFailureIsRetried(commitsWithLast: Bool) async throws {
        let (errors, runs, sums) = try await writeSkew(
            retry: .upTo(5, base: .milliseconds(1)), commitsWithLast: commitsWithLast)
        #expect(errors.isEmpty)
        // More if the loser tries again before the winner's COMMIT is to be seen.
        #expect(runs >= 3)
        #expect(sums == [1, 2])
    }

    @Test func aDeadlockIsRetried() async throws {
        let setup = try await connect()
        let table = try await makeTable(setup, "id int8 PRIMARY KEY, n int8")
        try await setup.execute("INSERT INTO \(identifier: table) VALUES (0, 0), (1, 0)")
        let meeting = Meeting()
        let runs = Count()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for first in 0..<2 {
                group.addTask {
                    let db = try await connect { $0.parameters["deadlock_timeout"] = "50ms" }
                    try await db.transaction(retry: .upTo(5)) { tx in
                        runs.increase()
                        try await tx.execute("UPDATE \(identifier: table) SET n = n + 1 WHERE id = \(first)")
                        await meeting.meet()
                        try await tx.execute("UPDATE \(identifier: table) SET n = n + 1 WHERE id = \(1 - first)")
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(runs.value == 3)
        #expect(try await numbers(setup, table) == [2, 2])
    }

    @Test func aPipelineIsRetriedToo() async throws {
        let db = try await connect()
        let other = try await connect()
        let table = try await makeTable(db)
        try await db.execute("INSERT INTO \(identifier: table) VALUES (0)")
        // The pipeline's snapshot is taken before it waits for the row, which changes meanwhile.
        var pipeline = PostgresPipeline(.atomic)
        pipeline.add("SELECT count(*) FROM \(identifier: table)")
        pipeline.add("UPDATE \(identifier: table) SET n = n + 1")
        let toSend = pipeline
        let process = try #require(db.backendProcessID)
        for retry in [PostgresTransaction.Retry.never, .upTo(3, base: .milliseconds(1))] {
            let task = try await other.transaction { tx in
                try await tx.execute("UPDATE \(identifier: table) SET n = n + 10")
                let task = Task { try await db.transaction(toSend, isolation: .repeatableRead, retry: retry) }
                let observer = try await connect()
                try await eventually("the pipeline waits for the row") {
                    try await observer.query(
                        "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = \(process)", as: Int.self
                    ).one() > 0
                }
                return task
            }
            if retry == .never {
                let error = await failure { try await task.value }
                #expect(error?.code == .serializationFailure)
            } else {
                let errors = try await task.value.errors
                #expect(errors.allSatisfy { $0 == nil })
            }
        }
        #expect(try await numbers(db, table) == [21])
    }

    @Test func otherErrorsAreNotRetried() async throws {
        let db = try await connect()
        var runs = 0
        let error = await failure {
            try await db.transaction(retry: .upTo(5)) { tx in
                runs += 1
                try await tx.execute("SELECT 1/\(0)")
            }
        }
        #expect(error?.code == .divisionByZero)
        #expect(runs == 1)
    }

    @Test func theAttemptsAreCounted() async throws {
        let db = try await connect()
        var runs = 0
        let error = await failure {
            try await db.transaction(retry: .upTo(4, base: .milliseconds(1))) { tx in
                runs += 1
                try await tx.execute("SELECT 1")
                try await tx.script("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
            }
        }
        #expect(error?.code == .serializationFailure)
        #expect(runs == 4)
        try await expectUsable(db)
    }

    // MARK: Advisory locks

    @Test(arguments: [
        PostgresAdvisoryLockKey(Int64.random(in: .min ... .max)),
        PostgresAdvisoryLockKey(Int32.random(in: .min ... .max), Int32.random(in: .min ... .max)),
        PostgresAdvisoryLockKey(uniqueName("läse")),
    ])
    func anAdvisoryLockIsHeldUntilTheTransactionEnds(_ key: PostgresAdvisoryLockKey) async throws {
        let db = try await connect()
        let other = try await connect()
        try await db.transaction { tx in
            try await tx.lock(advisory: key)
            let free = try await other.transaction { try await $0.tryLock(advisory: key) }
            #expect(!free)
            let shared = try await other.transaction { try await $0.tryLock(advisory: key, shared: true) }
            #expect(!shared)
        }
        try await db.transaction { tx in
            try await tx.lock(advisory: key, shared: true)
            let shared = try await other.transaction { try await $0.tryLock(advisory: key, shared: true) }
            #expect(shared)
        }
        let free = try await other.transaction { try await $0.tryLock(advisory: key) }
        #expect(free)
    }

    @Test func aLockOfTheSessionIsGivenBackHoweverTheBodyEnds() async throws {
        let db = try await connect()
        let other = try await connect()
        let key = PostgresAdvisoryLockKey(uniqueName("session"))
        func isFree() async throws -> Bool { try await other.transaction { try await $0.tryLock(advisory: key) } }

        let result = try await db.withAdvisoryLock(key) {
            let free = try await isFree()
            #expect(!free)
            return 7
        }
        #expect(result == 7)
        #expect(try await isFree())

        await #expect(throws: OutOfStock()) { try await db.withAdvisoryLock(key) { throw OutOfStock() } }
        #expect(try await isFree())

        let cancelled = Task {
            try await db.withAdvisoryLock(key, shared: true) {
                withUnsafeCurrentTask { $0?.cancel() }
                try await db.execute("SELECT 1")
            }
        }
        let error = await failure { try await cancelled.value }
        #expect(error?.code == .cancelled)
        #expect(try await isFree())
        #expect(!db.isClosed)
    }

    @Test func aCancelledWaitForALockGivesItBackWhenItComes() async throws {
        let db = try await connect()
        let other = try await connect()
        let key = PostgresAdvisoryLockKey(uniqueName("cancelled"))
        try await other.withAdvisoryLock(key) {
            let task = Task { try await db.withAdvisoryLock(key) { Issue.record("the body ran") } }
            try await untilWaiting(db.backendProcessID, other)
            task.cancel()
            let error = await failure { try await task.value }
            #expect(error?.code == .cancelled)
        }
        try await expectUsable(db)
        try await eventually("the lock is free") {
            try await other.transaction { try await $0.tryLock(advisory: key) }
        }
    }

    /// Waits until the server waits for an advisory lock for the connection.
    private func untilWaiting(_ processID: Int32?, _ other: PostgresConnection) async throws {
        let pid = try #require(processID)
        try await eventually("waiting") {
            try await other.query(
                "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = \(pid)", as: String.self
            ).one() == "advisory"
        }
    }

    @Test func aCancelledWaitForALockTakesItFromNobodyWhoGetsTheConnectionNext() async throws {
        let client = try await makeClient {
            $0.maximumConnections = 1
            $0.cleanupTimeout = .seconds(50)
        }
        let other = try await connect()
        let key = PostgresAdvisoryLockKey(uniqueName("pooled"))
        for _ in 0..<10 {
            try await other.withAdvisoryLock(key) {
                let (pids, told) = AsyncStream<Int32?>.makeStream()
                let task = Task {
                    try await client.withConnection { db in
                        told.yield(db.backendProcessID)
                        try await db.withAdvisoryLock(key) { Issue.record("the body ran") }
                    }
                }
                var iterator = pids.makeAsyncIterator()
                try await untilWaiting(await iterator.next() ?? nil, other)
                task.cancel()
                let error = await failure { try await task.value }
                #expect(error?.code == .cancelled)
            }
            try await client.withConnection { db in
                try await db.withAdvisoryLock(key) {
                    for _ in 0..<5 {
                        let isFree = try await other.transaction { try await $0.tryLock(advisory: key) }
                        #expect(!isFree)
                    }
                }
            }
        }
        #expect(client.statistics.connects == 1)
        await client.shutdown()
    }

    @Test func aConnectionThatCannotGiveALockBackIsClosed() async throws {
        let db = try await connect()
        let other = try await connect()
        let key = PostgresAdvisoryLockKey(uniqueName("closed"))
        try await db.withAdvisoryLock(key) {
            try await db.execute("BEGIN")
            _ = try? await db.execute("SELECT 1/\(0)")
        }
        #expect(db.isClosed)
        try await eventually("the lock is free") {
            try await other.transaction { try await $0.tryLock(advisory: key) }
        }
    }
}
