import Measurement
import Postgres
import PostgresUpsert

extension Scenario {
    /// Hits on a server that waits for its disk, and on sessions of it that do not.
    static func durable(_ server: BenchmarkServer) async throws -> Scenario {
        let flight = StatsRow.rows(100, keys: 100)
        let rows = Array(flight.prefix(20))
        let keeper = try await server.connect()
        func connect(isSynchronous: Bool = true) async throws -> PostgresConnection {
            let db = try await server.connect()
            try await db.execute(isSynchronous ? "SET synchronous_commit = on" : "SET synchronous_commit = off")
            return db
        }
        let naive = try await connect()
        let inTransaction = try await connect()
        let atomic = try await connect()
        let relaxed = try await connect(isSynchronous: false)
        let isolated = try await connect()
        let oneSync = try await connect()
        let relaxedIsolated = try await connect(isSynchronous: false)
        func pipeline(_ name: String, _ db: PostgresConnection, _ sync: PostgresPipeline.Sync) -> Arm {
            Arm(name: name, connections: [db]) {
                try await Tally.flights(1, of: flight.count) { tally in
                    try await db.upsertInPipeline(flight, sync, &tally)
                }
            }
        }
        let fsync = server.settings.first { $0.name == "fsync" }?.value ?? "unknown"
        return Scenario(
            name: "durable",
            explanation:
                "20 operations on keys that are there, or a flight of 100; fsync \(fsync), synchronous_commit on unless it says off",
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
                Arm(name: "atomic, synchronous_commit off", connections: [relaxed]) {
                    await tally(rows) { row in try await relaxed.upsert(row) }
                },
                pipeline("pipeline of 100", isolated, .isolated),
                pipeline("pipeline of 100, one Sync", oneSync, .atomic),
                pipeline("pipeline of 100, synchronous_commit off", relaxedIsolated, .isolated),
            ],
            reset: {},
            tidyUp: {
                try await keeper.upsert(flight)
                try await keeper.execute("VACUUM stats")
            })
    }
}
