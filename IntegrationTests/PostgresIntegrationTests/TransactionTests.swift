import Postgres
import PostgresTesting
import TestTurns
import Testing

/// A table of its own for a test.
func makeTable(_ db: PostgresConnection, _ columns: PostgresQuery = "n int8") async throws -> String {
    let table = uniqueName("tx")
    try await db.execute("CREATE TABLE \(identifier: table) (\(columns))")
    return table
}

func numbers(_ db: some PostgresExecutor, _ table: String) async throws -> [Int] {
    try await db.query("SELECT n FROM \(identifier: table) ORDER BY n", as: Int.self).all()
}

struct OutOfStock: Error, Equatable {}

/// Transactions: what is sent, what is committed, and what is not.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct TransactionTests {
    private func insert(_ number: Int, _ table: String) -> PostgresQuery {
        "INSERT INTO \(identifier: table) VALUES (\(number))"
    }

    // MARK: Round trips

    private func roundTrips(_ db: PostgresConnection, _ body: () async throws -> Void) async throws -> Int {
        let before = db.statistics
        try await body()
        return (db.statistics - before).roundTrips
    }

    @Test func aBodyWithoutStatementsSendsNothing() async throws {
        let db = try await connect()
        let before = db.statistics
        try await db.transaction { tx in
            try await tx.transaction { _ in }
        }
        #expect(db.statistics == before)
        try await expectUsable(db)
    }

    @Test func beginLeavesWithTheFirstStatement() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        for _ in 0..<2 {
            let trips = try await roundTrips(db) {
                try await db.transaction { tx in
                    for number in 1...3 { try await tx.execute(insert(number, table)) }
                }
            }
            #expect(trips == 4)
        }
        #expect(try await numbers(db, table) == [1, 1, 2, 2, 3, 3])
    }

    @Test func commitLeavesWithTheLastStatement() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        let trips = try await roundTrips(db) {
            let count = try await db.transaction { tx in
                for number in 1...2 { try await tx.execute(insert(number, table)) }
                return try await tx.commit(with: insert(3, table)).affected
            }
            #expect(count == 1)
        }
        #expect(trips == 3)
        let single = try await roundTrips(db) {
            let number = try await db.transaction { tx in
                try await tx.commit(with: "SELECT max(n) FROM \(identifier: table)", as: Int.self).one()
            }
            #expect(number == 3)
        }
        #expect(single == 1)
        #expect(try await numbers(db, table) == [1, 2, 3])
    }

    @Test(arguments: [PostgresPipeline.Sync.atomic, .isolated, .savepoints])
    func aPipelineIsATransactionInOneRoundTrip(_ sync: PostgresPipeline.Sync) async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        var pipeline = PostgresPipeline(sync)
        for number in 1...3 { pipeline.add(insert(number, table)) }
        let ticket = pipeline.add(PostgresQuery("SELECT count(*) FROM \(identifier: table)").as(Int.self))
        let trips = try await roundTrips(db) {
            let results = try await db.transaction(pipeline, isolation: .serializable)
            #expect(try results[ticket].one() == 3)
        }
        #expect(trips == 1)
        #expect(try await numbers(db, table) == [1, 2, 3])
    }

    @Test func aNestedTransactionAddsNoRoundTrip() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        let trips = try await roundTrips(db) {
            try await db.transaction { tx in
                try await tx.transaction { inner in
                    try await inner.execute(insert(1, table))
                    try await inner.transaction { _ = try await $0.execute(insert(2, table)) }
                }
                try await tx.execute(insert(3, table))
            }
        }
        #expect(trips == 4)
        #expect(try await numbers(db, table) == [1, 2, 3])
    }

    // MARK: What a transaction is like

    @Test(arguments: [
        (PostgresTransaction.Isolation.serverDefault, "read committed"), (.readCommitted, "read committed"),
        (.repeatableRead, "repeatable read"), (.serializable, "serializable"),
    ])
    func theServerGetsWhatWasAskedFor(_ isolation: PostgresTransaction.Isolation, _ name: String) async throws {
        let db = try await connect()
        for readOnly in [false, true] {
            for deferrable in [false, true] {
                let settings = try await db.transaction(
                    isolation: isolation, readOnly: readOnly, deferrable: deferrable
                ) { tx in
                    try await tx.query(
                        """
                        SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),
                            current_setting('transaction_deferrable')
                        """, as: (String, String, String).self
                    ).one()
                }
                #expect(settings == (name, readOnly ? "on" : "off", deferrable ? "on" : "off"))
            }
        }
        let table = try await makeTable(db)
        let error = await failure {
            try await db.transaction(isolation: isolation, readOnly: true) { try await $0.execute(insert(1, table)) }
        }
        #expect(error?.code == .readOnlySqlTransaction)
    }

    @Test func anErrorOfTheBodyArrivesAsItselfAndRollsBack() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        await #expect(throws: OutOfStock()) {
            try await db.transaction { tx in
                try await tx.execute(insert(1, table))
                throw OutOfStock()
            }
        }
        let error = await failure {
            try await db.transaction { tx in
                try await tx.execute(insert(1, table))
                try await tx.execute("SELECT 1/\(0)")
            }
        }
        #expect(error?.code == .divisionByZero)
        // The same, by the first statement and by one that carries COMMIT.
        let first = await failure { try await db.transaction { try await $0.execute("SELECT 1/\(0)") } }
        #expect(first?.code == .divisionByZero)
        let last = await failure {
            try await db.transaction { tx in
                try await tx.execute(insert(1, table))
                try await tx.commit(with: "SELECT 1/\(0)")
            }
        }
        #expect(last?.code == .divisionByZero)
        #expect(last?.outcome == .rejected)
        #expect(try await numbers(db, table) == [])
        let status = try await db.query("SELECT pg_current_xact_id_if_assigned() IS NULL", as: Bool.self).one()
        #expect(status)
    }

    @Test func aSwallowedErrorCannotBeCommitted() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        for withLast in [false, true] {
            let error = await failure {
                try await db.transaction { tx in
                    try await tx.execute(insert(1, table))
                    _ = try? await tx.execute("SELECT 1/\(0)")
                    let refused = await failure { try await tx.execute(insert(2, table)) }
                    #expect(refused?.code == .inFailedSqlTransaction)
                    if withLast { try await tx.commit(with: insert(3, table)) }
                }
            }
            #expect(error?.code == .inFailedSqlTransaction)
            #expect(error?.outcome == (withLast ? .rejected : .aborted))
            try await expectUsable(db)
        }
        #expect(try await numbers(db, table) == [])
    }

    @Test func aDeferredConstraintIsRefusedAtCommit() async throws {
        let db = try await connect()
        let table = try await makeTable(db, "n int8 UNIQUE DEFERRABLE INITIALLY DEFERRED")
        for withLast in [false, true] {
            let error = await failure {
                try await db.transaction { tx in
                    try await tx.execute(insert(1, table))
                    if withLast {
                        try await tx.commit(with: insert(1, table))
                    } else {
                        try await tx.execute(insert(1, table))
                    }
                }
            }
            #expect(error?.code == .uniqueViolation)
            #expect(error?.outcome == .rejected)
            #expect(try await numbers(db, table) == [])
        }
        var pipeline = PostgresPipeline(.savepoints)
        for number in [1, 1, 2] { pipeline.add(insert(number, table)) }
        let outcomes = try await db.run(pipeline).errors.map { $0?.outcome }
        #expect(outcomes == [.aborted, .aborted, .aborted])
        #expect(try await numbers(db, table) == [])
    }

    @Test func aCommitIsNotHiddenByWhatTheBodyDoesAfterwards() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        await #expect(throws: OutOfStock()) {
            try await db.transaction(retry: .upTo(3)) { tx in
                try await tx.commit(with: insert(1, table))
                let late = await failure { try await tx.execute(insert(2, table)) }
                #expect(late?.code == .transactionEnded)
                throw OutOfStock()
            }
        }
        #expect(try await numbers(db, table) == [1])
        // A failed one is told again to a body that does not look.
        let error = await failure {
            try await db.transaction { tx in _ = try? await tx.commit(with: "SELECT 1/\(0)") }
        }
        #expect(error?.code == .divisionByZero)
    }

    @Test func aTransactionIsOfNoUseBehindItsBody() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        let escaped = try await db.transaction { tx in
            try await tx.execute(insert(1, table))
            return tx
        }
        let before = db.statistics
        for operation in [
            { try await escaped.execute("SELECT 1") }, { _ = try await escaped.query("SELECT 1") },
            { _ = try await escaped.script("SELECT 1") }, { _ = try await escaped.stream("SELECT 1", as: Int.self) },
            { _ = try await escaped.pipeline(PostgresQuery("SELECT 1").as(Int.self)) },
            { _ = try await escaped.transaction { try await $0.execute("SELECT 1") } },
            { try await escaped.commit(with: "SELECT 1") },
        ] as [@Sendable () async throws -> Void] {
            let error = await failure { try await operation() }
            #expect(error?.code == .transactionEnded)
            #expect(error?.outcome == .notSent)
        }
        #expect(db.statistics == before)
    }

    // MARK: Others on the connection

    @Test func theConnectionItselfIsRefusedInsideItsOwnTransaction() async throws {
        let db = try await connect()
        let other = try await connect()
        let table = try await makeTable(db)
        try await db.transaction { tx in
            try await tx.execute(insert(1, table))
            for operation in [
                { try await db.execute("SELECT 1") }, { _ = try await db.query("SELECT 1") },
                { _ = try await db.script("SELECT 1") }, { _ = try await db.stream("SELECT 1", as: Int.self) },
                { try await db.prepare("SELECT 1") },
                { _ = try await db.pipeline(PostgresQuery("SELECT 1").as(Int.self)) },
                { _ = try await db.transaction { try await $0.execute("SELECT 1") } },
                { try await other.transaction { _ in _ = try await db.query("SELECT 1") } },
            ] as [@Sendable () async throws -> Void] {
                let error = await failure { try await operation() }
                #expect(error?.code == .unsupported)
                #expect(error?.hint?.contains("transaction") == true)
            }
            try await expectUsable(other)
        }
        #expect(try await numbers(db, table) == [1])
    }

    @Test func statementsOfOtherTasksWaitForTheEnd() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<20 {
                group.addTask {
                    if task.isMultiple(of: 2) {
                        try await db.transaction { tx in
                            try await tx.execute(insert(1, table))
                            await Task.yield()
                            let mine = try await tx.query("SELECT count(*) FROM \(identifier: table)", as: Int.self)
                                .one()
                            #expect(!mine.isMultiple(of: 2))
                            try await tx.execute(insert(1, table))
                        }
                    } else {
                        let seen = try await db.query("SELECT count(*) FROM \(identifier: table)", as: Int.self).one()
                        #expect(seen.isMultiple(of: 2))
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await numbers(db, table).count == 20)
    }

    @Test func concurrentFirstStatementsAreAllInside() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        await #expect(throws: OutOfStock()) {
            try await db.transaction { tx in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<20 { group.addTask { try await tx.execute(insert(number, table)) } }
                    try await group.waitForAll()
                }
                #expect(try await numbers(tx, table).count == 20)
                throw OutOfStock()
            }
        }
        #expect(try await numbers(db, table) == [])
    }

    // MARK: Cancellation

    @Test func cancellingTheBodyRollsBack() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        let task = Task {
            try await db.transaction { tx in
                try await tx.execute(insert(1, table))
                withUnsafeCurrentTask { $0?.cancel() }
                try await tx.execute(insert(2, table))
            }
        }
        let error = await failure { try await task.value }
        #expect(error?.code == .cancelled)
        #expect(try await numbers(db, table) == [])

        // In a statement that is running, and as the first one.
        for number in [0, 1] {
            let slow = Task {
                try await db.transaction { tx in
                    if number > 0 { try await tx.execute(insert(number, table)) }
                    try await tx.execute("SELECT pg_sleep(60)")
                }
            }
            try await untilSleeping(db)
            slow.cancel()
            let slowError = await failure { try await slow.value }
            #expect(slowError?.code == .cancelled)
            #expect(try await numbers(db, table) == [])
        }

        // A body that does not notice is not committed either.
        let blind = Task {
            try await db.transaction { tx in
                try await tx.execute(insert(1, table))
                withUnsafeCurrentTask { $0?.cancel() }
            }
        }
        let blindError = await failure { try await blind.value }
        #expect(blindError?.code == .cancelled)
        #expect(blindError?.outcome == .aborted)
        #expect(try await numbers(db, table) == [])
        try await expectUsable(db)
    }

    @Test func aCancelledFirstStatementLetsNothingElseRunOutside() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        let error = await failure {
            try await db.transaction { tx in
                let first = Task { try await tx.execute("SELECT pg_sleep(60)") }
                try await untilSleeping(db)
                first.cancel()
                let cancelled = await failure { try await first.value }
                #expect(cancelled?.code == .cancelled)
                try await tx.execute(insert(1, table))
            }
        }
        #expect(error?.code == .inFailedSqlTransaction)
        #expect(error?.outcome == .notSent)
        #expect(try await numbers(db, table) == [])
    }

    // MARK: Nested

    @Test func savepointsNest() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        try await db.transaction { tx in
            try await tx.execute(insert(1, table))
            await #expect(throws: OutOfStock()) {
                try await tx.transaction { inner in
                    try await inner.execute(insert(2, table))
                    try await inner.transaction { _ = try await $0.execute(insert(3, table)) }
                    throw OutOfStock()
                }
            }
            try await tx.transaction { inner in
                try await inner.execute(insert(4, table))
                _ = try? await inner.transaction { innermost in
                    try await innermost.execute(insert(5, table))
                    try await innermost.execute("SELECT 1/\(0)")
                }
                try await inner.execute(insert(6, table))
            }
            try await tx.execute(insert(7, table))
        }
        #expect(try await numbers(db, table) == [1, 4, 6, 7])
    }

    // The first statement of all carries BEGIN and both savepoints, and fails.
    @Test func aFailureInTheFirstFlightRollsBackToItsOwnSavepoint() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        try await db.transaction { tx in
            _ = try? await tx.transaction { inner in
                _ = try? await inner.transaction { try await $0.execute("SELECT 1/\(0)") }
                try await inner.execute(insert(1, table))
                try await inner.execute("SELECT 1/\(0)")
            }
            try await tx.execute(insert(2, table))
        }
        #expect(try await numbers(db, table) == [2])
    }

    @Test func aSwallowedErrorEndsTheNestedTransactionOnly() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        try await db.transaction { tx in
            try await tx.execute(insert(1, table))
            let error = await failure {
                try await tx.transaction { inner in
                    try await inner.execute(insert(2, table))
                    _ = try? await inner.execute("SELECT 1/\(0)")
                }
            }
            #expect(error?.code == .inFailedSqlTransaction)
            try await tx.execute(insert(3, table))
        }
        #expect(try await numbers(db, table) == [1, 3])
    }

    @Test func theOuterTransactionIsRefusedWhileANestedOneIsOpen() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        try await db.transaction { tx in
            try await tx.execute(insert(1, table))
            try await tx.transaction { inner in
                for operation in [
                    { try await tx.execute(insert(2, table)) }, { try await tx.commit(with: insert(2, table)) },
                    { _ = try await tx.transaction { try await $0.execute(insert(2, table)) } },
                ] as [@Sendable () async throws -> Void] {
                    let error = await failure { try await operation() }
                    #expect(error?.code == .transactionEnded)
                    #expect(error?.message.contains("nested") == true)
                }
                let error = await failure { try await inner.commit(with: insert(2, table)) }
                #expect(error?.code == .unsupported)
                try await inner.execute(insert(3, table))
            }
            try await tx.execute(insert(4, table))
        }
        #expect(try await numbers(db, table) == [1, 3, 4])
    }

    @Test func aCancelledNestedTransactionLeavesTheOuterOneUsable() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        try await db.transaction { tx in
            let inner = Task {
                try await tx.transaction { inner in
                    try await inner.execute("INSERT INTO \(identifier: table) SELECT 1 FROM pg_sleep(60)")
                }
            }
            try await untilSleeping(db)
            inner.cancel()
            let error = await failure { try await inner.value }
            #expect(error?.code == .cancelled)
            try await tx.execute(insert(2, table))
        }
        #expect(try await numbers(db, table) == [2])
    }

    // MARK: Others of its kind

    @Test func streamsScriptsAndUpsertsOfATransaction() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        try await db.transaction { tx in
            var sum = 0
            for try await number in try await tx.stream("SELECT generate_series(1, 1000)::int8", as: Int.self) {
                sum += number
            }
            #expect(sum == 500_500)
            try await tx.script(
                "INSERT INTO \(identifier: table) VALUES (1); INSERT INTO \(identifier: table) VALUES (2)")
            let (count, one) = try await tx.pipeline(
                PostgresQuery("SELECT count(*) FROM \(identifier: table)").as(Int.self),
                PostgresQuery("SELECT 1::int8").as(Int.self))
            #expect(try count.one() == 2)
            #expect(try one.one() == 1)
        }
        await #expect(throws: OutOfStock()) {
            try await db.transaction { tx in
                try await tx.script("INSERT INTO \(identifier: table) VALUES (3)")
                throw OutOfStock()
            }
        }
        #expect(try await numbers(db, table) == [1, 2])
    }

    // A stream that is not read to its end lies before COMMIT.
    @Test func aStreamLeftOpenDoesNotHoldUpTheCommit() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        try await db.transaction { tx in
            try await tx.execute(insert(1, table))
            for try await number in try await tx.stream("SELECT generate_series(1, 300000)::int8", as: Int.self) {
                if number == 10 { break }
            }
        }
        #expect(try await numbers(db, table) == [1])
    }

    @Test func aLostStatementDoesNotKeepATransactionFromBeginning() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        for _ in 0..<3 {
            // The second time BEGIN is known by its name, which is what the server forgets.
            for _ in 0..<2 { try await db.transaction { try await $0.execute(insert(1, table)) } }
            try await db.execute("DEALLOCATE ALL")
        }
        #expect(try await numbers(db, table).count == 6)
    }
}

/// The body is the caller's: its actor's state, captures and results that are not Sendable.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct TransactionIsolationTests {
    final class Report { var lines: [String] = [] }

    actor Shop {
        let db: PostgresConnection
        var cache: [Int] = []

        init(_ db: PostgresConnection) { self.db = db }

        func buy(_ item: Int) async throws -> Int {
            let report = Report()
            let (left, sameReport) = try await db.transaction { tx in
                self.assertIsolated()
                let left = try await tx.query("SELECT \(item)::int8", as: Int.self).one()
                cache.append(left)
                report.lines.append("outer")
                try await tx.transaction { _ in
                    self.assertIsolated()
                    report.lines.append("inner")
                }
                self.assertIsolated()
                return (left, report)
            }
            #expect(sameReport.lines == ["outer", "inner"])
            return left
        }
    }

    @Test func theStateOfAnActorIsAtHand() async throws {
        let shop = Shop(try await connect())
        let left = try await shop.buy(3)
        #expect(left == 3)
        #expect(await shop.cache == [3])
    }

    @Test @MainActor func resultsNeedNotBeSendable() async throws {
        let db = try await connect()
        let outer = Report()
        let made = try await db.transaction { tx in
            MainActor.assertIsolated()
            outer.lines.append("began")
            let report = Report()
            report.lines.append(try await tx.query("SELECT 'made'", as: String.self).one())
            return report
        }
        MainActor.assertIsolated()
        #expect(outer.lines + made.lines == ["began", "made"])
    }
}
