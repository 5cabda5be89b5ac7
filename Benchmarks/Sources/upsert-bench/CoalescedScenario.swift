import Measurement
import Postgres
import PostgresUpsert

extension Scenario {
    /// Increments of counters by tasks that wait for each: through one writer that gathers them, and one by one on the same pool.
    static func coalesced(_ server: BenchmarkServer, tasks: Int, keys: Int, isDurable: Bool) async throws -> Scenario {
        let rows = Counter.drawn(max(64, min(2048, 64 * tasks)), keys: keys)
        let parts = (0..<tasks).map { task in stride(from: task, to: rows.count, by: tasks).map { rows[$0] } }
        let keeper = try await server.connect()
        let pool = try server.pool(of: 8)
        var arms = [
            Arm(name: "atomic", connections: []) {
                await together(parts.map { _ in pool }, parts: parts) { pool, row in
                    try await pool.upsert(Counter.bump(row))
                }
            }
        ]
        for coalescing in Coalescing.allCases {
            let writer = coalescing.writer(over: try server.pool(of: 8))
            arms.append(
                Arm(name: coalescing.rawValue, connections: []) {
                    await together(parts.map { _ in writer }, parts: parts) { writer, row in
                        try await writer.upsert(row)
                    }
                })
        }
        return Scenario(
            name: "\(isDurable ? "durable, " : "")\(tasks) task\(tasks == 1 ? "" : "s"), \(keys) keys",
            explanation:
                "\(rows.count) increments of \(keys) counters, atomic on a pool of 8, or through one UpsertWriter",
            arms: arms,
            weight: 2,
            place: isDurable ? Place(curve: keys <= 5 ? .tasksOnFewKeys : .tasksOnManyKeys, x: Double(tasks)) : nil,
            increments: { try await Counter.sum(keeper) },
            reset: {},
            tidyUp: {
                try await keeper.execute(
                    """
                    INSERT INTO counters SELECT 'key' || 1000000 + n, 0 FROM generate_series(0, \(keys) - 1) AS n
                    ON CONFLICT DO NOTHING
                    """)
                try await keeper.execute("VACUUM counters")
            })
    }
}

/// What becomes of rows of one key in a flight.
enum Coalescing: String, CaseIterable {
    /// The second goes with the next flight.
    case coalesced
    /// They become one row.
    case merged = "coalesced, equal keys merged"

    private static let merging = Counter.bump.duplicates(
        .merge { earlier, later in Counter(key: earlier.key, hits: earlier.hits + later.hits) })

    func writer(over pool: PostgresClient) -> UpsertWriter<Counter, Never> {
        switch self {
        case .coalesced: UpsertWriter(pool, Counter.bump)
        case .merged: UpsertWriter(pool, Self.merging)
        }
    }
}
