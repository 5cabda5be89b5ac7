import Measurement
import Postgres
import PostgresUpsert

extension Scenario {
    /// 100 operations, 10 keys, 90 % updates: one after the other on one connection.
    static func sequential(_ server: BenchmarkServer) async throws -> Scenario {
        try await sequential(
            server, "sequential", "100 operations, 10 keys, 90 % updates, one connection",
            rows: StatsRow.rows(100, keys: 10),
            startsEmpty: true)
    }

    /// No key is there: every operation inserts.
    static func sequentialMisses(_ server: BenchmarkServer) async throws -> Scenario {
        try await sequential(
            server, "sequential, misses", "100 operations on 100 keys that are not there, one connection",
            rows: StatsRow.rows(100, keys: 100), startsEmpty: true)
    }

    /// All keys are there: every operation updates.
    static func sequentialHits(_ server: BenchmarkServer) async throws -> Scenario {
        try await sequential(
            server, "sequential, hits", "100 operations on 10 keys that are there, one connection",
            rows: StatsRow.rows(100, keys: 10), startsEmpty: false)
    }

    private static func sequential(
        _ server: BenchmarkServer, _ name: String, _ explanation: String, rows: [StatsRow], startsEmpty: Bool
    ) async throws -> Scenario {
        let libpqRows = try LibPQ.Rows(rows)
        let naive = try await server.connect()
        let inTransaction = try await server.connect()
        let withRetry = try await server.connect()
        let atomic = try await server.connect()
        let inPipeline = try await server.connect()
        let inBulk = try await server.connect()
        let writer = UpsertWriter(try server.pool(of: 1), StatsRow.upsert)
        let atomicInTransaction = try await server.connect()
        let ofFunction = try await server.connect()
        let function = try await ofFunction.install(UpsertFunction("upsert_stats", in: server.schema, StatsRow.upsert))
        let libpq = try server.connectLibPQ()
        let keeper = try await server.connect()
        return Scenario(
            name: name,
            explanation: explanation,
            arms: [
                Arm(name: "naive", connections: [naive]) {
                    await tally(rows) { row in try await naive.upsertNaively(row) }
                },
                Arm(name: "naive in a transaction", connections: [inTransaction]) {
                    await tally(rows) { row in try await inTransaction.upsertNaivelyInTransaction(row) }
                },
                Arm(name: "naive with retry", connections: [withRetry]) {
                    await tally(rows) { row in try await withRetry.upsertNaivelyWithRetry(row) }
                },
                Arm(name: "atomic", connections: [atomic]) {
                    await tally(rows) { row in try await atomic.upsert(row) }
                },
                Arm(name: "atomic in a transaction", connections: [atomicInTransaction]) {
                    await tally(rows) { row in
                        try await atomicInTransaction.transaction { transaction in
                            _ = try await transaction.upsert(row)
                        }
                    }
                },
                Arm(name: "database function", connections: [ofFunction]) {
                    await tally(rows) { row in try await ofFunction.upsert(function(row)) }
                },
                Arm(name: "pipeline of \(rows.count)", connections: [inPipeline]) {
                    await Tally.flight(of: rows.count) { tally in
                        try await inPipeline.upsertInPipeline(rows, .isolated, &tally)
                    }
                },
                Arm(name: "bulk of \(rows.count)", connections: [inBulk]) {
                    await Tally.flight(of: rows.count) { _ in try await inBulk.upsertKeepingLast(rows) }
                },
                Arm(name: "coalesced", connections: []) {
                    await tally(rows) { row in try await writer.upsert(row) }
                },
                Arm(name: "libpq naive", connections: []) { try libpq.tallyNaiveUpserts(libpqRows, rows.count) },
                Arm(name: "libpq atomic", connections: []) { try libpq.tallyUpserts(libpqRows, rows.count) },
                Arm(name: "libpq pipeline of \(rows.count)", connections: []) {
                    try await Tally.flights(1, of: rows.count) { tally in
                        try libpq.pipeline(libpqRows, rows.count, syncEach: true, &tally)
                    }
                },
            ],
            reset: { if startsEmpty { try await keeper.execute("DELETE FROM stats") } },
            tidyUp: {
                if !startsEmpty { try await keeper.upsert(rows.prefix(10)) }
                try await keeper.execute("VACUUM stats")
            })
    }
}

/// Does the operations one after the other, and times each.
func tally<Row>(_ rows: some Sequence<Row>, _ operation: (Row) async throws -> Void) async -> Tally {
    var tally = Tally()
    for row in rows {
        let start = monotonicNanoseconds()
        do { try await operation(row) } catch { tally.count(error) }
        tally.latencies.append(monotonicNanoseconds() &- start)
        tally.operations += 1
    }
    return tally
}

// As arms do it.
extension LibPQ {
    func tallyUpserts(_ rows: Rows, _ count: Int) throws(Failure) -> Tally {
        var tally = Tally(operations: count)
        let calls = LibPQ.sendCalls
        try upsert(rows, count, latencies: &tally.latencies)
        tally.sendCalls = LibPQ.sendCalls - calls
        return tally
    }

    func tallyNaiveUpserts(_ rows: Rows, _ count: Int) throws(Failure) -> Tally {
        var tally = Tally(operations: count)
        let calls = LibPQ.sendCalls
        tally.duplicateKeyErrors = try upsertNaively(rows, count, latencies: &tally.latencies)
        tally.errors = tally.duplicateKeyErrors
        tally.sendCalls = LibPQ.sendCalls - calls
        return tally
    }
}
