import Postgres
import PostgresUpsert

// The tables of all snippets.

struct Page: PostgresTable {
    var path: String
    var hits: Int
    var title: String?
    var fetchedAt: PostgresTimestamp?

    static let table = Table<Self>("pages", init: Self.init(path:hits:title:fetchedAt:)) {
        Column("path", \.path, .primaryKey)
        Column("hits", \.hits)
        Column("title", \.title)
        Column("fetched_at", \.fetchedAt, .updatedAt)
    }

    static let sample = Page(path: "/", hits: 1)
}

struct Tag: PostgresTable {
    var name: String
    var uses: Int

    static let table = Table<Self>("tags", init: Self.init(name:uses:)) {
        Column("name", \.name, .primaryKey)
        Column("uses", \.uses)
    }

    static let sample = Tag(name: "new", uses: 1)
}
