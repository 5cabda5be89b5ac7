import Postgres
import PostgresUpsert

/// A row of the table that everything is measured on, declared as a user of the library would.
struct StatsRow: PostgresTable {
    var statsType: String
    var data: PostgresJSONText
    var fetchedAt: PostgresTimestamp?

    static let table = Table<Self>("stats", init: Self.init(statsType:data:fetchedAt:)) {
        Column("stats_type", \.statsType, .primaryKey)
        Column("data", \.data)
        Column("fetched_at", \.fetchedAt, .updatedAt)
    }

    static let createTable: PostgresQuery = """
        CREATE TABLE stats (
            stats_type text PRIMARY KEY, data jsonb NOT NULL, fetched_at timestamptz NOT NULL DEFAULT now())
        """

    /// Rows with about 100 bytes of data each, whose keys go round.
    static func rows(_ count: Int, keys: Int) -> [StatsRow] {
        (0..<count).map { number in
            let json = """
                {"count": \(number), "mean": 12.5, "tags": ["alpha", "beta", "gamma"], \
                "note": "the quick brown fox jumps"}
                """
            return StatsRow(statsType: key(number % keys), data: PostgresJSONText(json))
        }
    }

    // Digits in front, so that the order of the numbers is the order of the keys.
    static func key(_ number: Int) -> String { "key\(1_000_000 + number)" }
}

/// The statements of the naive pattern, and those that libpq prepares: the same texts as the library sends.
enum SQLText {
    static let upsert = Upsert(StatsRow(statsType: "", data: "{}")).sql
    static let bulkUpsert = Upsert([StatsRow(statsType: "", data: "{}")]).sql
    // $1 the key, $2 the data in all three.
    static let exists = "SELECT 1 FROM stats WHERE stats_type = $1"
    static let update = "UPDATE stats SET data = $2, fetched_at = now() WHERE stats_type = $1"
    static let insert = "INSERT INTO stats (stats_type, data) VALUES ($1, $2)"
    static let select = "SELECT $1::int4"
    static let fiveColumns =
        "SELECT i, i * 2::int8, 'row ' || i, i::float8, now() FROM generate_series(1, $1::int4) AS i"
}
