import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct OptimisticLockingGuideTests {
    // GUIDE: document
    struct Document: PostgresTable {
        var id: Int
        var body: String
        var version: Int32

        static let table = Table<Self>("documents", init: Self.init(id:body:version:)) {
            Column("id", \.id, .primaryKey)
            Column("body", \.body)
            Column("version", \.version)
        }
        static let save = upsert.version(\.version)
    }
    // GUIDE end

    @Test func itsCodeRuns() async throws {
        let sql = try Guide("OptimisticLocking").sql
        try #require(sql.count == 2)
        let db = try await PostgresConnection.connect(try await guideDatabase(sql[0]))
        defer { db.close() }
        let printed = Printed()
        func print(_ items: Any...) { printed.add(items) }

        // GUIDE: save
        var document = Document(id: 1, body: "draft", version: 1)
        document.version = try await db.upsert(Document.save(document))  // inserted with version 1
        document.body = "final"
        document.version = try await db.upsert(Document.save(document))  // 2
        // GUIDE end
        #expect(document.version == 2)
        expect(sql[1], is: Document.save.sql)

        // GUIDE: stale
        do {
            try await db.upsert(Document.save(Document(id: 1, body: "mine", version: 1)))
        } catch {
            let stale = error.underlying as? UpsertStaleVersion<Document>
            print(error.code == .staleVersion, stale?.current?.body ?? "deleted meanwhile")
        }
        // GUIDE end
        #expect(printed.lines == ["true final"])

        // GUIDE: retry
        let mine = Document(id: 1, body: "postscript", version: 1)
        let version = try await db.upsert(Document.save(mine), retry: .upTo(10), within: .seconds(5)) { current, mine in
            Document(id: current.id, body: current.body + "\n" + mine.body, version: current.version)
        }
        // GUIDE end
        #expect(version == 3)
        let body = try await db.query("SELECT body FROM documents", as: String.self).one()
        #expect(body == "final\npostscript")
    }
}
