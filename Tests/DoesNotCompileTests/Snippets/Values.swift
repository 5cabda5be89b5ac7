import Postgres
import PostgresUpsert

// A value, or an expression, of another type than the column's does not compile.

func constants(_ text: String, _ number: Int) {
    _ = Page.upsert.set(\.hits, to: number)
    // error: cannot convert value of type 'String' to expected argument type 'Int'
    _ = Page.upsert.set(\.hits, to: text)
    _ = Page.upsert.set(\.path, to: text)
    // error: cannot convert value of type 'Int' to expected argument type 'String'
    _ = Page.upsert.set(\.path, to: number)
    _ = Page.upsert.set(\.title, to: nil)
    // error: 'nil' is not compatible with expected argument type 'Int'
    _ = Page.upsert.set(\.hits, to: nil)
}

func expressions(_ text: String, _ number: Int) {
    _ = Page.upsert.set(\.path) { $0.excluded.path }
    // error: to expected argument type '(UpsertConflict<Page>) -> UpsertExpression<String>'
    _ = Page.upsert.set(\.path) { $0.excluded.hits }
    // error: to expected argument type '(UpsertConflict<Page>) -> UpsertExpression<String>'
    _ = Page.upsert.set(\.path) { $0.excluded.title }
    _ = Page.upsert.set(\.hits) { .greatest($0.existing.hits, .value(number)) }
    // error: cannot convert value of type 'UpsertExpression<String>' to expected argument type 'UpsertExpression<Int>'
    _ = Page.upsert.set(\.hits) { .greatest($0.existing.hits, $0.excluded.path) }
    // error: cannot convert value of type 'String' to expected argument type 'Int'
    _ = Page.upsert.set(\.hits) { .greatest($0.existing.hits, .value(text)) }
    _ = Page.upsert.set(\.path) { $0.existing.path.appending($0.excluded.path) }
    // error: UpsertExpression<String>
    _ = Page.upsert.set(\.path) { $0.existing.path + $0.excluded.path }
}

func conditions(_ text: String, _ number: Int) {
    _ = Page.upsert.where { $0.existing.path == .value(text) }
    // error: cannot convert value of type 'Int' to expected argument type 'String'
    _ = Page.upsert.where { $0.existing.path == .value(number) }
    // error: cannot convert value of type 'UpsertExpression<Int>' to expected argument type 'UpsertExpression<String>'
    _ = Page.upsert.where { $0.existing.path == $0.existing.hits }
    // error: to expected argument type '(UpsertConflict<Page>) -> UpsertExpression<Bool>'
    _ = Page.upsert.where { $0.existing.hits }
}

func fragments(_ text: String, _ number: Int) {
    _ = Page.upsert.set(\.hits) { .sql("\($0.existing.hits) * \(number)") }
    // error: requires that 'NoValue' conform to 'PostgresEncodable'
    _ = Page.upsert.set(\.hits) { .sql("\($0.existing.hits) * \(NoValue())") }
    _ = Page.upsert.onIndex("lower(path)")
    // error: cannot convert value of type 'String' to expected argument type 'UpsertFragment'
    _ = Page.upsert.onIndex(text)
    _ = Page.upsert.onConflict(\.path, where: "hits > 0")
    // error: cannot convert value of type 'String' to expected argument type 'UpsertFragment'
    _ = Page.upsert.onConflict(\.path, where: text)
}

struct NoValue {}

func keyed(_ db: PostgresConnection, _ text: String) async throws {
    try await db.upsert(into: "stats", key: ("name", text), set: ("total", 1))
    // error: requires that 'NoValue' conform to 'PostgresEncodable'
    try await db.upsert(into: "stats", key: ("name", text), set: ("total", NoValue()))
}
