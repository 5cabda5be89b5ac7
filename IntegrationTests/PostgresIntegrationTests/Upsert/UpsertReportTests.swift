import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

private struct Title: PostgresTable {
    var id: Int
    var title: String

    static let table = Table<Self>("report_titles") {
        Column("id", \.id, .primaryKey)
        Column("title", \.title)
    }
}

/// The same table, keyed by its text.
private struct Titled: PostgresTable {
    var title: String
    var id: Int

    static let table = Table<Self>("report_titles") {
        Column("title", \.title, .primaryKey)
        Column("id", \.id)
    }
}

/// The same table, with an array.
private struct Tagged: PostgresTable {
    var id: Int
    var title: String
    var tags: [String]?

    static let table = Table<Self>("report_titles") {
        Column("id", \.id, .primaryKey)
        Column("title", \.title)
        Column("tags", \.tags)
    }
}

/// What an error takes with it, and what it does not.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertReportTests {
    private func titles(_ constraints: String = "") async throws -> PostgresConnection {
        let db = try await connect()
        try await db.script(
            """
            SET client_min_messages = warning;
            DROP SCHEMA IF EXISTS report CASCADE;
            CREATE SCHEMA report;
            SET search_path = report;
            CREATE TABLE report_titles (id int8 PRIMARY KEY, title text UNIQUE, tags text[] \(unsafeSQL: constraints))
            """)
        return db
    }

    private func count(_ db: some PostgresExecutor) async throws -> Int {
        try await db.query("SELECT count(*) FROM report_titles", as: Int.self).one()
    }

    // What cannot be sent

    @Test(arguments: [false, true])
    func u33AValueThatCannotBeEncodedFailsItsOwnRow(_ isInTransaction: Bool) async throws {
        let db = try await titles()
        defer { db.close() }
        let rows = (0..<1000).map { Title(id: $0, title: $0 == 700 ? "a\0" : "t\($0)") }
        let report: UpsertReport<Never>
        if isInTransaction {
            report = try await db.transaction { tx in try await tx.upsert(Upsert(rows), isolation: .row) }
        } else {
            report = try await db.upsert(Upsert(rows), isolation: .row)
        }
        #expect(report.failures.map(\.rows) == [[700]])
        #expect(report.failures.first?.error.message.hasPrefix("row 700, column \"title\": ") == true)
        #expect(report.failures.first?.error.outcome == .notSent)
        #expect(report.affected == 999)
        #expect(try await count(db) == 999)
        let whole = await failure { try await db.upsert(Upsert(rows), isolation: .batch) }
        #expect(whole?.outcome == .notSent)
    }

    @Test(arguments: [false, true])
    func u33AValueThatCannotBeEncodedFailsItsChunk(_ asValues: Bool) async throws {
        let db = try await titles()
        defer { db.close() }
        func expectChunk<Output>(_ report: UpsertReport<Output>) async throws {
            #expect(report.failures.map(\.rows) == [Array(4..<8)])
            #expect(report.failures.first?.error.message.hasPrefix("row 5, column \"title\": ") == true)
            #expect(report.affected == 12)
            #expect(try await count(db) == 12)
        }
        let rows = (0..<16).map { Title(id: $0, title: $0 == 5 ? "\0" : "t\($0)") }
        if asValues {
            let tagged = Upsert(rows.map { Tagged(id: $0.id, title: $0.title, tags: ["x"]) })
            try await expectChunk(try await db.upsert(tagged.chunks(rows: 4).outcomes(), isolation: .chunk))
        } else {
            try await expectChunk(try await db.upsert(Upsert(rows).chunks(rows: 4), isolation: .chunk))
        }
    }

    @Test(arguments: [UpsertIsolation.chunk, .row])
    func u33AKeyThatCannotBeEncodedFailsItsOwnRow(_ isolation: UpsertIsolation) async throws {
        let db = try await titles()
        defer { db.close() }
        let rows = ["c", "b\0", "a", "d"].enumerated().map { Titled(title: $1, id: $0) }
        let report = try await db.upsert(Upsert(rows).outcomes(), isolation: isolation)
        #expect(report.failures.map(\.rows) == [[1]])
        #expect(report.failures.first?.error.message.hasPrefix("row 1, column \"title\": ") == true)
        #expect(report.rows == [.inserted, nil, .inserted, .inserted])
        // Two of one key are still found before anything is sent.
        let twice = await failure { try await db.upsert(Upsert(rows + [rows[0]]), isolation: isolation) }
        #expect(twice?.code == .duplicateKeys)
        let one = try await db.upsert(Upsert(rows[1]), isolation: isolation)
        #expect(one.failures.map(\.rows) == [[0]])
    }

    @Test func u30CopyIsRefusedWhereRowsCannotBeStaged() async throws {
        let db = try await titles()
        defer { db.close() }
        let upsert = Upsert([Title(id: 1, title: "a"), Title(id: 2, title: "b")]).strategy(.copy)
        let before = db.statistics.roundTrips
        let error = await failure { try await db.upsert(upsert, isolation: .row) }
        #expect(error?.code == .unsupported)
        #expect(error?.outcome == .notSent)
        #expect(await failure { try await db.query(upsert.query.query) }?.code == .unsupported)
        #expect(db.statistics.roundTrips == before)
        #expect(try await db.upsert(upsert) == 2)
    }

    // What was learnt of the table

    @Test(arguments: [UpsertIsolation.batch, .chunk, .row])
    func u24ATableOfAnotherKindIsNoticed(_ isolation: UpsertIsolation) async throws {
        let db = try await titles()
        defer { db.close() }
        func becomeView() async throws {
            try await db.prepareOutcomes(of: Title.self)
            try await db.script(
                """
                ALTER TABLE report_titles RENAME TO report_titles_base;
                CREATE VIEW report_titles AS SELECT * FROM report_titles_base
                """)
        }
        try await becomeView()
        let rows = (0..<10).map { Title(id: $0, title: "t\($0)") }
        let upsert = Upsert(rows).chunks(rows: 4).outcomes()
        let report = try await db.upsert(upsert, isolation: isolation)
        #expect(report.failures.isEmpty)
        #expect(report.rows == Array(repeating: .inserted, count: 10))
        #expect(report.affected == 10)

        // In a transaction it is told, and right the next time.
        try await db.script("DROP VIEW report_titles; ALTER TABLE report_titles_base RENAME TO report_titles")
        try await becomeView()
        func inTransaction() async throws -> UpsertReport<UpsertOutcome> {
            try await db.transaction { tx in try await tx.upsert(upsert, isolation: isolation) }
        }
        if isolation == .batch {
            #expect(await failure { try await inTransaction() }?.hint?.hasPrefix("run it again") == true)
        } else {
            let failures = try await inTransaction().failures
            #expect(failures.flatMap(\.rows).sorted() == Array(0..<10))
            #expect(failures.allSatisfy { $0.error.hint?.hasPrefix("run it again") == true })
        }
        let again = try await inTransaction()
        #expect(again.failures.isEmpty)
        #expect(again.rows == Array(repeating: .updated, count: 10))
    }

    // In the words of an upsert

    @Test func u8AMissingIndexIsToldWithThoseThatThereAreEverywhere() async throws {
        let db = try await titles()
        defer { db.close() }
        let upsert = Title.upsert.onConflict(\.id, \.title)
            .doNothing()
        let rows = [Title(id: 1, title: "a"), Title(id: 2, title: "b")]
        let report = try await db.upsert(upsert.rows(rows), isolation: .row)
        #expect(report.failures.count == 2)
        #expect(report.failures.allSatisfy { $0.error.message.contains("it has \"report_titles_pkey\" (id)") })
        let stream = AsyncStream<Title> { continuation in
            for row in rows { continuation.yield(row) }
            continuation.finish()
        }
        let interrupted = await #expect(throws: UpsertInterrupted.self) { try await db.upsert(upsert, from: stream) }
        let cause = interrupted?.cause as? PostgresError
        #expect(cause?.message.contains("it has \"report_titles_pkey\" (id)") == true)
    }

    /// Two errors of one code, which only the server's language tells apart.
    @Test func u7AConstraintWithoutAnIndexIsNoExclusionConstraint() async throws {
        let db = try await titles(
            ", CONSTRAINT positive CHECK (id >= 0), CONSTRAINT no_overlap EXCLUDE USING btree (title WITH =)")
        defer { db.close() }
        let row = Title(id: 1, title: "a")
        let check = await failure { try await db.upsert(Title.upsert.onConstraint("positive")(row)) }
        #expect(check?.message.contains("cannot conflict by the constraint \"positive\"") == true)
        let exclusion = await failure { try await db.upsert(Title.upsert.onConstraint("no_overlap")(row)) }
        #expect(
            exclusion?.message.contains("\"no_overlap\", by which the upsert conflicts, is an exclusion constraint")
                == true)
    }

    // Rows that a trigger suppresses

    private func suppressing() async throws -> PostgresConnection {
        let db = try await titles()
        try await db.script(
            """
            CREATE FUNCTION report_suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.title LIKE 'no%' THEN RETURN NULL; END IF; RETURN NEW; END $$;
            CREATE TRIGGER suppress BEFORE INSERT ON report_titles FOR EACH ROW EXECUTE FUNCTION report_suppress()
            """)
        return db
    }

    @Test func u44ARowThatATriggerSuppressesIsItsOwnCallersOnly() async throws {
        let db = try await suppressing()
        defer { db.close() }
        let writer = UpsertWriter(db, Title.upsert.outcomes())
        let outcomes = try await withThrowingTaskGroup(of: (Int, UpsertOutcome).self) { group in
            for id in 0..<100 {
                group.addTask {
                    (id, try await writer.upsert(Title(id: id, title: id % 10 == 3 ? "no \(id)" : "t\(id)")))
                }
            }
            return try await group.reduce(into: [Int: UpsertOutcome]()) { $0[$1.0] = $1.1 }
        }
        #expect(outcomes.count == 100)
        #expect(outcomes.allSatisfy { $0.value == ($0.key % 10 == 3 ? .notWritten : .inserted) })
        #expect(writer.statistics.rowsPerFlight.maximum > 1)
        #expect(try await count(db) == 90)
    }

    /// It is neither inserted nor found: an error of one row, and no batch that is in.
    @Test func u21ASingleRowThatIsNotFoundIsNoCommittedBatch() async throws {
        let db = try await suppressing()
        defer { db.close() }
        let upsert = Upsert(Title(id: 1, title: "no")).doSelect().outcomes()
        let error = await failure { try await db.upsert(upsert, isolation: .batch) }
        #expect(error?.message.contains("neither inserted nor found") == true)
        #expect(error?.message.contains("the batch is in") == false)
    }
}
