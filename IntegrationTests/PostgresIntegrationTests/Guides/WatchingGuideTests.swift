import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct WatchingGuideTests {
    @Test func itsCodeRuns() async throws {
        var configuration = try await guideDatabase(try Guide("FirstUpsert").sql[0])
        let printed = Printed()
        func print(_ items: Any...) { printed.add(items) }

        // GUIDE: observer
        let metrics = UpsertMetrics()
        configuration.observer = metrics
        let client = PostgresClient(configuration)
        // GUIDE end
        for number in 1...3 { try await client.upsert(PageStats.count(PageStats(path: "/\(number)", hits: 1))) }

        // GUIDE: alerts
        var thresholds = UpsertAlertThresholds()
        thresholds.baseline = 1200  // upserts a second on a usual day
        let window = metrics.nextWindow()
        for alert in thresholds.alerts(window, pool: client.statistics) {
            print(alert.severity, alert.kind, alert.message)
        }
        print(window.throughput, window.upserts.duration.percentile(0.99), window.upserts.errors)
        // GUIDE end
        #expect(window.upserts.operations == 3)
        #expect(printed.lines.last?.hasSuffix("[:]") == true)
        let kinds = Set(try Guide("Watching").text.matches(of: /\n\| `(\w+)` \|/).map { "\($0.1)" })
        #expect(kinds == Set(UpsertAlert.Kind.allCases.map(\.rawValue)))

        let db = client
        // GUIDE: queries
        let keys = try await db.keyCount(of: PageStats.self, expected: 3)
        if let problem = keys.problem { print(problem) }
        for wait in try await db.lockWaits(on: PageStats.self) {
            print(wait.pid, wait.blockedBy, wait.running, wait.sql)
        }
        if let statements = try await db.statementStatistics(of: PageStats.self) {
            for statement in statements { print(statement.calls, statement.meanTime, statement.sql) }
        }
        // GUIDE end
        #expect(keys.problem == nil)
        #expect(keys.rows == 3)

        try await db.execute("ALTER TABLE page_stats DROP CONSTRAINT page_stats_pkey")
        // GUIDE: check
        for difference in try await db.check(PageStats.self) { print(difference) }
        // GUIDE end
        #expect(printed.lines.last?.contains("ADD PRIMARY KEY (\"path\")") == true)
        await client.shutdown()
    }
}
