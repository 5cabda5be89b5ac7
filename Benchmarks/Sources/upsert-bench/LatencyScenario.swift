import Measurement
import Postgres
import PostgresTesting
import PostgresUpsert

extension Scenario {
    /// Hits through a proxy that takes a while, as a network does. Nil without a proxy.
    static func distant(_ server: BenchmarkServer, milliseconds: Int) async throws -> Scenario? {
        guard let (distant, proxy) = try server.delayed(by: .milliseconds(milliseconds)) else { return nil }
        let flight = StatsRow.rows(100, keys: 100)
        // Enough to measure, and not for minutes.
        let rows = Array(flight.prefix(max(5, min(100, 60 / max(milliseconds, 1)))))
        let libpqRows = try LibPQ.Rows(rows)
        let libpqFlight = try LibPQ.Rows(flight)
        let naive = try await distant.connect()
        let inTransaction = try await distant.connect()
        let atomic = try await distant.connect()
        let isolated = try await distant.connect()
        let oneSync = try await distant.connect()
        let bulk = try await distant.connect()
        let libpq = try distant.connectLibPQ()
        let writer = UpsertWriter(try distant.pool(of: 8), StatsRow.upsert)
        let pairs = stride(from: 0, to: flight.count, by: 2).map { Array(flight[$0..<$0 + 2]) }
        let keeper = try await server.connect()
        return Scenario(
            name: "\(milliseconds) ms",
            explanation:
                "upserts of keys that are there, over TCP through a proxy that adds \(milliseconds) ms to a round trip",
            arms: [
                Arm(name: "naive", connections: [naive]) {
                    await tally(rows) { row in try await naive.upsertNaively(row) }
                },
                Arm(name: "naive in a transaction", connections: [inTransaction]) {
                    await tally(rows) { row in try await inTransaction.upsertNaivelyInTransaction(row) }
                },
                Arm(name: "atomic", connections: [atomic]) {
                    await tally(rows) { row in try await atomic.upsert(row) }
                },
                Arm(name: "pipeline of 100", connections: [isolated]) {
                    try await Tally.flights(1, of: flight.count) { tally in
                        try await isolated.upsertInPipeline(flight, .isolated, &tally)
                    }
                },
                Arm(name: "pipeline of 100, one Sync", connections: [oneSync]) {
                    try await Tally.flights(1, of: flight.count) { tally in
                        try await oneSync.upsertInPipeline(flight, .atomic, &tally)
                    }
                },
                Arm(name: "bulk of 100", connections: [bulk]) {
                    try await Tally.flights(1, of: flight.count) { _ in try await bulk.upsert(flight) }
                },
                Arm(name: "coalesced, 50 tasks", connections: []) {
                    await together(pairs.map { _ in writer }, parts: pairs) { writer, row in
                        try await writer.upsert(row)
                    }
                },
                Arm(name: "libpq naive", connections: []) { try libpq.tallyNaiveUpserts(libpqRows, rows.count) },
                Arm(name: "libpq atomic", connections: []) { try libpq.tallyUpserts(libpqRows, rows.count) },
                Arm(name: "libpq pipeline of 100", connections: []) {
                    try await Tally.flights(1, of: flight.count) { tally in
                        try libpq.pipeline(libpqFlight, flight.count, syncEach: true, &tally)
                    }
                },
                Arm(name: "libpq pipeline of 100, one Sync", connections: []) {
                    try await Tally.flights(1, of: flight.count) { tally in
                        try libpq.pipeline(libpqFlight, flight.count, syncEach: false, &tally)
                    }
                },
            ],
            place: Place(curve: .latency, x: Double(milliseconds)),
            // Nobody else uses this proxy, and `keeper` goes past it.
            proxyTurns: { proxy.connections.reduce(0) { $0 + $1.turns } },
            reset: {},
            tidyUp: {
                try await keeper.upsert(flight)
                try await keeper.execute("VACUUM stats")
            })
    }
}
