import Measurement
import Postgres
import PostgresTesting
import PostgresUpsert

extension Scenario {
    /// Hits through a proxy that takes a while, as a network does.
    ///
    /// - Parameters:
    ///   - flightSizes: how many upserts are in flight together.
    ///   - isDurable: whether the server is the one that waits for its disk: then there are only the arms that a pipeline is
    ///     compared with, for each commit takes long.
    static func distant(
        _ server: BenchmarkServer, milliseconds: Int, flightSizes: [Int] = [10, 100, 1000], isDurable: Bool = false
    ) async throws -> Scenario {
        let (distant, proxy) = try server.delayed(by: .milliseconds(milliseconds))
        let all = StatsRow.rows(1000, keys: 1000)
        let flight = Array(all.prefix(100))
        // Enough to measure, and not for minutes.
        let rows = Array(flight.prefix(max(5, min(100, 60 / max(milliseconds, 1)))))
        let libpqRows = try LibPQ.Rows(rows)
        let naive = try await distant.connect()
        let inTransaction = try await distant.connect()
        let atomic = try await distant.connect()
        let ofFunction = try await distant.connect()
        let function = try await ofFunction.install(UpsertFunction("upsert_stats", in: server.schema, StatsRow.upsert))
        let bulk = try await distant.connect()
        let libpq = try distant.connectLibPQ()
        let writer = UpsertWriter(try distant.pool(of: 8), StatsRow.upsert)
        let pairs = stride(from: 0, to: flight.count, by: 2).map { Array(flight[$0..<$0 + 2]) }
        let keeper = try await server.connect()
        var arms = [
            Arm(name: "naive", connections: [naive]) {
                await tally(rows) { row in try await naive.upsertNaively(row) }
            },
            Arm(name: "naive in a transaction", connections: [inTransaction]) {
                await tally(rows) { row in try await inTransaction.upsertNaivelyInTransaction(row) }
            },
            Arm(name: "atomic", connections: [atomic]) {
                await tally(rows) { row in try await atomic.upsert(row) }
            },
            Arm(name: "database function", connections: [ofFunction]) {
                await tally(rows) { row in try await ofFunction.upsert(function(row)) }
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
        ]
        if isDurable { arms.removeAll { !["naive", "atomic", "libpq naive", "libpq atomic"].contains($0.name) } }
        for size in flightSizes {
            let rows = Array(all.prefix(size))
            for (ending, sync) in [("", PostgresPipeline.Sync.isolated), (", one Sync", .atomic)] {
                let db = try await distant.connect()
                arms.append(
                    Arm(name: "pipeline of \(size.grouped)\(ending)", connections: [db]) {
                        try await Tally.flights(1, of: size) { tally in
                            try await db.upsertInPipeline(rows, sync, &tally)
                        }
                    })
            }
        }
        for size in flightSizes {
            let rows = try LibPQ.Rows(Array(all.prefix(size)))
            for (ending, syncEach) in [("", true), (", one Sync", false)] {
                arms.append(
                    Arm(name: "libpq pipeline of \(size.grouped)\(ending)", connections: []) {
                        try await Tally.flights(1, of: size) { tally in
                            try libpq.pipeline(rows, size, syncEach: syncEach, &tally)
                        }
                    })
            }
        }
        return Scenario(
            name: "\(isDurable ? "durable, " : "")\(milliseconds) ms",
            explanation: """
                upserts of keys that are there, over TCP through a proxy that adds \(milliseconds) ms to a round trip\
                \(isDurable ? ", synchronous_commit on" : "")
                """,
            arms: arms,
            place: isDurable ? nil : Place(curve: .latency, x: Double(milliseconds)),
            // Nobody else uses this proxy, and `keeper` goes past it.
            proxyTurns: { proxy.connections.reduce(0) { $0 + $1.turns } },
            reset: {},
            tidyUp: {
                try await keeper.upsert(all)
                try await keeper.execute("VACUUM stats")
            })
    }
}
