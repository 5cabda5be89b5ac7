import Postgres
import PostgresUpsert

// An upsert takes rows of its own table, and tells of them what was asked for.

func binding() {
    _ = Page.upsert(.sample)
    // error: cannot convert value of type 'Tag' to expected argument type 'Page'
    _ = Page.upsert(Tag.sample)
    _ = Page.upsert.rows([.sample])
    // error: cannot convert value of type 'Tag' to expected element type 'Page'
    _ = Page.upsert.rows([Tag.sample])
    _ = Page.upsert.duplicates(.merge { first, _ in first })
    // error: cannot convert value of type 'Tag' to closure result type 'Page'
    _ = Page.upsert.duplicates(.merge { _, _ in Tag.sample })
}

func running(_ db: PostgresConnection) async throws {
    try await db.upsert(Page.sample)
    // error: no exact matches in call to instance method 'upsert'
    try await db.upsert(1)
    let affected: Int = try await db.upsert(Page.upsert(.sample))
    // error: cannot convert
    let outcome: UpsertOutcome = try await db.upsert(Page.upsert(.sample))
    let hits: Int? = try await db.upsert(Page.upsert(.sample).returning(\.hits)).one()
    // error: cannot
    let path: String? = try await db.upsert(Page.upsert(.sample).returning(\.hits)).one()
    _ = (affected, outcome, hits, path)
}

func streaming(_ db: PostgresConnection, _ pages: AsyncStream<Page>, _ tags: AsyncStream<Tag>) async throws {
    try await db.upsert(Page.upsert, from: pages)
    // error: requires the types 'Page' and 'Tag' be equivalent
    try await db.upsert(Page.upsert, from: tags)
    // error: to expected argument type 'Upsert<Page, Never>'
    try await db.upsert(Page.upsert.outcomes(), from: pages)
}

func writing(_ client: PostgresClient, _ pages: AsyncStream<Page>, _ tags: AsyncStream<Tag>) async throws {
    let writer = UpsertWriter(client, Page.upsert.returning(\.hits))
    let hits: Int? = try await writer.upsert(.sample)
    // error: cannot assign value of type 'Int?' to type 'String?'
    let path: String? = try await writer.upsert(Page.sample)
    // error: cannot convert value of type 'Tag' to expected argument type 'Page'
    try await writer.upsert(Tag.sample)
    try await writer.upsert(contentsOf: pages)
    // error: requires the types 'Page' and 'Tag' be equivalent
    try await writer.upsert(contentsOf: tags)
    _ = (hits, path)
}

func writingInATransaction(_ client: PostgresClient) async throws {
    try await client.transaction { tx in
        try await tx.upsert(Page.sample)
        // error: no exact matches in call to initializer
        _ = UpsertWriter(tx, Page.upsert)
    }
}

func functions(_ db: PostgresConnection) async throws {
    let bump = try await db.install(UpsertFunction("bump_page", Page.upsert))
    try await db.upsert(bump(.sample))
    // error: cannot convert value of type 'Tag' to expected argument type 'Page'
    try await db.upsert(bump(Tag.sample))
}

struct Right: PostgresTable {
    let id: Int
    static let table = Table<Self>("rows") { Column("id", \.id, .primaryKey) }
    init(row: PostgresRow) throws(PostgresError) { id = try row["id"] }
}

// Rows cross to the thread that sends them.

final class Counter { var hits = 0 }

struct WithSharedState: PostgresTable {
    let id: Int
    // error: has non-Sendable type 'Counter'
    var counter = Counter()
    static let table = Table<Self>("rows") { Column("id", \.id, .primaryKey) }
    init(row: PostgresRow) throws(PostgresError) { id = try row["id"] }
}

final class Mutable: PostgresTable {
    // error: stored property 'id' of 'Sendable'-conforming class 'Mutable' is mutable
    var id: Int
    static let table = Table<Mutable>("rows") { Column("id", \.id, .primaryKey) }
    init(row: PostgresRow) throws(PostgresError) { id = try row["id"] }
}
