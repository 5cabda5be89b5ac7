import Testing

@testable import Postgres
@testable import PostgresUpsert

@Suite struct UpsertMetricsTests {
    private func operation(_ kind: PostgresOperation.Kind, _ sql: String? = nil) -> PostgresOperation {
        PostgresOperation(
            kind: kind, sql: sql, statements: 1, server: "s", database: "d", user: "u", parameters: [])
    }

    private func result(
        _ duration: Duration = .milliseconds(1), _ code: PostgresError.Code? = nil, affected: Int = 1
    ) -> PostgresOperation.Result {
        PostgresOperation.Result(
            duration: duration, rows: 0, affected: affected,
            error: code.map { PostgresError(code: $0, message: "no", outcome: .rejected) }, roundTrips: 1)
    }

    private let upsert = PageStats.upsert.sql

    @Test(arguments: [
        ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", true),
        ("\n insert into t values (1) on\n conflict (a) do nothing", true),
        ("WITH x AS (INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING RETURNING a) SELECT * FROM x", true),
        (#"SELECT FROM "public"."bump_5d0c8a9b1f2e3d4c"($1, $2)"#, true),
        (#"SELECT * FROM "a"."b_rows_5d0c8a9b1f2e3d4c"($1) AS upsert_result("n")"#, true),
        (#"SELECT * FROM "a"."b_5d0c8a9b1f2e3d4"($1)"#, false), (#"SELECT "a_5d0c8a9b1f2e3d4c" FROM t"#, false),
        ("INSERT INTO t VALUES (1)", false), ("SELECT 1", false), ("UPDATE t SET a = 'on conflict'", false),
        ("WITH on_conflict AS (SELECT 1) SELECT 1 FROM a JOIN b ON conflict", false), ("", false),
    ])
    func whatIsAnUpsert(_ sql: String, _ isUpsert: Bool) {
        #expect(UpsertMetrics.isUpsert(sql) == isUpsert)
    }

    @Test func operationsAreCountedByKind() {
        let metrics = UpsertMetrics()
        metrics.ended(operation(.query, upsert), result(affected: 3), nil)
        metrics.ended(operation(.query, upsert), result(.zero, .uniqueViolation, affected: 0), nil)
        metrics.ended(operation(.query, "SELECT 1"), result(), nil)
        metrics.ended(operation(.pipeline), result(), nil)
        metrics.ended(operation(.acquire), result(.microseconds(3)), nil)
        metrics.ended(operation(.connect), result(.zero, .cannotConnect), nil)
        metrics.happened(.closed(.lost))
        let total = metrics.total
        #expect(total.upserts.operations == 2)
        #expect(total.upserts.affected == 3)
        #expect(total.upserts.failures == 1)
        #expect(total.upserts.duplicateKeys == 1)
        #expect(total.upserts.duration.count == 1)
        #expect(total.others.operations == 2)
        #expect(total.acquires.duration.sum == 3000)
        #expect(total.connects.errors == [.cannotConnect: 1])
        #expect(total.closes == [.lost: 1])
    }

    @Test func statementsOfPipelinesAreCountedOneByOne() {
        let metrics = UpsertMetrics()
        let row = PageStats(path: "a", hits: 1)
        var pipeline = PostgresPipeline()
        pipeline.add(PageStats.bump(row).query)
        pipeline.add("SELECT 1")
        pipeline.add(PageStats.upsert(row).query)
        let flight = PostgresOperation(
            kind: .pipeline, sql: nil, statements: 3, server: "s", database: "d", user: "u", parameters: [],
            items: pipeline.items)
        var ended = result(affected: 3)
        let duplicate = PostgresError(code: .uniqueViolation, message: "no", outcome: .rejected)
        ended.statements = [
            PostgresOperation.Result.Statement(rows: 0, affected: 2, error: nil),
            PostgresOperation.Result.Statement(rows: 1, affected: 1, error: nil),
            PostgresOperation.Result.Statement(rows: 0, affected: 0, error: duplicate),
        ]
        metrics.ended(flight, ended, nil)
        let first = metrics.nextWindow()
        #expect(first.upserts.operations == 2)
        #expect(first.upserts.affected == 2)
        #expect(first.upserts.duplicateKeys == 1)
        #expect(first.upserts.duration.count == 1)
        #expect(first.others.operations == 1)

        // Nothing of it was sent.
        metrics.ended(flight, result(.zero, .cannotConnect, affected: 0), nil)
        let second = metrics.nextWindow()
        #expect(second.upserts.errors == [.cannotConnect: 2])
        #expect(second.others.errors == [.cannotConnect: 1])
    }

    @Test func aWindowBeginsWhereTheLastEnded() {
        let metrics = UpsertMetrics()
        metrics.ended(operation(.query, upsert), result(), nil)
        let first = metrics.nextWindow()
        #expect(first.upserts.operations == 1)
        metrics.ended(operation(.query, upsert), result(), nil)
        metrics.ended(operation(.query, upsert), result(.zero, .deadlockDetected), nil)
        let second = metrics.nextWindow()
        #expect(second.upserts.operations == 2)
        #expect(second.upserts.failures == 1)
        #expect(metrics.nextWindow().upserts.operations == 0)
        let total = metrics.total
        #expect(total.upserts.operations == 3)
        #expect(total.length >= first.length + second.length)
    }

    @Test func anotherObserverIsToldAll() {
        let inner = UpsertMetrics()
        let metrics = UpsertMetrics(next: inner)
        #expect(!metrics.wantsParameters)
        #expect(metrics.began(operation(.query)) == nil)
        metrics.ended(operation(.query, upsert), result(), nil)
        metrics.happened(.closed(.idle))
        #expect(inner.total.upserts.operations == 1)
        #expect(inner.total.closes == [.idle: 1])
    }

    // Alerts

    private func window(_ change: (UpsertMetrics) -> Void) -> UpsertMetrics.Window {
        let metrics = UpsertMetrics()
        change(metrics)
        return metrics.nextWindow()
    }

    @Test func aGoodWindowIsNoReason() {
        let window = window { metrics in
            for _ in 0..<1000 { metrics.ended(operation(.query, upsert), result(), nil) }
            metrics.ended(operation(.connect), result(.zero, .cannotConnect), nil)
            metrics.ended(operation(.connect), result(), nil)
        }
        var pool = PostgresClient.Statistics()
        pool.maximum = 10
        pool.inUse = 8
        #expect(UpsertAlertThresholds().alerts(window, pool: pool).isEmpty)
        #expect(UpsertAlertThresholds().alerts(self.window { _ in }).isEmpty)
    }

    @Test func eachThresholdHasItsAlert() {
        let window = window { metrics in
            for _ in 0..<90 { metrics.ended(operation(.query, upsert), result(.milliseconds(200)), nil) }
            for _ in 0..<8 { metrics.ended(operation(.query, upsert), result(.zero, .uniqueViolation), nil) }
            for _ in 0..<2 { metrics.ended(operation(.query, upsert), result(.zero, .queryCanceled), nil) }
            metrics.ended(operation(.connect), result(.zero, .cannotConnect), nil)
        }
        var pool = PostgresClient.Statistics()
        pool.maximum = 10
        pool.inUse = 9
        pool.waiting = 3
        var thresholds = UpsertAlertThresholds()
        thresholds.baseline = 1e12
        let alerts = thresholds.alerts(window, pool: pool)
        #expect(
            alerts.map(\.kind) == [.unavailable, .duplicateKeys, .errorRate, .latency, .throughput, .poolSaturation])
        #expect(
            alerts.map(\.severity) == [.critical, .critical, .critical, .warning, .warning, .warning])
        #expect(alerts[1].value == 8)
        #expect(alerts[2].value == 0.1)
        #expect(
            alerts[2].message
                == "10 % of 100 upserts failed, more than 1 %: 8 x 23505 (unique_violation), 2 x 57014 (query_canceled)"
        )
        #expect(alerts[3].value >= 200)
        #expect(alerts[5].description == "warning: 9 of 10 connections are in use, more than 80 %; 3 callers wait")
    }

    @Test func aCheckCanBeSwitchedOffOrMoved() {
        let window = window { metrics in
            for _ in 0..<9 { metrics.ended(operation(.query, upsert), result(.milliseconds(40)), nil) }
            metrics.ended(operation(.query, upsert), result(.zero, .uniqueViolation), nil)
            metrics.ended(operation(.connect), result(.zero, .cannotConnect), nil)
        }
        var thresholds = UpsertAlertThresholds()
        thresholds.duplicateKeys = 1
        thresholds.errorRate = 0.1
        thresholds.unavailable = false
        thresholds.latency = .milliseconds(10)
        #expect(thresholds.alerts(window).map(\.kind) == [.latency])
        thresholds.latency = nil
        thresholds.duplicateKeys = nil
        thresholds.errorRate = nil
        #expect(thresholds.alerts(window).isEmpty)
    }
}
