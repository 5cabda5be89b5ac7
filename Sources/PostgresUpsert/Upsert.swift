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
    public var error: PostgresError? { plan.failure }

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
