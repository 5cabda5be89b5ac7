import Postgres
import PostgresTesting
import PostgresUpsert
import Synchronization
import TestTurns
import Testing

private struct Tally: PostgresTable {
    var key: String
    var hits: Int

    static let table = Table<Self>("proof_tallies") {
        Column("key", \.key, .primaryKey)
        Column("hits", \.hits)
    }

    static let bump = upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }
}

private struct Account: PostgresTable {
    var email: String
    var name: String?
    var logins: Int

    static let table = Table<Self>("proof_accounts") {
        Column("email", \.email, .primaryKey)
        Column("name", \.name)
        Column("logins", \.logins)
    }

    static let login = upsert.set(\.logins) { $0.existing.logins + $0.excluded.logins }
}

/// Sixteen tasks on sixteen connections, a thousand upserts of `hits = hits + 1` each, on five keys: the sum is exact, and no
/// error reaches a caller.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertProofTests {
    private static let tasks = 16
    private static let upserts = 1000
    private static let keys = 5

    private func table() async throws -> PostgresConnection {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS proof_tallies")
        try await db.execute("CREATE TABLE proof_tallies (key text PRIMARY KEY, hits int8 NOT NULL)")
        return db
    }

    private func key(_ number: Int) -> String { "key \(number % Self.keys)" }

    private func expectExact(_ db: PostgresConnection) async throws {
        let hits = try await db.query("SELECT hits FROM proof_tallies", as: Int.self).all()
        #expect(hits == Array(repeating: Self.tasks * Self.upserts / Self.keys, count: Self.keys))
    }

    private func together(
        _ count: Int = tasks, _ work: @escaping @Sendable (Int, PostgresConnection) async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<count {
                let db = try await connect()
                group.addTask {
                    defer { db.close() }
                    try await work(task, db)
                }
            }
            try await group.waitForAll()
        }
    }

    @Test func oneByOne() async throws {
        let db = try await table()
        defer { db.close() }
        try await together { task, db in
            for number in 0..<Self.upserts { try await db.upsert(Tally.bump(Tally(key: key(task + number), hits: 1))) }
        }
        try await expectExact(db)
    }

    @Test(arguments: [UpsertStrategy.unnest, .values])
    func inBatchesOfRandomOrder(_ strategy: UpsertStrategy) async throws {
        try await inBatches(of: Tally.bump.strategy(strategy))
    }

    @Test func inBatchesThatUpdateFirst() async throws { try await inBatches(of: Tally.bump.updateFirst()) }

    private func inBatches(of upsert: Upsert<Tally, Never>) async throws {
        let db = try await table()
        defer { db.close() }
        try await together { _, db in
            for _ in 0..<Self.upserts / Self.keys {
                let rows = (0..<Self.keys).shuffled().map { Tally(key: key($0), hits: 1) }
                try await db.upsert(upsert.rows(rows))
            }
        }
        try await expectExact(db)
    }

    @Test func byFunctionsOfTheDatabase() async throws {
        let db = try await table()
        defer { db.close() }
        let bump = try await db.install(UpsertFunction("proof_bump", Tally.bump))
        try await inBatches(of: bump)
    }

    @Test func stagedByCopy() async throws {
        let db = try await table()
        defer { db.close() }
        let bump = Tally.bump.strategy(.copy).duplicates(
            .merge { Tally(key: $0.key, hits: $0.hits + $1.hits) })
        // As many upserts in fewer batches: each makes a table.
        try await together { _, db in
            for _ in 0..<10 {
                let rows = (0..<Self.upserts / 10).shuffled().map { Tally(key: key($0), hits: 1) }
                try await db.upsert(bump.rows(rows))
            }
        }
        try await expectExact(db)
    }

    @Test(arguments: [PostgresPipeline.Sync.isolated, .savepoints, .atomic])
    func inPipelines(_ sync: PostgresPipeline.Sync) async throws {
        let db = try await table()
        defer { db.close() }
        try await together { task, db in
            for first in stride(from: 0, to: Self.upserts, by: 50) {
                var pipeline = PostgresPipeline(sync)
                // Within a transaction keys are locked until its end: all in one order.
                let numbers = (first..<first + 50).sorted { key($0) < key($1) }
                for number in numbers { pipeline.upsert(Tally.bump(Tally(key: key(number), hits: 1))) }
                try await db.run(pipeline).check()
            }
        }
        try await expectExact(db)
    }

    @Test func coalesced() async throws {
        let db = try await table()
        defer { db.close() }
        // A writer for each connection, and the tasks of one share it.
        try await together { task, db in
            let writer = UpsertWriter(db, Tally.bump)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for part in 0..<10 {
                    group.addTask {
                        for number in 0..<Self.upserts / 10 {
                            try await writer.upsert(Tally(key: key(task + part + number), hits: 1))
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        try await expectExact(db)
    }

    @Test(arguments: [PostgresTransaction.Isolation.repeatableRead, .serializable])
    func strictIsolationEndsInSuccessByRetry(_ isolation: PostgresTransaction.Isolation) async throws {
        let db = try await table()
        defer { db.close() }
        let runs = Atomic(0)
        try await together { task, db in
            for number in 0..<25 {
                try await db.transaction(isolation: isolation, retry: .upTo(1000)) { tx in
                    runs.add(1, ordering: .relaxed)
                    try await tx.upsert(Tally.bump(Tally(key: key(task + number), hits: 1)))
                }
            }
        }
        let sum = try await db.query("SELECT sum(hits)::int8 FROM proof_tallies", as: Int.self).one()
        #expect(sum == Self.tasks * 25)
        // Each of them sees a snapshot, so some had to run again.
        #expect(runs.load(ordering: .relaxed) > Self.tasks * 25)
    }

    /// By the upsert's own retry, in statements that are transactions of their own.
    @Test(arguments: ["repeatable read", "serializable"], [false, true])
    func batchesAtStrictIsolationEndInSuccess(_ isolation: String, _ byWriter: Bool) async throws {
        let db = try await table()
        defer { db.close() }
        let batches = 25
        try await together { task, db in
            try await db.execute("SET default_transaction_isolation = \(unsafeSQL: "'\(isolation)'")")
            let retry = PostgresTransaction.Retry.upTo(1000)
            let writer = UpsertWriter(db, Tally.bump, options: .init(retry: retry))
            for _ in 0..<batches {
                let rows = (0..<Self.keys).shuffled().map { Tally(key: key($0), hits: 1) }
                guard byWriter else {
                    try await db.upsert(Tally.bump.retry(retry).rows(rows))
                    continue
                }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for row in rows { group.addTask { try await writer.upsert(row) } }
                    try await group.waitForAll()
                }
            }
        }
        let hits = try await db.query("SELECT hits FROM proof_tallies", as: Int.self).all()
        #expect(hits == Array(repeating: Self.tasks * batches, count: Self.keys))
    }

    @Test func oneWriterOverAPool() async throws {
        let db = try await table()
        defer { db.close() }
        let server = try await PostgresEphemeralServer.shared()
        var options = PostgresClient.Options()
        options.maximumConnections = 8
        let pool = PostgresClient(
            try PostgresConfiguration(url: server.connectionURL(over: .unixSocket)), pool: options)
        let writer = UpsertWriter(pool, Tally.bump)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<Self.tasks {
                group.addTask {
                    for number in 0..<Self.upserts { try await writer.upsert(Tally(key: key(task + number), hits: 1)) }
                }
            }
            try await group.waitForAll()
        }
        try await expectExact(db)
        #expect(writer.statistics.rows == Self.tasks * Self.upserts)
        #expect(writer.statistics.failedRows == 0)
        await pool.shutdown()
    }

    @Test func insertsRacingDeletes() async throws {
        let written = try await racingDeletes { number, db in
            let outcome = try await db.upsert(Tally.bump(Tally(key: key(number), hits: 1)).outcomes()).one()
            #expect(outcome == .inserted || outcome == .updated)
            return 1
        }
        #expect(written == 12 * 200)
    }

    @Test func batchesRacingDeletes() async throws {
        let written = try await racingDeletes { _, db in
            let rows = (0..<Self.keys).shuffled().map { Tally(key: key($0), hits: 1) }
            let result = try await db.upsert(Tally.bump.rows(rows).outcomes())
            #expect(result.outcomes.allSatisfy { $0 == .inserted || $0 == .updated })
            return result.affected
        }
        #expect(written == 12 * 200 * Self.keys)
    }

    /// Of 16 tasks four delete, and the others write: what is left and what was deleted is what was written.
    ///
    /// - Returns: how many hits were written.
    private func racingDeletes(
        _ write: @escaping @Sendable (_ number: Int, PostgresConnection) async throws -> Int
    ) async throws -> Int {
        let db = try await table()
        defer { db.close() }
        let written = Atomic(0)
        let deleted = Atomic(0)
        try await together { task, db in
            for number in 0..<200 {
                if task % 4 == 0 {
                    let hits = try await db.query(
                        "DELETE FROM proof_tallies WHERE key = \(key(number)) RETURNING hits", as: Int.self
                    ).first()
                    deleted.add(hits ?? 0, ordering: .relaxed)
                } else {
                    written.add(try await write(number, db), ordering: .relaxed)
                }
            }
        }
        let left = try await db.query("SELECT coalesce(sum(hits), 0)::int8 FROM proof_tallies", as: Int.self).one()
        #expect(left + deleted.load(ordering: .relaxed) == written.load(ordering: .relaxed))
        return written.load(ordering: .relaxed)
    }

    /// Transactions that lock keys in opposite orders, which sorted batches never do: the server ends one of them, and it is run again.
    @Test func aDeadlockMadeOnPurposeIsRunAgain() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.upsert([Tally(key: "a", hits: 0), Tally(key: "b", hits: 0)])
        let runs = Atomic(0)
        let held = Atomic(0)
        try await together(2) { task, db in
            try await db.execute("SET deadlock_timeout = '50ms'")
            let keys = task == 0 ? ["a", "b"] : ["b", "a"]
            for _ in 0..<5 {
                try await db.transaction(retry: .upTo(50)) { tx in
                    runs.add(1, ordering: .relaxed)
                    for key in keys {
                        try await tx.upsert(Tally.bump(Tally(key: key, hits: 1)))
                        if key != keys[0] { continue }
                        held.add(1, ordering: .relaxed)
                        // The first time each goes on when the other has the other key.
                        await eventually("the other has no key") { held.load(ordering: .relaxed) >= 2 }
                    }
                }
            }
        }
        let hits = try await db.query("SELECT hits FROM proof_tallies ORDER BY key", as: Int.self).all()
        #expect(hits == [10, 10])
        #expect(runs.load(ordering: .relaxed) > 10)
    }

    // Which rows conflict

    private func accounts(_ indexes: PostgresQuery...) async throws -> PostgresConnection {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS proof_accounts")
        try await db.execute("CREATE TABLE proof_accounts (email text, name text, logins int8 NOT NULL)")
        for index in indexes { try await db.execute(index) }
        return db
    }

    @Test func ofTwoUniqueConstraintsTheOtherIsAnErrorThatNamesIt() async throws {
        let db = try await accounts(
            "ALTER TABLE proof_accounts ADD CONSTRAINT one_email UNIQUE (email)",
            "ALTER TABLE proof_accounts ADD CONSTRAINT one_name UNIQUE (name)")
        defer { db.close() }
        try await db.upsert(Account.login(Account(email: "a@x", name: "ann", logins: 1)))
        try await together { task, db in
            let mine = Account(email: "\(task)@x", name: "ann", logins: 1)
            let error = await failure { try await db.upsert(Account.login(mine)) }
            #expect(error?.code == .uniqueViolation)
            #expect(error?.constraint == "one_name")
            try await db.upsert(Account.login(Account(email: "a@x", name: "ann", logins: 1)))
        }
        let logins = try await db.query("SELECT logins FROM proof_accounts", as: Int.self).all()
        #expect(logins == [1 + Self.tasks])
    }

    @Test func u4APartialIndexConflictsWhereItsPredicateHolds() async throws {
        let db = try await accounts("CREATE UNIQUE INDEX ON proof_accounts (email) WHERE name IS NULL")
        defer { db.close() }
        let upsert = Account.login.onConflict(\.email, where: "name IS NULL")
        try await together { _, db in
            try await db.upsert(upsert(Account(email: "a@x", name: nil, logins: 1)))
            try await db.upsert(upsert(Account(email: "a@x", name: "named", logins: 1)))
        }
        let (unnamed, named) = try await db.query(
            """
            SELECT sum(logins) FILTER (WHERE name IS NULL)::int8, count(*) FILTER (WHERE name IS NOT NULL)
            FROM proof_accounts
            """, as: (Int, Int).self
        ).one()
        #expect(unnamed == Self.tasks)
        #expect(named == Self.tasks)
    }

    @Test func nullKeysConflictOnlyWhereTheIndexSaysSo() async throws {
        let byName = Account.login.onConflict(\.name)
        let distinct = try await accounts("CREATE UNIQUE INDEX ON proof_accounts (name)")
        try await together { _, db in try await db.upsert(byName(Account(email: "a@x", name: nil, logins: 1))) }
        let rows = try await distinct.query("SELECT count(*) FROM proof_accounts", as: Int.self).one()
        #expect(rows == Self.tasks)
        distinct.close()

        let equal = try await connect()
        defer { equal.close() }
        let version = try await equal.query("SELECT current_setting('server_version_num')::int8", as: Int.self).one()
        guard version >= 150_000 else { return }
        try await accounts("CREATE UNIQUE INDEX ON proof_accounts (name) NULLS NOT DISTINCT").close()
        try await together { _, db in try await db.upsert(byName(Account(email: "a@x", name: nil, logins: 1))) }
        let logins = try await equal.query("SELECT logins FROM proof_accounts", as: Int.self).all()
        #expect(logins == [Self.tasks])
    }
}
