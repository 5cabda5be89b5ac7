public import Postgres

/// `INSERT ... ON CONFLICT`, as a value: built with modifiers that return a new value, pure until it is run, printable as SQL.
///
/// ```swift
/// struct PageStats: PostgresTable {
///     ...
///     static let bump = upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }
/// }
/// try await db.upsert(PageStats.bump(page))
/// // INSERT INTO "page_stats" ("path", "hits", "fetched_at") VALUES ($1, $2, now())
/// // ON CONFLICT ("path") DO UPDATE SET "hits" = "page_stats"."hits" + EXCLUDED."hits", "fetched_at" = now()
/// ```
/// Declare it once and run it often: its SQL text is made once, and all copies share it. Without modifiers every column that
/// was inserted is overwritten, except the key and identity, generated and created-at columns; updated-at columns are set to
/// `now()`.
///
/// `Output` is what is known of each row afterwards: `Never` (only a count), `UpsertOutcome` after `outcomes()`, the returned
/// columns after `returning(...)`, both in an `UpsertedRow`.
///
/// A mistake in it (a property that is no column, nothing to update, no key) is thrown when it is run, before anything is sent.
///
/// What PostgreSQL does, and no client can change:
///
/// - **Sequences have gaps.** Defaults are computed before the conflict is found, so every row that is updated or left out takes
///   a value of each sequence all the same. An int4 sequence of a hot table runs out though the table hardly grows:
///   ``updateFirst()``, or bigint.
/// - **Triggers.** BEFORE INSERT triggers fire for every row proposed, also if it is then updated, and what they change shows in
///   `excluded`. AFTER triggers fire for what was really done.
/// - **Partitioned tables.** A unique index holds the partition key, and so does what rows conflict by. A row whose partition does
///   not exist is an error (23514), and an update cannot move a row to another partition. Rules of one partition are not those
///   of another: a unique index on a single partition is no target.
/// - **Foreign tables and views.** Of a foreign table only `DO NOTHING` without a target is possible, as with
///   `onAnyConflict().doNothing()`. A view must be simple enough to be updated by itself. A table or a view
///   with rules for INSERT or UPDATE is refused (0A000).
/// - **Row security.** Besides the INSERT policies, DO UPDATE needs UPDATE policies, and SELECT policies to see the row. A row that
///   conflicts and may not be updated is an error (42501), not left out.
/// - **NULL** in a key never conflicts, unless the index says NULLS NOT DISTINCT: ``rejectingNullKeys(unlessNotDistinct:)``.
/// - **Locks.** A row that conflicts is locked, also if ``where(_:)`` or ``ifChanged()`` then leaves it alone.
/// - **Isolation.** At READ COMMITTED DO UPDATE sees the newest version of a row, also one that this statement's snapshot does
///   not. Above it, a row that came into being meanwhile is a serialization failure (40001).
///
/// MERGE is not used, and is no replacement: two that run at the same time both find no row, and one fails with a duplicate key.
/// Where it is the statement that is wanted, write it: `db.query("MERGE INTO ... RETURNING merge_action()")` (since 17).
public struct Upsert<Row: PostgresTable, Output>: Sendable {
    @usableFromInline let rows: UpsertRows<Row>
    @usableFromInline let definition: UpsertDefinition<Row>
    @usableFromInline let output: UpsertOutput<Output>

    @inlinable
    init(rows: UpsertRows<Row>, definition: UpsertDefinition<Row>, output: UpsertOutput<Output>) {
        self.rows = rows
        self.definition = definition
        self.output = output
    }

    /// The SQL text, `$1` for the first parameter: for one row, or for many when it holds many. How outcomes are told depends on
    /// the server and the table; until they are known, this is the text for a plain table before PostgreSQL 18.
    public var sql: String { plan.text.sql }

    /// Why it cannot be run; nil when it can.
    public var error: PostgresError? {
        if let failure = plan.failure { return failure }
        if case .one = rows { return nil }
        return definition.duplicatesFailure
    }

    var plan: UpsertPlan<Row> {
        guard case .many(let rows) = rows else { return definition.plan(.row) }
        let plan = definition.plan(definition.source())
        guard case .values = plan.form.source else { return plan }
        return plan.sized(min(max(1, rows.count), UpsertThresholds.rowsPerValues))
    }

    /// The same upsert with another row.
    @inlinable
    public func callAsFunction(_ row: Row) -> Self { Self(rows: .one(row), definition: definition, output: output) }

    /// The same upsert with other rows, in one statement if that is not too large: see ``chunks(rows:bytes:)``.
    ///
    /// SQL: `INSERT INTO "page_stats" ("path", "hits") SELECT * FROM unnest($1::text[], $2::int8[]) ON CONFLICT ...`
    public func rows(_ rows: some Collection<Row>) -> Self {
        Self(rows: .many(Array(rows)), definition: definition, output: output)
    }
}

/// What an upsert holds of rows.
@usableFromInline
enum UpsertRows<Row: Sendable>: Sendable {
    case none
    case one(Row)
    case many([Row])
}

extension Upsert where Output == Never {
    /// An upsert of one row.
    public init(_ row: Row) { self.init(rows: .one(row), definition: Row.table.upsert, output: .none) }

    /// An upsert of many rows. Two rows of one key are an error, unless ``duplicates(_:)`` says otherwise; the rows are sorted by
    /// key, so that concurrent batches do not deadlock.
    public init(_ rows: some Collection<Row>) {
        self.init(rows: .many(Array(rows)), definition: Row.table.upsert, output: .none)
    }
}

extension PostgresTable {
    /// The upsert of this table, without rows: a declaration to build on and to keep.
    public static var upsert: Upsert<Self, Never> {
        Upsert(rows: .none, definition: table.upsert, output: .none)
    }
}

extension Upsert: CustomStringConvertible {
    public var description: String { sql }
}
