import Postgres
import PostgresTesting
import PostgresUpsert
import Synchronization
import TestTurns
import Testing

private struct Entry: PostgresTable, Equatable {
    var key: String
    var n: Int
    var tags: [String]?

    static let table = Table<Self>("upsert_entries", init: Self.init(key:n:tags:)) {
        Column("key", \.key, .primaryKey)
        Column("n", \.n)
        Column("tags", \.tags)
    }

    static let bump = upsert.set(\.n) { $0.existing.n + $0.excluded.n }

    init(key: String, n: Int, tags: [String]? = nil) {
        self.key = key
        self.n = n
        self.tags = tags
    }
}

/// The same table without its array.
private struct Plain: PostgresTable {
    var key: String
    var n: Int

    static let table = Table<Self>("upsert_entries") {
        Column("key", \.key, .primaryKey)
        Column("n", \.n)
    }

    static let bump = upsert.set(\.n) { $0.existing.n + $0.excluded.n }
}

private struct Partial: PostgresTable {
    var key: String
    var n: UpsertField<Int?>

    static let table = Table<Self>("upsert_entries", init: Self.init(key:n:)) {
        Column("key", \.key, .primaryKey)
        Column("n", \.n)
    }
}

/// Cancels whoever has made a stage, when it is asked to.
private final class Canceller: PostgresObserver {
    private let isArmed = Atomic(false)

    var isAsked: Bool {
        get { isArmed.load(ordering: .relaxed) }
        set { isArmed.store(newValue, ordering: .relaxed) }
    }

    func ended(_ operation: PostgresOperation, _ result: PostgresOperation.Result, _ context: (any Sendable)?) {
        guard operation.sql?.hasPrefix("CREATE TEMPORARY TABLE") == true,
            isArmed.exchange(false, ordering: .relaxed)
        else { return }
        withUnsafeCurrentTask { $0?.cancel() }
    }
}

/// Many rows: how they travel, and what an error takes with it.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertBatchTests {
    private func entries(partitioned: Bool = false) async throws -> PostgresConnection {
        let db = try await connect()
        try await db.script("SET client_min_messages = warning; DROP TABLE IF EXISTS upsert_entries")
        let tail = partitioned ? "PARTITION BY HASH (key)" : ""
        try await db.execute(
            """
            CREATE TABLE upsert_entries (key text PRIMARY KEY, n int4 DEFAULT 7 CHECK (n <> 13), tags text[]) \
            \(unsafeSQL: tail)
            """)
        if partitioned {
            try await db.execute(
                "CREATE TABLE upsert_entries_0 PARTITION OF upsert_entries FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
        }
        try await db.prepareOutcomes(of: Entry.self)
        try await db.prepareOutcomes(of: Plain.self)
        return db
    }

    private func stored(_ db: some PostgresExecutor) async throws -> [String: Int?] {
        let rows = try await db.query("SELECT key, n FROM upsert_entries", as: (String, Int?).self).all()
        return Dictionary(uniqueKeysWithValues: rows)
    }

    @Test(arguments: [UpsertStrategy.automatic, .unnest, .values, .copy], [false, true])
    func u30EveryStrategyDoesTheSame(_ strategy: UpsertStrategy, _ partitioned: Bool) async throws {
        let db = try await entries(partitioned: partitioned)
        let rows = (0..<150).shuffled().map { Plain(key: "k\($0)", n: $0 + 100) }
        let known = rows.filter { $0.n % 3 == 0 }
        let bump = Plain.bump.strategy(strategy)
        #expect(try await db.upsert(bump.rows(known)) == known.count)
        let result = try await db.upsert(bump.rows(rows).returning(\.key, \.n).outcomes())
        #expect(result.outcomes == rows.map { $0.n % 3 == 0 ? .updated : .inserted })
        #expect(result.returned().map(\.0) == rows.map(\.key))
        #expect(result.returned().map(\.1) == rows.map { $0.n % 3 == 0 ? $0.n * 2 : $0.n })
        let filtered = try await db.upsert(bump.where { $0.excluded.n >= 200 }.rows(rows).outcomes())
        #expect(filtered.outcomes == rows.map { $0.n >= 200 ? .updated : .skipped })
        #expect(filtered.affected == rows.count { $0.n >= 200 })
        // In a transaction, twice.
        try await db.transaction { tx in
            try await tx.upsert(bump.rows(rows))
            try await tx.upsert(bump.rows(rows))
        }
        #expect(try await stored(db)["k0"] == 300)
        #expect(
            try await db.query("SELECT count(*) FROM pg_class WHERE relname = 'upsert_stage'", as: Int.self).one() == 0)
        db.close()
    }

    @Test func u30CopyTakesArraysAndRunsOnAPool() async throws {
        let db = try await entries()
        let server = try await PostgresEphemeralServer.shared()
        let pool = try PostgresClient(url: server.connectionURL(over: .unixSocket))
        let rows = [Entry(key: "b", n: 1, tags: ["x", "y"]), Entry(key: "a", n: 2, tags: nil)]
        #expect(try await pool.upsert(Upsert(rows).strategy(.copy)) == 2)
        let stored = try await db.query("SELECT * FROM upsert_entries ORDER BY n", as: Entry.self).all()
        #expect(stored == rows)
        // What the server refuses leaves nothing behind.
        let error = await failure {
            try await pool.upsert(Upsert([Entry(key: "c", n: 3), Entry(key: "d", n: 13)]).strategy(.copy))
        }
        #expect(error?.code == .checkViolation)
        #expect(try await db.query("SELECT count(*) FROM upsert_entries", as: Int.self).one() == 2)
        await pool.shutdown()
        db.close()
    }

    /// The transaction lives on, and its next rows need a stage of that name.
    @Test func u30AStageThatWasGivenUpIsGone() async throws {
        try await entries().close()
        let canceller = Canceller()
        let db = try await connect { $0.observer = canceller }
        defer { db.close() }
        let upsert = Plain.bump.strategy(.copy)
        try await db.transaction { tx in
            canceller.isAsked = true
            let givenUp = Task { try await tx.upsert(upsert.rows([Plain(key: "a", n: 1), Plain(key: "b", n: 1)])) }
            let error = await failure { try await givenUp.value }
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .notSent)
            #expect(!canceller.isAsked)
            try await tx.upsert(upsert.rows([Plain(key: "c", n: 3)]))
        }
        let stored = try await stored(db)
        #expect(stored == ["c": 3])
    }

    @Test func u30StagesOfOneTransactionDoNotCollide() async throws {
        let db = try await entries()
        defer { db.close() }
        let rows = (0..<40).map { Plain(key: "k\($0)", n: $0 + 100) }
        try await db.transaction { tx in
            try await withThrowingTaskGroup(of: Int.self) { group in
                for part in 0..<4 {
                    group.addTask {
                        try await tx.upsert(Plain.bump.strategy(.copy).rows(Array(rows[part * 10..<part * 10 + 10])))
                    }
                }
                for try await count in group { #expect(count == 10) }
            }
            // Their names are free again.
            try await tx.upsert(Plain.bump.strategy(.copy).rows(rows))
        }
        let expected = Dictionary(uniqueKeysWithValues: rows.map { ($0.key, $0.n * 2) })
        let stored = try await stored(db)
        #expect(stored == expected)
        let left = try await db.query(
            "SELECT count(*) FROM pg_class WHERE relname LIKE 'upsert_stage%'", as: Int.self
        ).one()
        #expect(left == 0)
    }

    @Test func u36ArraysGoInInBatches() async throws {
        let db = try await entries()
        let rows = (0..<70).shuffled().map { Entry(key: "k\($0)", n: $0 + 100, tags: ["\($0)", "t"]) }
        #expect(try await db.upsert(rows) == 70)
        let stored = try await db.query("SELECT * FROM upsert_entries ORDER BY n", as: Entry.self).all()
        #expect(stored == rows.sorted { $0.n < $1.n })
        let skipped = try await db.upsert(
            Upsert(rows + [Entry(key: "new", n: 0)]).doNothing().returning(\.tags).outcomes())
        #expect(skipped.outcomes == Array(repeating: .skipped, count: 70) + [.inserted])
        let merged = Entry.upsert.set(\.tags) { $0.existing.tags.appending($0.excluded.tags) }
        let both = try await db.upsert(merged.rows(rows).returning(\.tags).outcomes())
        #expect(both.outcomes.allSatisfy { $0 == .updated })
        #expect(both.returned() == rows.map { ($0.tags ?? []) + ($0.tags ?? []) })
        db.close()
    }

    @Test func u28DuplicatesGetTheOutcomeOfTheRowThatStandsForThem() async throws {
        let db = try await entries()
        try await db.upsert(Plain(key: "b", n: 1))
        let rows = ["b", "a", "b", "c", "a"].enumerated().map { Plain(key: $1, n: $0 + 20) }
        let sum = Plain.bump.duplicates(.merge { Plain(key: $0.key, n: $0.n + $1.n) })
        let result = try await db.upsert(sum.rows(rows).returning(\.n).outcomes())
        #expect(result.outcomes == [.updated, .inserted, .updated, .inserted, .inserted])
        #expect(result.returned() == [43, 45, 43, 23, 45])
        #expect(result.affected == 3)
        #expect(try await stored(db) == ["a": 45, "b": 43, "c": 23])
        db.close()
    }

    @Test(arguments: [false, true])
    func u31SeveralStatementsAreOneTransaction(_ isInTransaction: Bool) async throws {
        let db = try await entries()
        var rows = (0..<100).shuffled().map { Plain(key: "k\($0)", n: $0 + 100) }
        let chunks = Plain.bump.chunks(rows: 7)
        let before = db.statistics
        let result = try await db.upsert(chunks.rows(rows).returning(\.key).outcomes())
        #expect((db.statistics - before).roundTrips == 1)
        #expect(result.outcomes == Array(repeating: .inserted, count: 100))
        #expect(result.returned() == rows.map(\.key))
        #expect(try await db.upsert(chunks.rows(rows)) == 100)

        rows[50].n = 13
        let overwrite = Plain.upsert.chunks(rows: 7).rows(rows)
        let error: PostgresError?
        if isInTransaction {
            error = await failure { try await db.transaction { tx in try await tx.upsert(overwrite) } }
        } else {
            error = await failure { try await db.upsert(overwrite) }
        }
        #expect(error?.code == .checkViolation)
        // Nothing of the others took effect.
        #expect(try await stored(db)["k0"] == 200)
        #expect(try await db.query("SELECT sum(n) FROM upsert_entries", as: Int.self).one() == 29_900)
        db.close()
    }

    @Test(arguments: [UpsertIsolation.batch, .chunk, .row], [false, true])
    func u33AnErrorTakesNoMoreWithItThanItMay(_ isolation: UpsertIsolation, _ isInTransaction: Bool) async throws {
        let db = try await entries()
        var rows = (0..<40).map { Plain(key: "k\($0 + 10)", n: $0 + 100) }
        rows[25].n = 13
        rows[33].n = 13
        // Chunks of ten rows each, in the order of the keys: 20..<30 and 30..<40 fail.
        let upsert = Plain.bump.chunks(rows: 10).rows(rows).returning(\.n)
        func run() async throws -> UpsertReport<Int?> {
            if !isInTransaction { return try await db.upsert(upsert, isolation: isolation) }
            return try await db.transaction { tx in
                let report = try await tx.upsert(upsert, isolation: isolation)
                // The transaction goes on.
                try await tx.execute("INSERT INTO upsert_entries VALUES ('last', 1)")
                return report
            }
        }
        var failed: [[Int]] = []
        if isolation == .batch {
            let error = await failure { try await run() }
            #expect(error?.code == .checkViolation)
            #expect(try await stored(db).isEmpty)
        } else {
            let report = try await run()
            failed = report.failures.map(\.rows)
            #expect(failed == (isolation == .row ? [[25], [33]] : [Array(20..<30), Array(30..<40)]))
            #expect(report.failures.allSatisfy { $0.error.code == .checkViolation && $0.error.outcome == .rejected })
            let lost = Set(failed.flatMap { $0 })
            #expect(report.affected == 40 - lost.count)
            #expect(report.rows.map { $0 ?? nil } == rows.indices.map { lost.contains($0) ? nil : rows[$0].n })
            #expect(throws: PostgresError.self) { try report.check() }
            let kept = try await stored(db)
            #expect(kept.count == 40 - lost.count + (isInTransaction ? 1 : 0))
        }
        db.close()
    }

    @Test func u33RowsThatAskForNothingAreCounted() async throws {
        let db = try await entries()
        let report = try await db.upsert(Upsert([Plain(key: "a", n: 1), Plain(key: "b", n: 13)]), isolation: .row)
        #expect(report.affected == 1)
        #expect(report.rows.isEmpty)
        #expect(report.failures.map(\.rows) == [[1]])
        let none = try await db.upsert(Plain.upsert.rows([]), isolation: .row)
        #expect(none.affected == 0)
        db.close()
    }

    @Test func u32AbsentDiffersFromNull() async throws {
        let db = try await entries()
        try await db.script("INSERT INTO upsert_entries VALUES ('a', 1), ('b', 2)")
        let rows = [
            Partial(key: "new", n: .absent), Partial(key: "b", n: .absent), Partial(key: "a", n: .value(nil)),
            Partial(key: "null", n: .value(nil)), Partial(key: "five", n: .value(5)),
        ]
        let result = try await db.upsert(Upsert(rows).returning(\.n).outcomes())
        #expect(result.outcomes == [.inserted, .skipped, .updated, .inserted, .inserted])
        let values: [UpsertField<Int?>?] = [
            .some(.value(7)), nil, .some(.value(nil)), .some(.value(nil)), .some(.value(5)),
        ]
        #expect(result.map(\.returned) == values)
        #expect(try await stored(db) == ["new": 7, "a": nil, "b": 2, "null": nil, "five": 5])
        try await db.upsert(Partial(key: "five", n: .absent))
        #expect(try await stored(db)["five"] == 5)
        db.close()
    }

    // MARK: Streams

    private struct Broken: Error {}

    private func stream(_ rows: [Plain], breaksAt end: Int? = nil) -> AsyncThrowingStream<Plain, any Error> {
        AsyncThrowingStream { continuation in
            for (index, row) in rows.enumerated() {
                if index == end { return continuation.finish(throwing: Broken()) }
                continuation.yield(row)
            }
            continuation.finish()
        }
    }

    @Test func u43AStreamTellsHowFarItHasCome() async throws {
        let db = try await entries()
        let rows = (0..<1000).map { Plain(key: "k\($0)", n: $0 + 100) }
        var seen: [Int] = []
        let progress = try await db.upsert(Plain.bump.chunks(rows: 300), from: stream(rows)) { seen.append($0.rows) }
        #expect(seen == [256, 556, 856, 1000])
        #expect(progress.rows == 1000)
        #expect(progress.affected == 1000)
        #expect(progress.chunks == 4)
        #expect(try await stored(db).count == 1000)
        let none = try await db.upsert(Plain.bump, from: stream([]))
        #expect(none.rows == 0)
        db.close()
    }

    @Test func u43AStreamThatFailsGoesOnWhereItEnded() async throws {
        let db = try await entries()
        var rows = (0..<1000).map { Plain(key: "k\($0)", n: $0 + 100) }
        rows[700].n = 13
        let upsert = Plain.bump.chunks(rows: 200)
        let interrupted = await #expect(throws: UpsertInterrupted.self) {
            try await db.upsert(upsert, from: stream(rows))
        }
        let position = try #require(interrupted).progress.rows
        #expect(position == 600)
        #expect(interrupted?.doubtful == nil)
        #expect((interrupted?.cause as? PostgresError)?.code == .checkViolation)
        #expect(try await stored(db).count == 600)
        rows[700].n = 800
        try await db.upsert(upsert, from: stream(Array(rows[position...])))
        #expect(try await db.query("SELECT sum(n) FROM upsert_entries", as: Int.self).one() == 599_500)

        // What the sequence throws is the cause.
        let broken = await #expect(throws: UpsertInterrupted.self) {
            try await db.upsert(upsert, from: stream(rows, breaksAt: 250))
        }
        #expect(broken?.cause is Broken)
        #expect(broken?.progress.rows == 200)
        db.close()
    }

    @Test func u43OfALostConnectionTheLastChunkIsDoubtful() async throws {
        let db = try await entries()
        let other = try await connect()
        let process = try #require(db.backendProcessID)
        // The third chunk waits for a row that another holds, and is killed there.
        try await other.script("BEGIN; INSERT INTO upsert_entries VALUES ('k450', 0)")
        let rows = (0..<1000).map { Plain(key: "k\($0)", n: $0 + 100) }
        let upsert = Plain.bump.chunks(rows: 200)
        async let interrupted = #expect(throws: UpsertInterrupted.self) {
            try await db.upsert(upsert, from: stream(rows))
        }
        try await eventually("the stream does not wait") {
            try await other.query("SELECT count(*) FROM pg_locks WHERE pid = \(process) AND NOT granted", as: Int.self)
                .one() > 0
        }
        try await other.execute("SELECT pg_terminate_backend(\(process))")
        let error = await interrupted
        #expect(error?.progress.rows == 400)
        // The server may still have said that it ended the statement, or be gone without a word.
        let cause = error?.cause as? PostgresError
        #expect(error?.doubtful == (cause?.outcome == .unknown ? 400..<600 : nil))
        other.close()
    }

    /// The link is cut while the third chunk waits for a row that another holds: nobody says what became of it.
    @Test func u43OfACutConnectionTheLastChunkIsDoubtful() async throws {
        let other = try await entries()
        let proxy = try PostgresFaultProxy(to: try await PostgresEphemeralServer.shared())
        let db = try await PostgresConnection.connect(PostgresConfiguration(url: proxy.connectionURL()))
        let process = try #require(db.backendProcessID)
        try await other.script("BEGIN; INSERT INTO upsert_entries VALUES ('k450', 0)")
        let rows = (0..<1000).map { Plain(key: "k\($0)", n: $0 + 100) }
        async let interrupted = #expect(throws: UpsertInterrupted.self) {
            try await db.upsert(Plain.bump.chunks(rows: 200), from: stream(rows))
        }
        try await eventually("the stream does not wait") {
            try await other.query("SELECT count(*) FROM pg_locks WHERE pid = \(process) AND NOT granted", as: Int.self)
                .one() > 0
        }
        proxy.endConnections(.reset)
        let error = await interrupted
        #expect(error?.progress.rows == 400)
        #expect(error?.doubtful == 400..<600)
        #expect((error?.cause as? PostgresError)?.outcome == .unknown)
        try await other.script("ROLLBACK")
        other.close()
        await proxy.stop()
    }

    // MARK: Deadlocks

    enum Setting: CaseIterable { case plain, rows, never, transaction }

    /// One transaction holds b and wants a; the batch has a and wants b. The batch's connection is the one that looks for
    /// deadlocks, so it is the one that is given up.
    @Test(arguments: Setting.allCases)
    func u34ADeadlockIsRunAgainOutsideOfTransactions(_ setting: Setting) async throws {
        let db = try await entries()
        let other = try await connect()
        let gate = try await connect()
        try await db.script(
            """
            INSERT INTO upsert_entries VALUES ('a', 0), ('b', 0);
            CREATE OR REPLACE FUNCTION upsert_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.key = 'aa' THEN PERFORM pg_advisory_xact_lock_shared(7780); END IF; RETURN NEW; END $$;
            CREATE TRIGGER gate BEFORE INSERT ON upsert_entries FOR EACH ROW EXECUTE FUNCTION upsert_gate();
            SET deadlock_timeout = '5ms'
            """)
        try await other.script("SET deadlock_timeout = '1h'; BEGIN; UPDATE upsert_entries SET n = 1 WHERE key = 'b'")
        try await gate.execute("SELECT pg_advisory_lock(7780)")
        let rows = ["b", "aa", "a"].map { Plain(key: $0, n: 100) }
        let upsert = Plain.bump.rows(rows)
        let task = Task {
            switch setting {
            case .plain: return try await db.upsert(upsert)
            case .rows: return try await db.upsert(upsert.returning(\.n)).affected
            case .never: return try await db.upsert(upsert.retry(.never))
            case .transaction: return try await db.transaction { tx in try await tx.upsert(upsert) }
            }
        }
        func waits(_ db: PostgresConnection) async throws -> Bool {
            let process = db.backendProcessID ?? 0
            return try await gate.query(
                "SELECT count(*) FROM pg_locks WHERE pid = \(process) AND NOT granted", as: Int.self
            ).one() > 0
        }
        // It has a, and is held up before it goes on to b.
        try await eventually("the batch does not reach the gate") { try await waits(db) }
        let rival = Task { try await other.execute("UPDATE upsert_entries SET n = 1 WHERE key = 'a'") }
        try await eventually("the other transaction does not wait for a") { try await waits(other) }
        try await gate.execute("SELECT pg_advisory_unlock(7780)")
        _ = try await rival.value
        try await other.script("COMMIT")
        switch setting {
        case .plain, .rows:
            #expect(try await task.value == 3)
            #expect(try await stored(gate) == ["a": 101, "aa": 100, "b": 101])
        case .never, .transaction:
            let error = await failure { try await task.value }
            #expect(error?.code == .deadlockDetected)
            #expect(try await stored(gate) == ["a": 1, "b": 1])
        }
        for connection in [db, other, gate] { connection.close() }
    }

    @Test func u34ABeginOfTheUsersOwnIsNotSpokenFor() async throws {
        let db = try await entries()
        try await db.upsert(Plain(key: "a", n: 1))
        try await db.script("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM upsert_entries")
        let other = try await connect()
        try await other.upsert(Plain(key: "a", n: 2))
        // Given up, and the transaction with it: what is told is the conflict, not that the second attempt found it failed.
        let error = await failure { try await db.upsert([Plain(key: "a", n: 3), Plain(key: "b", n: 3)]) }
        #expect(error?.code == .serializationFailure)
        try await db.script("ROLLBACK")
        other.close()
        db.close()
    }
}
