import Postgres
import PostgresUpsert

// Rows that an exclusion constraint forbids can be left out. There is nothing to update them with.

private let byName = Page.upsert.doNothing(onExclusionConstraint: "one_path")

func updating() {
    _ = Page.upsert.doNothing().set(\.hits, to: 1)
    // error: has no member 'set'
    _ = byName.set(\.hits, to: 1)
    // error: has no member 'set'
    _ = byName.set(\.hits) { $0.excluded.hits }
    // error: has no member 'update'
    _ = byName.update(only: \.hits)
    // error: has no member 'update'
    _ = byName.update(except: \.hits)
    // error: has no member 'where'
    _ = byName.where { $0.excluded.hits > $0.existing.hits }
    // error: has no member 'ifChanged'
    _ = byName.ifChanged()
    // error: has no member 'doSelect'
    _ = byName.doSelect()
    // error: has no member 'updateFirst'
    _ = byName.updateFirst()
    // error: has no member 'version'
    _ = byName.version(\.hits)
}

func retargeting() {
    _ = Page.upsert.doNothing().onConflict(\.path)
    // error: has no member 'onConflict'
    _ = byName.onConflict(\.path)
    // error: has no member 'onConstraint'
    _ = byName.onConstraint("pages_pkey")
}

func withRows(_ db: PostgresConnection) async throws {
    try await db.upsert(byName(.sample))
    try await db.upsert(byName.rows([.sample]).outcomes())
    // error: has no member 'set'
    try await db.upsert(byName(.sample).set(\.hits, to: 1))
    // error: has no member 'set'
    try await db.upsert(byName.rows([.sample]).outcomes().set(\.hits, to: 1))
}
