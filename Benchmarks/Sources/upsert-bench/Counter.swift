import Measurement
import Postgres
import PostgresUpsert

/// A row whose updates add up: what is missing from the sum was lost.
struct Counter: PostgresTable {
    var key: String
    var hits: Int64

    static let table = Table<Self>("counters", init: Self.init(key:hits:)) {
        Column("key", \.key, .primaryKey)
        Column("hits", \.hits)
    }

    static let bump = upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }

    static let createTable: PostgresQuery = "CREATE TABLE counters (key text PRIMARY KEY, hits int8 NOT NULL)"

    static func key(_ number: Int) -> String { "key\(1_000_000 + number)" }

    /// One more each, on keys that go round.
    static func increments(_ count: Int, keys: Int) -> [Counter] {
        (0..<count).map { Counter(key: key($0 % keys), hits: 1) }
    }

    /// One more each, on keys drawn at random, the same at each run.
    static func drawn(_ count: Int, keys: Int) -> [Counter] {
        var generator = SplitMix64(seed: 3)
        return (0..<count).map { _ in Counter(key: key(Int.random(in: 0..<keys, using: &generator)), hits: 1) }
    }

    static func sum(_ db: PostgresConnection) async throws(PostgresError) -> Int {
        try await db.query("SELECT coalesce(sum(hits), 0)::int8 FROM counters", as: Int.self).one()
    }
}
