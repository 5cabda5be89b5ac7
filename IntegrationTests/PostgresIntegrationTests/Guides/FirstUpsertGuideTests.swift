import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

// GUIDE: declaration
struct PageStats: PostgresTable {
    var path: String
    var hits: Int
    var fetchedAt: PostgresTimestamp?

    static let table = Table<Self>("page_stats", init: Self.init(path:hits:fetchedAt:)) {
        Column("path", \.path, .primaryKey)
        Column("hits", \.hits)
        Column("fetched_at", \.fetchedAt, .updatedAt)
    }
}
// GUIDE end

// GUIDE: modifiers
extension PageStats {
    static let count = upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }
    static let best = upsert.set(\.hits) { .greatest($0.existing.hits, $0.excluded.hits) }
    static let raise = upsert.where { $0.excluded.hits > $0.existing.hits }
    static let change = upsert.ifChanged()
}
// GUIDE end

// GUIDE: declaration of one row
struct AuthToken: PostgresTable {
    var id = 1
    var token: String
    var fetchedAt: PostgresTimestamp?

    static let table = Table<Self>("auth_token", init: Self.init(id:token:fetchedAt:)) {
        Column("id", \.id, .primaryKey)
        Column("token", \.token)
        Column("fetched_at", \.fetchedAt, .updatedAt)
    }
}
// GUIDE end

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct FirstUpsertGuideTests {
    @Test func itsCodeRuns() async throws {
        let sql = try Guide("FirstUpsert").sql
        try #require(sql.count == 9)
        var configuration = try await guideDatabase(
            sql[0],
            "ALTER TABLE page_stats ADD CONSTRAINT counted CHECK (hits >= 0); CREATE TABLE visits (path text NOT NULL)")
        let last = LastSQL()
        configuration.observer = last
        let db = try await PostgresConnection.connect(configuration)
        defer { db.close() }
        let printed = Printed()
        func print(_ items: Any...) { printed.add(items) }

        // GUIDE: one
        try await db.upsert(PageStats(path: "/home", hits: 1))
        // GUIDE end
        expect(sql[1], is: last.sql)

        let page = PageStats(path: "/home", hits: 1)
        // GUIDE: results
        let written = try await db.upsert(PageStats.count(page))  // 1
        let outcome = try await db.upsert(PageStats.count(page).outcomes()).one()  // .updated
        let hits = try await db.upsert(PageStats.count(page).returning(\.hits)).one()
        let both = try await db.upsert(PageStats.change(page).outcomes().returning(\.hits)).one()
        // GUIDE end
        #expect(written == 1)
        #expect(outcome == .updated)
        #expect(hits == 4)
        #expect(both == UpsertedRow(outcome: .updated, returned: 1))
        for (shown, upsert) in zip(sql[2...], [PageStats.count, PageStats.best, PageStats.raise, PageStats.change]) {
            try await db.upsert(upsert(page))
            expect(shown, is: last.sql)
        }

        let other = PageStats(path: "/other", hits: 1)
        // GUIDE: wherever
        try await db.transaction { tx in
            try await tx.upsert(PageStats.count(page))
            try await tx.execute("INSERT INTO visits (path) VALUES (\(page.path))")
        }
        let (first, second) = try await db.pipeline(.atomic, PageStats.count(page).query, PageStats.count(other).query)
        try await db.upsert(into: "page_stats", key: ("path", "/about"), set: ("hits", 1))
        // GUIDE end
        expect(sql[6], is: last.sql)
        #expect(try first.affected + second.affected == 2)

        try await run(sql[7], db)
        // GUIDE: one row
        try await db.upsert(singleRowOf: "auth_token", set: ("token", "s3cret"))
        // GUIDE end
        expect(sql[8], is: last.sql)
        // GUIDE: declared one row
        try await db.upsert(AuthToken(token: "n3w"))
        // GUIDE end
        expect(sql[8], is: last.sql)
        let token = try await db.query("SELECT token FROM auth_token", as: String.self).one()
        #expect(token == "n3w")

        // GUIDE: failure
        do {
            try await db.upsert(PageStats(path: "/home", hits: -1))
        } catch {
            print(error.code, error.constraint ?? "", error.outcome)  // checkViolation, the check's name, rejected
        }
        // GUIDE end
        #expect(printed.lines == ["\(PostgresError.Code.checkViolation) counted rejected"])
    }
}
