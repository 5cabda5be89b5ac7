import Measurement
import Postgres
import PostgresUpsert

extension Scenario {
    /// 100 operations, 10 keys, 90 % updates: one after the other on one connection.
    static func sequential(_ server: BenchmarkServer) async throws -> Scenario {
        let rows = StatsRow.rows(100, keys: 10)
        let libpqRows = try LibPQ.Rows(rows)
        let naive = try await server.connect()
        let atomic = try await server.connect()
        let libpq = try server.connectLibPQ()
        let keeper = try await server.connect()
        return Scenario(
            name: "sequential",
            explanation: "100 operations, 10 keys, 90 % updates, one connection",
            arms: [
                Arm(name: "naive", connections: [naive]) {
                    await tally(rows) { (row) throws(PostgresError) in try await naive.upsertNaively(row) }
                },
                Arm(name: "atomic", connections: [atomic]) {
                    await tally(rows) { (row) throws(PostgresError) in try await atomic.upsert(row) }
                },
                Arm(name: "libpq naive", connections: []) {
                    var tally = Tally(operations: rows.count)
                    tally.duplicateKeyErrors = try libpq.upsertNaively(
                        libpqRows, rows.count, latencies: &tally.latencies)
                    tally.errors = tally.duplicateKeyErrors
                    return tally
                },
                Arm(name: "libpq atomic", connections: []) {
                    var tally = Tally(operations: rows.count)
                    try libpq.upsert(libpqRows, rows.count, latencies: &tally.latencies)
                    return tally
                },
            ],
            reset: { try await keeper.execute("DELETE FROM stats") },
            tidyUp: { try await keeper.execute("VACUUM stats") })
    }
}

/// Does the operations one after the other, and times each.
func tally(_ rows: some Sequence<StatsRow>, _ operation: (StatsRow) async throws(PostgresError) -> Void) async -> Tally
{
    var tally = Tally()
    for row in rows {
        let start = monotonicNanoseconds()
        do throws(PostgresError) { try await operation(row) } catch { tally.count(error) }
        tally.latencies.append(monotonicNanoseconds() &- start)
        tally.operations += 1
    }
    return tally
}
