import Postgres
import PostgresUpsert

// Where a column stands for one of the upsert's table, that of another table does not compile.

func conflictTarget() {
    _ = Page.upsert.onConflict(\.path)
    // error: cannot convert value of type 'PartialKeyPath<Tag>' to expected argument type 'PartialKeyPath<Page>'
    _ = Page.upsert.onConflict(\Tag.name)
    // error: value of type 'Page' has no member 'name'
    _ = Page.upsert.onConflict(\.name)
    _ = Page.upsert.onConstraint("pages_pkey", \.path)
    // error: cannot convert value of type 'PartialKeyPath<Tag>' to expected argument type 'PartialKeyPath<Page>'
    _ = Page.upsert.onConstraint("pages_pkey", \Tag.name)
}

func update() {
    _ = Page.upsert.update(only: \.hits)
    // error: cannot convert value of type 'PartialKeyPath<Tag>' to expected argument type 'PartialKeyPath<Page>'
    _ = Page.upsert.update(only: \.title, \Tag.uses)
    _ = Page.upsert.update(except: \.hits)
    // error: cannot convert value of type 'PartialKeyPath<Tag>' to expected argument type 'PartialKeyPath<Page>'
    _ = Page.upsert.update(except: \Tag.uses)
    _ = Page.upsert.touch(\.fetchedAt)
    // error: cannot convert value of type 'PartialKeyPath<Tag>' to expected argument type 'PartialKeyPath<Page>'
    _ = Page.upsert.touch(\Tag.uses)
}

func set() {
    _ = Page.upsert.set(\.hits, to: 1)
    // error: to expected argument type 'KeyPath<Page, Int>'
    _ = Page.upsert.set(\Tag.uses, to: 1)
    _ = Page.upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }
    // error: has no dynamic member 'uses'
    _ = Page.upsert.set(\.hits) { $0.existing.uses }
    // error: value of type 'Page' has no member 'uses'
    _ = Page.upsert.set(\.uses) { _ in 1 }
    _ = Page.upsert.where { $0.excluded.hits > $0.existing.hits }
    // error: has no dynamic member 'uses'
    _ = Page.upsert.where { $0.excluded.uses > 1 }
}

func returning() {
    _ = Page.upsert.returning(\.hits, \.fetchedAt)
    // error: to expected argument type 'any KeyPath<Page, Int> & Sendable'
    _ = Page.upsert.returning(\Tag.uses)
    // error: value of type 'Page' has no member 'uses'
    _ = Page.upsert.returning(\.hits, \.uses)
    _ = Page.upsert.returningChange(\.hits)
    // error: to expected argument type 'any KeyPath<Page, Int> & Sendable'
    _ = Page.upsert.returningChange(\Tag.uses)
}

func version() {
    _ = Page.upsert.version(\.hits)
    // error: to expected argument type 'WritableKeyPath<Page, Int>'
    _ = Page.upsert.version(\Tag.uses)
    // error: requires that 'String' conform to 'UpsertVersion'
    _ = Page.upsert.version(\.path)
}

struct Declared {
    var path: String
    var hits: Int

    static let right = Table<Self>("declared") { Column("hits", \.hits) }
    // error: to expected argument type 'KeyPath<Declared, String>'
    static let foreign = Table<Self>("declared") { Column("name", \Tag.name) }
    // error: value of type 'Declared' has no member 'hit'
    static let misspelt = Table<Self>("declared") { Column("hits", \.hit) }
}
