import Measurement
import Postgres
import PostgresUpsert

extension Scenario {
    /// Upserts in flight together on one connection, each its own transaction, or all of a flight one: on an empty table, or on
    /// keys that are there.
    static func pipelined(
        _ server: BenchmarkServer, flight size: Int, startsEmpty: Bool = true
    ) async throws -> Scenario {
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
            name: "pipelined, \(startsEmpty ? "" : "hits, ")\(size)",
            explanation: """
                \(flights) flights of \(size) upserts on one connection, \
                \(startsEmpty ? "starting on an empty table" : "all keys are there"); latency is the flight's
                """,
            arms: arms,
            weight: 3,
            place: Place(curve: startsEmpty ? .flight : .flightOfHits, x: Double(size)),
            reset: { if startsEmpty { try await keeper.execute("DELETE FROM stats") } },
            tidyUp: {
                if !startsEmpty { try await keeper.upsert(rows) }
                try await keeper.execute("VACUUM stats")
            })
    }
}

extension Tally {
    /// One flight, with its latency. If it fails as a whole, all of it failed.
    static func flight(of operations: Int, _ body: (inout Tally) async throws -> Void) async -> Tally {
        var tally = Tally(operations: operations)
        let start = monotonicNanoseconds()
        do { try await body(&tally) } catch {
            tally.count(error)
            tally.errors = operations
        }
        tally.latencies.append(monotonicNanoseconds() &- start)
        return tally
    }

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

extension PostgresConnection {
    /// One statement, in which each key is once.
    func upsertKeepingLast(_ rows: [StatsRow]) async throws(PostgresError) {
        try await upsert(StatsRow.keepingLast.rows(rows))
    }
}

extension StatsRow {
    static let keepingLast = upsert.duplicates(.keepLast)
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
