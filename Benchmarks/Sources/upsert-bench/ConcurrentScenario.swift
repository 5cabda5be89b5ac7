import Postgres
import PostgresUpsert
import Synchronization

extension Scenario {
    /// 100 operations on 5 keys by workers with a connection each, which start together on an empty table.
    static func concurrent(_ server: BenchmarkServer, workers: Int) async throws -> Scenario {
        let rows = StatsRow.rows(100, keys: 5)
        let share = rows.count / workers
        // Every worker begins with the same key: the case the upsert is for.
        let parts = (0..<workers).map { worker in (0..<share).map { rows[($0 + worker * 5) % rows.count] } }
        let keeper = try await server.connect()
        let naive = try await connections(server, workers)
        let atomic = try await connections(server, workers)
        return Scenario(
            name: workers == 10 ? "concurrent" : "concurrent, \(workers) workers",
            explanation:
                "100 operations, \(workers) workers with a connection each, 5 keys, starting on an empty table",
            arms: [
                Arm(name: "naive", connections: naive) {
                    await together(naive, parts: parts) { (db, row) throws(PostgresError) in
                        try await db.upsertNaively(row)
                    }
                },
                Arm(name: "atomic", connections: atomic) {
                    await together(atomic, parts: parts) { (db, row) throws(PostgresError) in try await db.upsert(row) }
                },
            ],
            reset: { try await keeper.execute("DELETE FROM stats") },
            tidyUp: { try await keeper.execute("VACUUM stats") })
    }

    private static func connections(_ server: BenchmarkServer, _ count: Int) async throws -> [PostgresConnection] {
        var connections: [PostgresConnection] = []
        for _ in 0..<count { connections.append(try await server.connect()) }
        return connections
    }

    /// Each connection does its part of the rows in a task of its own; all start together.
    static func together(
        _ connections: [PostgresConnection], parts: [[StatsRow]],
        _ operation: @escaping @Sendable (PostgresConnection, StatsRow) async throws(PostgresError) -> Void
    ) async -> Tally {
        let start = StartingLine(runners: min(connections.count, parts.count))
        return await withTaskGroup(of: Tally.self) { group in
            for (db, part) in zip(connections, parts) {
                group.addTask {
                    await start.wait()
                    return await tally(part) { (row) throws(PostgresError) in try await operation(db, row) }
                }
            }
            return await group.reduce(into: Tally()) { $0 += $1 }
        }
    }
}

/// Holds tasks back until all have come.
private final class StartingLine: Sendable {
    private struct State {
        var missing: Int
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state: Mutex<State>

    init(runners: Int) { state = Mutex(State(missing: runners)) }

    func wait() async {
        await withCheckedContinuation { continuation in
            let ready = state.withLock { state in
                state.missing -= 1
                state.waiting.append(continuation)
                return state.missing == 0 ? state.waiting : []
            }
            for continuation in ready { continuation.resume() }
        }
    }
}
