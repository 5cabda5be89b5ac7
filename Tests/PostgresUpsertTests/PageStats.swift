import Postgres
import PostgresUpsert

/// The table of most tests.
struct PageStats: PostgresTable, Equatable {
    var path: String
    var hits: Int
    var fetchedAt: PostgresTimestamp?

    /// No column.
    var lengthOfPath: Int { path.count }

    static let table = Table<Self>("page_stats", init: Self.init(path:hits:fetchedAt:)) {
        Column("path", \.path, .primaryKey)
        Column("hits", \.hits)
        Column("fetched_at", \.fetchedAt, .updatedAt)
    }

    static let bump = upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }

    init(path: String, hits: Int, fetchedAt: PostgresTimestamp? = nil) {
        self.path = path
        self.hits = hits
        self.fetchedAt = fetchedAt
    }
}

/// Every kind of column.
struct Article: PostgresTable {
    var id: Int
    var tenant: Int32
    var slug: String?
    var title: String
    var data: String
    var score: Double
    var words: Int
    var createdAt: PostgresTimestamp?
    var updatedAt: PostgresTimestamp?

    static let table = Table<Self>("articles", schema: "blog") {
        Column("id", \.id, .identity)
        Column("tenant", \.tenant, .primaryKey)
        Column("slug", \.slug, .primaryKey)
        Column("title", \.title)
        Column("data", \.data, type: "jsonb")
        Column("score", \.score)
        Column("words", \.words, .generated)
        Column("created_at", \.createdAt, .createdAt)
        Column("updated_at", \.updatedAt, .updatedAt)
    }

    static func sample(tenant: Int32 = 1, slug: String? = "a") -> Article {
        Article(id: 0, tenant: tenant, slug: slug, title: "T", data: "{}", score: 0.5, words: 0)
    }
}
