import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct SequencesGuideTests {
    // GUIDE: tag
    struct Tag: PostgresTable {
        var id: Int32 = 0
        var name: String
        var uses: Int

        static let table = Table<Self>("tags", init: Self.init(id:name:uses:)) {
            Column("id", \.id, .identity)
            Column("name", \.name)
            Column("uses", \.uses)
        }
        static let use = upsert.onConflict(\.name).set(\.uses) { $0.existing.uses + $0.excluded.uses }
        static let useAgain = use.updateFirst()
    }
    // GUIDE end

    @Test func itsCodeRuns() async throws {
        let sql = try Guide("Sequences").sql
        try #require(sql.count == 4)
        let db = try await PostgresConnection.connect(try await guideDatabase(sql[0]))
        defer { db.close() }
        func last() async throws -> Int {
            try await db.query("SELECT last_value FROM tags_id_seq", as: Int.self).one()
        }

        // GUIDE: gaps
        for _ in 1...10 { try await db.upsert(Tag.use(Tag(name: "swift", uses: 1))) }
        try await db.upsert(Tag.use(Tag(name: "sql", uses: 1)))  // gets id 11
        // GUIDE end
        let ids = try await db.query("SELECT id FROM tags ORDER BY id", as: Int.self).all()
        #expect(ids == [1, 11])
        let (name, percent) = try await db.query(
            "SELECT sequencename, percent::float8 FROM (\(unsafeSQL: sql[1].replacing(";", with: ""))) AS s",
            as: (String, Double).self
        ).one()
        #expect(name == "tags_id_seq")
        #expect(percent == 0)

        // GUIDE: update first
        for _ in 1...10 { try await db.upsert(Tag.useAgain(Tag(name: "swift", uses: 1))) }
        // GUIDE end
        expect(sql[3], is: Tag.useAgain.sql)
        let afterwards = try await last()
        #expect(afterwards == 11)
        try await db.execute("SELECT setval('tags_id_seq', 2147483647)")
        let exhausted = await failure { try await db.upsert(Tag.use(Tag(name: "swift", uses: 1))) }
        #expect(exhausted?.sqlState == "2200H")
        // The identity column's sequence follows its type.
        try await run(sql[2], db)
        try await db.upsert(Tag.use(Tag(name: "swift", uses: 1)))
        let beyond = try await last()
        #expect(beyond == 2_147_483_648)
    }
}
