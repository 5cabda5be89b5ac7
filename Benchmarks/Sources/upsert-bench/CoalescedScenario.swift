import Measurement
import Postgres
import PostgresUpsert

/// What a commit of a coalescing scenario waits for.
enum CommitWait: CaseIterable {
    /// The server that waits for its disk.
    case disk
    /// The same server, sessions with `synchronous_commit` off.
    case relaxed
    /// The server whose `fsync` is off.
    case volatile

    var isOfDurableServer: Bool { self != .volatile }

    var prefix: String {
        switch self {
        case .disk: "durable, "
        case .relaxed: "synchronous_commit off, "
        case .volatile: ""
        }
    }

    func curve(keys: Int) -> Curve {
        switch self {
        case .disk: keys <= 5 ? .fewKeys : .manyKeys
        case .relaxed: keys <= 5 ? .fewKeysRelaxed : .manyKeysRelaxed
        case .volatile: keys <= 5 ? .fewKeysVolatile : .manyKeysVolatile
        }
    }
}

extension Scenario {
    /// Increments of counters by tasks that wait for each: through one writer that gathers them, and one by one on the same pool.
    ///
    /// - Parameter most: how many increments an iteration has at most.
    static func coalesced(
        _ server: BenchmarkServer, tasks: Int, keys: Int, _ wait: CommitWait, most: Int
    ) async throws -> Scenario {
        let rows = Counter.drawn(max(64, min(most, 64 * tasks)), keys: keys)
        let parts = (0..<tasks).map { task in stride(from: task, to: rows.count, by: tasks).map { rows[$0] } }
        let keeper = try await server.connect()
        func makePool() throws(PostgresError) -> PostgresClient {
            try server.pool(of: 8, parameters: wait == .relaxed ? ["synchronous_commit": "off"] : [:])
        }
        let pool = try makePool()
        var arms = [
            Arm(name: "atomic", connections: []) {
                await together(parts.map { _ in pool }, parts: parts) { pool, row in
                    try await pool.upsert(Counter.bump(row))
                }
            }
        ]
        for coalescing in Coalescing.allCases {
            let writer = coalescing.writer(over: try makePool())
            arms.append(
                Arm(name: coalescing.rawValue, connections: []) {
                    await together(parts.map { _ in writer }, parts: parts) { writer, row in
                        try await writer.upsert(row)
                    }
                })
        }
        return Scenario(
            name: "\(wait.prefix)\(tasks) task\(tasks == 1 ? "" : "s"), \(keys) keys",
            explanation:
                "\(rows.count) increments of \(keys) counters, atomic on a pool of 8, or through one UpsertWriter",
            arms: arms,
            weight: 2,
            place: Place(curve: wait.curve(keys: keys), x: Double(tasks)),
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
