import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct ManyRowsGuideTests {
    // GUIDE: profile
    struct Profile: PostgresTable {
        var id: Int
        var name: UpsertField<String?>
        var plan: UpsertField<String>

        static let table = Table<Self>("profiles", init: Self.init(id:name:plan:)) {
            Column("id", \.id, .primaryKey)
            Column("name", \.name)
            Column("plan", \.plan)
        }
    }
    // GUIDE end

    @Test func itsCodeRuns() async throws {
        let sql = try Guide("ManyRows").sql
        try #require(sql.count == 2)
        let db = try await PostgresConnection.connect(
            try await guideDatabase(try Guide("FirstUpsert").sql[0], sql[1]))
        defer { db.close() }
        try await db.execute("ALTER TABLE page_stats ADD CONSTRAINT counted CHECK (hits < 1000)")
        let printed = Printed()
        func print(_ items: Any...) { printed.add(items) }

        var pages = (1...3).map { PageStats(path: "/\($0)", hits: $0) }
        expect(sql[0], is: PageStats.count.rows(pages).sql)
        // GUIDE: batch
        try await db.upsert(pages)  // overwrites
        try await db.upsert(PageStats.count.rows(pages))  // counts
        let results = try await db.upsert(PageStats.count.rows(pages).outcomes().returning(\.hits))
        for (page, result) in zip(pages, results) { print(page.path, result.outcome, result.returned ?? 0) }
        // GUIDE end
        #expect(printed.lines == ["/1 updated 3", "/2 updated 6", "/3 updated 9"])

        // GUIDE: duplicates
        let merging = PageStats.count.duplicates(
            .merge { earlier, later in PageStats(path: earlier.path, hits: earlier.hits + later.hits) })
        try await db.upsert(merging.rows(pages + pages))
        // GUIDE end
        let hits = try await db.query("SELECT hits FROM page_stats ORDER BY path", as: Int.self).all()
        #expect(hits == [5, 10, 15])

        pages[1].hits = 1000
        // GUIDE: isolation
        let report = try await db.upsert(Upsert(pages), isolation: .row)
        for failure in report.failures { print(failure.rows, failure.error.code) }
        // GUIDE end
        #expect(printed.lines.last == "[1] \(PostgresError.Code.checkViolation)")
        #expect(report.affected == 2)

        pages = (0..<600).map { PageStats(path: "/stream/\($0)", hits: $0 == 599 ? 1000 : 1) }
        let (source, continuation) = AsyncStream.makeStream(of: PageStats.self)
        for page in pages { continuation.yield(page) }
        continuation.finish()
        // GUIDE: stream
        do {
            try await db.upsert(PageStats.count.chunks(rows: 10_000), from: source) { progress in print(progress.rows) }
        } catch {
            print("\(error.progress.rows) rows are in; of \(error.doubtful ?? 0..<0) it is not known: \(error.cause)")
        }
        // GUIDE end
        #expect(printed.lines.contains("256"))
        #expect(printed.lines.last?.hasPrefix("256 rows are in; of 0..<0") == true)

        for _ in 0..<2 {
            // GUIDE: uneven
            try await db.upsert([
                Profile(id: 1, name: .value("Ada"), plan: .absent),  // inserted: plan 'free'. Updated: plan stays
                Profile(id: 2, name: .value(nil), plan: .value("pro")),  // name becomes NULL
            ])
            // GUIDE end
            let plans = try await db.query("SELECT plan FROM profiles ORDER BY id", as: String.self).all()
            #expect(plans == [plans.first == "free" ? "free" : "gold", "pro"])
            try await db.execute("UPDATE profiles SET plan = 'gold' WHERE id = 1")
        }
        let plan = try await db.query("SELECT plan FROM profiles WHERE id = 1", as: String.self).one()
        #expect(plan == "gold")
    }
}
