import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

private struct Document: PostgresTable, Equatable {
    var id: Int
    var body: String
    var version: Int32

    static let table = Table<Self>("versioned_documents", init: Self.init(id:body:version:)) {
        Column("id", \.id, .primaryKey)
        Column("body", \.body)
        Column("version", \.version)
    }

    static let save = upsert.version(\.version)
}

/// A row that somebody writes just when it has been read.
private struct Overtaken: PostgresTable, Equatable {
    var id: Int
    var body: String
    var version: Int32

    static let table = Table<Self>("overtaken_documents", init: Self.init(id:body:version:)) {
        Column("id", \.id, .primaryKey)
        Column("body", \.body)
        Column("version", \.version)
    }
}

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct VersionedUpsertTests {
    private func table() async throws -> PostgresConnection {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS versioned_documents")
        try await db.execute(
            "CREATE TABLE versioned_documents (id int8 PRIMARY KEY, body text NOT NULL, version int4 NOT NULL)")
        return db
    }

    @Test func aVersionGoesUpWithEachUpdate() async throws {
        let db = try await table()
        defer { db.close() }
        var document = Document(id: 1, body: "a", version: 1)
        for expected: Int32 in 1...3 {
            document.version = try await db.upsert(Document.save(document))
            #expect(document.version == expected)
        }
    }

    @Test func whoComesSecondIsToldWithTheRowAsItIs() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.upsert(Document.save(Document(id: 1, body: "a", version: 1)))
        try await db.upsert(Document.save(Document(id: 1, body: "b", version: 1)))
        let error = await failure { try await db.upsert(Document.save(Document(id: 1, body: "c", version: 1))) }
        #expect(error?.code == .staleVersion)
        #expect(error?.outcome == .rejected)
        #expect(error?.message.contains("is version 2; this one is of version 1") == true)
        let stale = error?.underlying as? UpsertStaleVersion<Document>
        #expect(stale?.current == Document(id: 1, body: "b", version: 2))
        let stored = try await db.query("SELECT body FROM versioned_documents", as: String.self).all()
        #expect(stored == ["b"])
    }

    @Test func concurrentEditsAreAllKept() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.upsert(Document.save(Document(id: 1, body: "", version: 0)))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<8 {
                let db = try await connect()
                group.addTask {
                    defer { db.close() }
                    for _ in 0..<10 {
                        let mine = Document(id: 1, body: "\(number)", version: -1)
                        try await db.upsert(
                            Document.save(mine), retry: .upTo(1000, base: .milliseconds(1), cap: .milliseconds(20))
                        ) { current, _ in Document(id: 1, body: current.body + "\(number)", version: 0) }
                    }
                }
            }
            try await group.waitForAll()
        }
        let (body, version) = try await db.query(
            "SELECT body, version FROM versioned_documents", as: (String, Int32).self
        ).one()
        #expect(body.count == 80)
        for number in 0..<8 { #expect(body.filter { String($0) == "\(number)" }.count == 10) }
        #expect(version == 80)
    }

    /// ON CONFLICT sees no rows of tables that inherit, so the stored row is none of them.
    @Test func theRowThatIsThereIsNoneOfATableThatInherits() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.script(
            """
            CREATE TABLE versioned_heirs (PRIMARY KEY (id)) INHERITS (versioned_documents);
            INSERT INTO versioned_heirs VALUES (1, 'an heir', 7);
            CREATE OR REPLACE FUNCTION suppress_document() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
            CREATE TRIGGER suppress BEFORE INSERT ON versioned_documents
                FOR EACH ROW EXECUTE FUNCTION suppress_document();
            """)
        let error = await failure { try await db.upsert(Document.save(Document(id: 1, body: "a", version: 7))) }
        try await db.execute("DROP TABLE versioned_heirs")
        #expect(error?.code == .staleVersion)
        let stale = error?.underlying as? UpsertStaleVersion<Document>
        #expect(stale != nil)
        #expect(stale?.current == nil)
    }

    /// Of a partitioned table, though, the partitions' rows are its own.
    @Test func theRowThatIsThereMayBeAPartitions() async throws {
        let db = try await connect()
        defer { db.close() }
        try await db.script(
            """
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS versioned_documents;
            CREATE TABLE versioned_documents (id int8 PRIMARY KEY, body text NOT NULL, version int4 NOT NULL)
                PARTITION BY HASH (id);
            CREATE TABLE versioned_documents_0 PARTITION OF versioned_documents FOR VALUES WITH (MODULUS 1, REMAINDER 0);
            INSERT INTO versioned_documents VALUES (1, 'a', 3)
            """)
        let error = await failure { try await db.upsert(Document.save(Document(id: 1, body: "b", version: 2))) }
        let stale = error?.underlying as? UpsertStaleVersion<Document>
        #expect(stale?.current == Document(id: 1, body: "a", version: 3))
    }

    @Test func attemptsAndTimeHaveAnEnd() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.upsert(Document.save(Document(id: 1, body: "a", version: 5)))
        var resolved = 0
        // Somebody is always quicker.
        func overtake(_ current: Document, _ mine: Document) async throws -> Document {
            resolved += 1
            try await db.upsert(Document.save(current))
            return mine
        }
        let stale = Document.save(Document(id: 1, body: "b", version: 0))
        let error = await failure {
            try await db.upsert(stale, retry: .upTo(4, base: .nanoseconds(1)), resolve: overtake)
        }
        #expect(error?.code == .staleVersion)
        #expect(resolved == 3)
        let late = await failure {
            try await db.upsert(stale, retry: .upTo(1000, base: .nanoseconds(1)), within: .zero, resolve: overtake)
        }
        #expect(late?.code == .staleVersion)
        #expect(resolved == 3)
    }

    @Test func theRowThatIsThereIsTheOneOfThePartialIndex() async throws {
        let db = try await connect()
        defer { db.close() }
        try await db.execute("DROP TABLE IF EXISTS versioned_documents")
        try await db.execute(
            "CREATE TABLE versioned_documents (id int8, body text NOT NULL, version int4 NOT NULL)")
        try await db.execute("CREATE UNIQUE INDEX ON versioned_documents (id) WHERE body <> 'closed'")
        try await db.execute("INSERT INTO versioned_documents VALUES (1, 'closed', 90), (1, 'open', 4)")
        let save = Document.upsert.onConflict(\.id, where: "body <> 'closed'").version(\.version)
        let error = await failure { try await db.upsert(save(Document(id: 1, body: "mine", version: 3))) }
        let current = (error?.underlying as? UpsertStaleVersion<Document>)?.current
        #expect(current == Document(id: 1, body: "open", version: 4))
        let stored = try await db.upsert(save(Document(id: 1, body: "mine", version: 3)), retry: .upTo(2)) {
            current, mine in Document(id: 1, body: current.body + mine.body, version: 0)
        }
        #expect(stored == 5)
    }

    @Test func anUpsertWithoutARowIsRefused() async throws {
        let db = try await table()
        defer { db.close() }
        let error = await failure { try await db.upsert(Document.save) }
        #expect(error?.outcome == .notSent)
    }

    /// A row of version 5, and a view of it: whoever reads that first is overtaken by a statement.
    private func overtaken(by statement: String) async throws -> PostgresConnection {
        let db = try await connect()
        _ = try await db.script(
            """
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS overtaken_rows CASCADE;
            DROP SEQUENCE IF EXISTS overtakers;
            CREATE SEQUENCE overtakers;
            CREATE TABLE overtaken_rows (id int8 PRIMARY KEY, body text NOT NULL, version int4 NOT NULL);
            INSERT INTO overtaken_rows VALUES (1, 'a', 5);
            CREATE OR REPLACE FUNCTION overtake() RETURNS bool LANGUAGE plpgsql AS $$
            BEGIN
                IF current_query() LIKE 'SELECT%' AND nextval('overtakers') = 1 THEN \(unsafeSQL: statement); END IF;
                RETURN true;
            END $$;
            CREATE VIEW overtaken_documents AS SELECT id, body, version FROM overtaken_rows WHERE overtake();
            """)
        return db
    }

    /// A pause lasts longer than the time between two writes of a hot key: what was read before it is stale.
    @Test func theRowIsReadBehindThePause() async throws {
        let db = try await overtaken(by: "UPDATE overtaken_rows SET body = 'b', version = version + 1")
        defer { db.close() }
        var seen: [Overtaken] = []
        let mine = Overtaken(id: 1, body: "c", version: 4)
        let version = try await db.upsert(
            Overtaken.upsert.version(\.version)(mine), retry: .upTo(2, base: .nanoseconds(1))
        ) { current, mine in
            seen.append(current)
            return mine
        }
        #expect(version == 7)
        #expect(seen == [Overtaken(id: 1, body: "b", version: 6)])
    }

    @Test func aRowThatIsDeletedDuringThePauseIsInsertedAgain() async throws {
        let db = try await overtaken(by: "DELETE FROM overtaken_rows")
        defer { db.close() }
        let mine = Overtaken(id: 1, body: "c", version: 4)
        let version = try await db.upsert(
            Overtaken.upsert.version(\.version)(mine), retry: .upTo(2, base: .nanoseconds(1))
        ) { _, mine in
            Issue.record("there is nothing to resolve")
            return mine
        }
        #expect(version == 4)
    }

    @Test func aRowOfTheRightVersionThatIsNotWrittenIsNotStale() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.upsert(Document.save(Document(id: 1, body: "locked", version: 3)))
        let guarded = Document.upsert.where { $0.existing.body != .value("locked") }.version(\.version)
        let refused = await failure { try await db.upsert(guarded(Document(id: 1, body: "b", version: 3))) }
        #expect(refused?.code == .notWritten)
        #expect(refused?.outcome == .rejected)
        #expect(refused?.message.contains("has the version of this one, 3, and was not overwritten") == true)
        let stale = await failure { try await db.upsert(guarded(Document(id: 1, body: "b", version: 2))) }
        #expect(stale?.code == .staleVersion)
        // To try again would change nothing.
        var resolved = 0
        let again = await failure {
            try await db.upsert(guarded(Document(id: 1, body: "b", version: 3)), retry: .upTo(5)) { _, mine in
                resolved += 1
                return mine
            }
        }
        #expect(again?.code == .notWritten)
        #expect(resolved == 0)

        _ = try await db.script(
            """
            CREATE OR REPLACE FUNCTION suppress_document() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
            CREATE TRIGGER suppress BEFORE UPDATE ON versioned_documents
                FOR EACH ROW EXECUTE FUNCTION suppress_document();
            """)
        let suppressed = await failure { try await db.upsert(Document.save(Document(id: 1, body: "b", version: 3))) }
        #expect(suppressed?.code == .notWritten)
    }
}
