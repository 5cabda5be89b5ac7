import Measurement
import Postgres
import PostgresUpsert

extension Scenario {
    /// Upserts in flight together on one connection, each its own transaction, or all of a flight one.
    static func pipelined(_ server: BenchmarkServer, flight size: Int) async throws -> Scenario {
        let rows = StatsRow.rows(size, keys: size)
        let flights = max(1000 / size, 1)
        let libpqRows = try LibPQ.Rows(rows)
        let sequential = try await server.connect()
        let isolated = try await server.connect()
        let atomic = try await server.connect()
        let automatic = try await server.connect()
        let libpq = try server.connectLibPQ()
        let keeper = try await server.connect()
        var arms = [
            // As many as take about as long as the others.
            Arm(name: "sequential", connections: [sequential]) {
                await tally((0..<100).map { rows[$0 % size] }) { row in try await sequential.upsert(row) }
            },
            Arm(name: "pipeline", connections: [isolated]) {
                try await Tally.flights(flights, of: size) { tally in
                    try await isolated.upsertInPipeline(rows, .isolated, &tally)
                }
            },
            Arm(name: "pipeline, one Sync", connections: [atomic]) {
                try await Tally.flights(flights, of: size) { tally in
                    try await atomic.upsertInPipeline(rows, .atomic, &tally)
                }
            },
            Arm(name: "libpq", connections: []) {
                try await Tally.flights(flights, of: size) { tally in
                    try libpq.pipeline(libpqRows, size, syncEach: true, &tally)
                }
            },
            Arm(name: "libpq, one Sync", connections: []) {
                try await Tally.flights(flights, of: size) { tally in
                    try libpq.pipeline(libpqRows, size, syncEach: false, &tally)
                }
            },
        ]
        if size >= 1000 {
            arms.append(
                Arm(name: "a task each", connections: [automatic]) {
                    try await Tally.flights(flights, of: size) { _ in try await upsertTogether(rows, automatic) }
                })
        }
        return Scenario(
            name: "pipelined, \(size)",
            explanation: "\(flights) flights of \(size) upserts on one connection; latency is the flight's",
            arms: arms,
            weight: 3,
            place: Place(curve: .flight, x: Double(size)),
            reset: { try await keeper.execute("DELETE FROM stats") },
            tidyUp: { try await keeper.execute("VACUUM stats") })
    }

    /// Rows inserted in statements of `size` each.
    static func bulk(_ server: BenchmarkServer, rows size: Int) async throws -> Scenario {
        let count = max(size, 1000)
        let rows = StatsRow.rows(count, keys: count)
        let parts = stride(from: 0, to: count, by: size).map { Array(rows[$0..<min($0 + size, count)]) }
        let libpqRows = try parts.map { part throws(LibPQ.Failure) in try LibPQ.Rows(part) }
        let libpqArrays = try parts.map { part throws(LibPQ.Failure) in try LibPQ.Arrays(part) }
        let libpq = try server.connectLibPQ()
        let keeper = try await server.connect()
        var arms: [Arm] = []
        for strategy in BulkStrategy.allCases where strategy.rows.contains(size) {
            let db = try await server.connect()
            arms.append(
                Arm(name: strategy.rawValue, connections: [db]) {
                    try await Tally.flights(parts, of: size) { part in try await strategy.upsert(part, on: db) }
                })
        }
        arms += [
            Arm(name: "libpq unnest", connections: []) {
                try await Tally.flights(libpqRows, of: size) { part in try libpq.bulkUpsert(part) }
            },
            Arm(name: "libpq unnest, arrays ready made", connections: []) {
                try await Tally.flights(libpqArrays, of: size) { part in try libpq.bulkUpsert(part) }
            },
        ]
        return Scenario(
            name: "bulk, \(size) rows",
            explanation:
                "\(count) rows into an empty table, \(size) in a statement, keys ascending; latency is the statement's",
            arms: arms,
            weight: max(3, count / 1000),
            place: Place(curve: .rows, x: Double(size)),
            reset: { try await keeper.execute("TRUNCATE stats") },
            tidyUp: {})
    }
}

/// How the rows of a bulk upsert travel.
enum BulkStrategy: String, CaseIterable {
    case unnest
    case values = "VALUES"
    case copy = "COPY staging"

    private static let unnested = StatsRow.upsert.strategy(.unnest)
    private static let listed = StatsRow.upsert.strategy(.values)
    private static let staged = StatsRow.upsert.strategy(.copy)

    /// How many rows it is measured with.
    var rows: ClosedRange<Int> {
        switch self {
        case .unnest, .copy: 1...Int.max
        // More are sent as statements of 1,024 each, which is no other curve.
        case .values: 1...10_000
        }
    }

    func upsert(_ rows: [StatsRow], on db: PostgresConnection) async throws {
        switch self {
        case .unnest: try await db.upsert(Self.unnested.rows(rows))
        case .values: try await db.upsert(Self.listed.rows(rows))
        case .copy: try await db.upsert(Self.staged.rows(rows))
        }
    }
}

extension Tally {
    /// A latency each.
    static func flights(
        _ count: Int, of operations: Int, _ body: (inout Tally) async throws -> Void
    ) async throws -> Tally {
        var tally = Tally(operations: count * operations)
        for _ in 0..<count {
            let start = monotonicNanoseconds()
            try await body(&tally)
            tally.latencies.append(monotonicNanoseconds() &- start)
        }
        return tally
    }

    static func flights<Part>(
        _ parts: [Part], of operations: Int, _ body: (Part) async throws -> Void
    ) async throws -> Tally {
        var tally = Tally(operations: parts.count * operations)
        for part in parts {
            let start = monotonicNanoseconds()
            try await body(part)
            tally.latencies.append(monotonicNanoseconds() &- start)
        }
        return tally
    }
}

extension PostgresConnection {
    func upsertInPipeline(_ rows: [StatsRow], _ sync: PostgresPipeline.Sync, _ tally: inout Tally) async throws {
        let upsert = StatsRow.upsert
        var pipeline = PostgresPipeline(sync)
        pipeline.reserveCapacity(rows.count)
        for row in rows { pipeline.add(upsert(row).query) }
        for error in try await run(pipeline).errors {
            if let error { tally.count(error) }
        }
    }
}

extension LibPQ {
    func pipeline(_ rows: Rows, _ count: Int, syncEach: Bool, _ tally: inout Tally) throws(Failure) {
        let calls = LibPQ.sendCalls
        try pipeline(rows, count, syncEach: syncEach)
        tally.sendCalls = (tally.sendCalls ?? 0) + LibPQ.sendCalls - calls
    }
}

/// Each row by a task of its own.
private func upsertTogether(_ rows: [StatsRow], _ db: PostgresConnection) async throws {
    try await withThrowingDiscardingTaskGroup { group in
        for row in rows { group.addTask { try await db.upsert(row) } }
    }
}
