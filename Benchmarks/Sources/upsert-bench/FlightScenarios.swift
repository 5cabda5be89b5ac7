import Measurement
import Postgres
import PostgresUpsert

extension Scenario {
    /// 1,000 upserts in flight together on one connection, each its own transaction.
    static func pipelined(_ server: BenchmarkServer) async throws -> Scenario {
        let rows = StatsRow.rows(1000, keys: 1000)
        let libpqRows = try LibPQ.Rows(rows)
        let upsert = StatsRow.upsert
        let explicit = try await server.connect()
        let automatic = try await server.connect()
        let libpq = try server.connectLibPQ()
        let keeper = try await server.connect()
        return Scenario(
            name: "pipelined",
            explanation: "1,000 upserts in one flight on one connection, a Sync each; latency is the flight's",
            arms: [
                Arm(name: "pipeline", connections: [explicit]) {
                    try await flight(of: rows.count) { (tally) throws(PostgresError) in
                        var pipeline = PostgresPipeline(.isolated)
                        pipeline.reserveCapacity(rows.count)
                        for row in rows { pipeline.add(upsert(row).query) }
                        for error in try await explicit.run(pipeline).errors {
                            if let error { tally.count(error) }
                        }
                    }
                },
                Arm(name: "1,000 tasks", connections: [automatic]) {
                    try await flight(of: rows.count) { (_) throws(PostgresError) in
                        try await upsertTogether(rows, automatic)
                    }
                },
                Arm(name: "libpq", connections: []) {
                    try await flight(of: rows.count) { (_) throws(LibPQ.Failure) in
                        try libpq.pipeline(libpqRows, rows.count)
                    }
                },
            ],
            weight: 3,
            reset: { try await keeper.execute("DELETE FROM stats") },
            tidyUp: { try await keeper.execute("VACUUM stats") })
    }

    /// 1,000 rows in one statement.
    static func batched(_ server: BenchmarkServer) async throws -> Scenario {
        let rows = StatsRow.rows(1000, keys: 1000)
        let libpqRows = try LibPQ.Rows(rows)
        let db = try await server.connect()
        let libpq = try server.connectLibPQ()
        let keeper = try await server.connect()
        return Scenario(
            name: "batched",
            explanation:
                "1,000 rows in one statement (unnest); latency is the statement's",
            arms: [
                Arm(name: "unnest", connections: [db]) {
                    try await flight(of: rows.count) { (_) throws(PostgresError) in try await db.upsert(rows) }
                },
                Arm(name: "libpq", connections: []) {
                    try await flight(of: rows.count) { (_) throws(LibPQ.Failure) in try libpq.bulkUpsert(libpqRows) }
                },
            ],
            weight: 3,
            reset: { try await keeper.execute("DELETE FROM stats") },
            tidyUp: { try await keeper.execute("VACUUM stats") })
    }
}

private func flight<Failure: Error>(
    of operations: Int, _ body: (inout Tally) async throws(Failure) -> Void
) async throws(Failure) -> Tally {
    var tally = Tally(operations: operations)
    let start = monotonicNanoseconds()
    try await body(&tally)
    tally.latencies.append(monotonicNanoseconds() &- start)
    return tally
}

/// Each row by a task of its own.
private func upsertTogether(_ rows: [StatsRow], _ db: PostgresConnection) async throws(PostgresError) {
    let result = await withTaskGroup(of: Result<Void, PostgresError>.self) { group in
        for row in rows {
            group.addTask {
                do throws(PostgresError) {
                    try await db.upsert(row)
                    return .success(())
                } catch {
                    return .failure(error)
                }
            }
        }
        var first = Result<Void, PostgresError>.success(())
        for await result in group {
            if case .failure = result, case .success = first { first = result }
        }
        return first
    }
    try result.get()
}
