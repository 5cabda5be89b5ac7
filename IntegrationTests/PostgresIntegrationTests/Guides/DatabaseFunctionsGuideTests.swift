import Foundation
import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct DatabaseFunctionsGuideTests {
    @Test func itsCodeRuns() async throws {
        let sql = try Guide("DatabaseFunctions").sql
        let db = try await PostgresConnection.connect(try await guideDatabase(try Guide("FirstUpsert").sql[0]))
        defer { db.close() }
        let page = PageStats(path: "/home", hits: 1)
        let pages = (1...3).map { PageStats(path: "/\($0)", hits: $0) }

        // GUIDE: install
        let function = UpsertFunction("count_page", PageStats.count)
        let count = try await db.install(function)
        try await db.upsert(count(page))
        try await db.upsert(count.rows(pages))
        // GUIDE end
        let rows = try await db.query("SELECT count(*) FROM page_stats", as: Int.self).one()
        #expect(rows == 4)
        try #require(sql.count == 2)
        // That of one row comes first.
        expect(sql[0], is: function.sql.components(separatedBy: ";\n\n").first)
        let written = try await db.query("\(unsafeSQL: sql[1])", as: Int.self).one()
        #expect(written == 1)
        let hits = try await db.query("SELECT hits FROM page_stats WHERE path = '/home'", as: Int.self).one()
        #expect(hits == 2)

        try await db.install(UpsertFunction("count_page", PageStats.best))
        // GUIDE: drop
        let dropped = try await db.dropStaleVersions(of: function)
        // GUIDE end
        #expect(dropped.count == 2)
    }
}
