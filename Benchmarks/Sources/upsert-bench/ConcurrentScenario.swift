import Measurement
import Postgres
import PostgresUpsert
import Synchronization

extension Scenario {
    /// Which keys concurrent workers write.
    enum ConcurrentKeys {
        /// 5 that all begin with, on an empty table: the case the upsert is for.
        case contested
        /// 5 that are there: every operation updates.
        case present
        /// A hundred, each once, that are not there: every operation inserts.
        case absent
    }

    /// 100 operations by workers with a connection each, which start together.
    static func concurrent(
        _ server: BenchmarkServer, workers: Int, keys: ConcurrentKeys = .contested
    ) async throws -> Scenario {
        let startsEmpty = keys != .present
        let rows = StatsRow.rows(100, keys: keys == .absent ? 100 : 5)
        let share = rows.count / workers
        let step = keys == .absent ? share : 5
        let parts = (0..<workers).map { worker in (0..<share).map { rows[($0 + worker * step) % rows.count] } }
        let (suffix, ofKeys) =
            switch keys {
            case .contested: ("", "5 keys, starting on an empty table")
            case .present: (", hits", "5 keys, which are there")
            case .absent: (", misses", "100 keys, none of which is there")
            }
        let keeper = try await server.connect()
        let function = try await keeper.install(UpsertFunction("upsert_stats", in: server.schema, StatsRow.upsert))
        // One set for both: a server lets in a hundred by default.
        let ofFlights = try await connections(server, workers)
        var arms: [Arm] = []
        func add(_ name: String, _ operation: @escaping @Sendable (PostgresConnection, StatsRow) async throws -> Void)
            async throws
        {
            let connections = try await connections(server, workers)
            arms.append(
                Arm(name: name, connections: connections) {
                    await together(connections, parts: parts, operation)
                })
        }
        func addFlights(
            _ name: String,
            _ flight: @escaping @Sendable (PostgresConnection, [StatsRow], inout Tally) async throws -> Void
        ) {
            arms.append(
                Arm(name: name, connections: ofFlights) {
                    await together(ofFlights, parts: parts) { db, part in
                        await Tally.flight(of: part.count) { tally in try await flight(db, part, &tally) }
                    }
                })
        }
        try await add("naive") { db, row in try await db.upsertNaively(row) }
        try await add("naive in a transaction") { db, row in try await db.upsertNaivelyInTransaction(row) }
        try await add("naive with retry") { db, row in try await db.upsertNaivelyWithRetry(row) }
        try await add("atomic") { db, row in try await db.upsert(row) }
        try await add("database function") { db, row in try await db.upsert(function(row)) }
        addFlights("pipeline of \(share)") { db, part, tally in
            try await db.upsertInPipeline(part, .isolated, &tally)
        }
        addFlights("bulk of \(share)") { db, part, _ in try await db.upsertKeepingLast(part) }
        let writer = UpsertWriter(try server.pool(of: workers), StatsRow.upsert)
        arms.append(
            Arm(name: "coalesced", connections: []) {
                await together(parts.map { _ in writer }, parts: parts) { writer, row in try await writer.upsert(row) }
            })
        let libpqs = try parts.map { part throws(LibPQ.Failure) in try LibPQWorker(server, part) }
        let works: [(String, @Sendable (LibPQWorker) throws -> Tally)] = [
            ("naive", { try $0.upsertNaively() }), ("atomic", { try $0.upsert() }),
            ("pipeline of \(share)", { try $0.pipeline() }),
        ]
        for (name, work) in works {
            arms.append(
                Arm(name: "libpq \(name), a thread each", connections: []) { try await libpqs.together(work) })
        }
        return Scenario(
            name: "concurrent\(workers == 10 ? "" : ", \(workers) workers")\(suffix)",
            explanation: "100 operations, \(workers) workers with a connection each, \(ofKeys)",
            arms: arms,
            reset: { if startsEmpty { try await keeper.execute("DELETE FROM stats") } },
            tidyUp: {
                if keys == .present { try await keeper.upsert(rows.prefix(5)) }
                try await keeper.execute("VACUUM stats")
            })
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

    /// Each connection does its part of the rows in a task of its own, one after the other; all start together.
    static func together<Executor: Sendable, Row: Sendable>(
        _ executors: [Executor], parts: [[Row]],
        _ operation: @escaping @Sendable (Executor, Row) async throws -> Void
    ) async -> Tally {
        await together(executors, parts: parts) { executor, part in
            await tally(part) { row in try await operation(executor, row) }
        }
    }

    /// The same, each part in a way of its own.
    private static func together<Executor: Sendable, Row: Sendable>(
        _ executors: [Executor], parts: [[Row]],
        _ work: @escaping @Sendable (Executor, [Row]) async -> Tally
    ) async -> Tally {
        let start = StartingLine(runners: min(executors.count, parts.count))
        return await withTaskGroup(of: Tally.self) { group in
            for (executor, part) in zip(executors, parts) {
                group.addTask {
                    await start.wait()
                    return await work(executor, part)
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
