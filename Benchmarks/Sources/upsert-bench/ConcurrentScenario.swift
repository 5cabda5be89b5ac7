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
        let inTransaction = try await connections(server, workers)
        let withRetry = try await connections(server, workers)
        let atomic = try await connections(server, workers)
        return Scenario(
            name: workers == 10 ? "concurrent" : "concurrent, \(workers) workers",
            explanation:
                "100 operations, \(workers) workers with a connection each, 5 keys, starting on an empty table",
            arms: [
                Arm(name: "naive", connections: naive) {
                    await together(naive, parts: parts) { db, row in try await db.upsertNaively(row) }
                },
                Arm(name: "naive in a transaction", connections: inTransaction) {
                    await together(inTransaction, parts: parts) { db, row in
                        try await db.upsertNaivelyInTransaction(row)
                    }
                },
                Arm(name: "naive with retry", connections: withRetry) {
                    await together(withRetry, parts: parts) { db, row in try await db.upsertNaivelyWithRetry(row) }
                },
                Arm(name: "atomic", connections: atomic) {
                    await together(atomic, parts: parts) { db, row in try await db.upsert(row) }
                },
            ],
            reset: { try await keeper.execute("DELETE FROM stats") },
            tidyUp: { try await keeper.execute("VACUUM stats") })
    }

    /// 100 increments of 5 counters by workers with a connection each, which start together on an empty table.
    static func race(_ server: BenchmarkServer, workers: Int) async throws -> Scenario {
        let rows = Counter.increments(100, keys: 5)
        let share = rows.count / workers
        let parts = (0..<workers).map { worker in (0..<share).map { rows[($0 + worker * 5) % rows.count] } }
        let keeper = try await server.connect()
        let naive = try await connections(server, workers)
        let inTransaction = try await connections(server, workers)
        let withRetry = try await connections(server, workers)
        let atomic = try await connections(server, workers)
        return Scenario(
            name: "counters, \(workers) worker\(workers == 1 ? "" : "s")",
            explanation: "\(share * workers) increments of 5 counters, starting on an empty table, a connection each",
            arms: [
                Arm(name: "naive", connections: naive) {
                    await together(naive, parts: parts) { db, row in try await db.incrementNaively(row) }
                },
                Arm(name: "naive in a transaction", connections: inTransaction) {
                    await together(inTransaction, parts: parts) { db, row in
                        try await db.incrementNaivelyInTransaction(row)
                    }
                },
                Arm(name: "naive with retry", connections: withRetry) {
                    await together(withRetry, parts: parts) { db, row in try await db.incrementNaivelyWithRetry(row) }
                },
                Arm(name: "atomic", connections: atomic) {
                    await together(atomic, parts: parts) { db, row in try await db.upsert(Counter.bump(row)) }
                },
            ],
            place: Place(curve: .workers, x: Double(workers)),
            increments: { try await Counter.sum(keeper) },
            reset: { try await keeper.execute("DELETE FROM counters") },
            tidyUp: { try await keeper.execute("VACUUM counters") })
    }

    private static func connections(_ server: BenchmarkServer, _ count: Int) async throws -> [PostgresConnection] {
        var connections: [PostgresConnection] = []
        for _ in 0..<count { connections.append(try await server.connect()) }
        return connections
    }

    /// Each connection does its part of the rows in a task of its own; all start together.
    static func together<Executor: Sendable, Row: Sendable>(
        _ executors: [Executor], parts: [[Row]],
        _ operation: @escaping @Sendable (Executor, Row) async throws -> Void
    ) async -> Tally {
        let start = StartingLine(runners: min(executors.count, parts.count))
        return await withTaskGroup(of: Tally.self) { group in
            for (executor, part) in zip(executors, parts) {
                group.addTask {
                    await start.wait()
                    return await tally(part) { row in try await operation(executor, row) }
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
