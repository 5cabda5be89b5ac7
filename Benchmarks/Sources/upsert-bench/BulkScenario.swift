import Measurement
import Postgres
import PostgresUpsert

extension Scenario {
    /// Rows in statements of `size` each: into an empty table, or on keys that are there.
    static func bulk(_ server: BenchmarkServer, rows size: Int, startsEmpty: Bool = true) async throws -> Scenario {
        let count = max(size, min(1000, 20 * size))
        let rows = StatsRow.rows(count, keys: count)
        let parts = stride(from: 0, to: count, by: size).map { Array(rows[$0..<min($0 + size, count)]) }
        let libpqRows = try parts.map { part throws(LibPQ.Failure) in try LibPQ.Rows(part) }
        let libpqArrays = try parts.map { part throws(LibPQ.Failure) in try LibPQ.Arrays(part) }
        let libpq = try server.connectLibPQ()
        let keeper = try await server.connect()
        var arms: [Arm] = []
        for strategy in BulkStrategy.allCases {
            let db = try await server.connect()
            let upsert = try await strategy.upsert(on: db, server)
            arms.append(
                Arm(name: strategy.rawValue, connections: [db]) {
                    try await Tally.flights(parts, of: size) { part in try await db.upsert(upsert.rows(part)) }
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
        var isFilled = startsEmpty
        return Scenario(
            name: "bulk, \(startsEmpty ? "" : "hits, ")\(size) rows",
            explanation: """
                \(count) rows \(startsEmpty ? "into an empty table" : "that are there"), \(size) in a statement, keys \
                ascending; latency is the statement's
                """,
            arms: arms,
            weight: max(3, count / 1000),
            place: Place(curve: startsEmpty ? .rows : .rowsOfHits, x: Double(size)),
            reset: { if startsEmpty { try await keeper.execute("TRUNCATE stats") } },
            tidyUp: {
                if startsEmpty { return }
                if !isFilled {
                    try await keeper.execute("TRUNCATE stats")
                    try await keeper.upsert(rows)
                    isFilled = true
                }
                try await keeper.execute("VACUUM stats")
            })
    }
}

/// How the rows of a bulk upsert travel.
enum BulkStrategy: String, CaseIterable {
    case unnest
    /// Of more than 1,024 rows several statements are made, in one transaction and one round trip.
    case values = "VALUES"
    case copy = "COPY staging"
    /// The one that takes arrays.
    case function = "database function"

    func upsert(on db: PostgresConnection, _ server: BenchmarkServer) async throws -> Upsert<StatsRow, Never> {
        switch self {
        case .unnest: StatsRow.upsert.strategy(.unnest)
        case .values: StatsRow.upsert.strategy(.values)
        case .copy: StatsRow.upsert.strategy(.copy)
        case .function: try await db.install(UpsertFunction("upsert_stats", in: server.schema, StatsRow.upsert))
        }
    }
}
