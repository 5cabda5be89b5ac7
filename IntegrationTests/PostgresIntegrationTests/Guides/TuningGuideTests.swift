import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct TuningGuideTests {
    @Test func itsCodeRuns() async throws {
        let sql = try Guide("Tuning").sql
        try #require(sql.count == 3)
        var configuration = try await guideDatabase(try Guide("FirstUpsert").sql[0], sql[1], sql[2])
        let db = try await PostgresConnection.connect(configuration)
        defer { db.close() }
        let pages = (1...3).map { PageStats(path: "/\($0)", hits: $0) }

        // GUIDE: commits
        try await db.transaction { tx in
            try await tx.execute("SET LOCAL synchronous_commit = off")
            try await tx.upsert(PageStats.count.rows(pages))
        }
        configuration.parameters["synchronous_commit"] = "off"
        // GUIDE end
        let other = try await PostgresConnection.connect(configuration)
        defer { other.close() }
        let setting = try await other.query("SELECT current_setting('synchronous_commit')", as: String.self).one()
        #expect(setting == "off")
        let statistics = try await other.query("\(unsafeSQL: sql[0])").all()
        #expect(statistics.count == 1)
        let options = try await other.query(
            "SELECT reloptions FROM pg_class WHERE relname = 'page_stats'", as: [String].self
        ).one()
        #expect(options.count == 3)
    }
}
