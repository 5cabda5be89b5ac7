public import Postgres

/// An upsert whose rows conflict by an exclusion constraint: those that it forbids are left out, and nothing else can be done about
/// them. A row may be kept out by several stored ones, so that there is none to update; PostgreSQL refuses to, and here there is no
/// modifier to say it with.
///
/// ```swift
/// struct Booking: PostgresTable {
///     ...
///     static let book = upsert.doNothing(onExclusionConstraint: "no_overlap")
/// }
/// let outcome = try await db.upsert(Booking.book(booking).outcomes()).one()      // inserted, or skipped
/// // INSERT INTO "bookings" ("room", "days") VALUES ($1, $2) ON CONFLICT ON CONSTRAINT "no_overlap" DO NOTHING RETURNING true
/// ```
public struct ExclusionUpsert<Row: PostgresTable, Output>: Sendable {
    let upsert: Upsert<Row, Output>

    /// The SQL text, as ``Upsert/sql``.
    public var sql: String { upsert.sql }

    /// Why it cannot be run; nil when it can.
    public var error: PostgresError? { upsert.error }

    /// The same upsert with another row.
    public func callAsFunction(_ row: Row) -> Self { Self(upsert: upsert(row)) }

    /// The same upsert with other rows, as ``Upsert/rows(_:)``.
    public func rows(_ rows: some Collection<Row>) -> Self { Self(upsert: upsert.rows(rows)) }

    /// The statement as a typed query, to join a pipeline: as ``Upsert/query``.
    public var query: PostgresQuery.Typed<Output> { upsert.query }
}

extension ExclusionUpsert: CustomStringConvertible {
    public var description: String { sql }
}

extension Upsert {
    /// Leaves rows out that an exclusion constraint forbids, named without quotes. Nothing else can be done about them, so what comes
    /// of it has no modifiers that update.
    ///
    /// SQL: `ON CONFLICT ON CONSTRAINT "no_overlap" DO NOTHING`
    public func doNothing(onExclusionConstraint name: String) -> ExclusionUpsert<Row, Output> {
        ExclusionUpsert(
            upsert: with(output) {
                $0.target = .exclusion(name)
                $0.restrain(.nothing, "doNothing()")
            })
    }
}

// Insert
extension ExclusionUpsert {
    /// Columns that are never sent, but `now()` on insert.
    public func touch(_ columns: PartialKeyPath<Row>...) -> Self {
        Self(upsert: upsert.with(upsert.output) { $0.touched += upsert.indices(columns, &$0) })
    }

    /// What becomes of values for identity columns, which are then sent: as ``Upsert/overriding(_:)``.
    public func overriding(_ overriding: UpsertOverriding) -> Self { Self(upsert: upsert.overriding(overriding)) }
}

// Result
extension ExclusionUpsert {
    /// Asks what became of each row: `inserted` or `skipped`.
    public func outcomes() -> ExclusionUpsert<Row, UpsertOutcome> where Output == Never {
        ExclusionUpsert<Row, UpsertOutcome>(upsert: upsert.outcomes())
    }

    /// Asks what became of each row, besides its columns.
    public func outcomes<Returned>() -> ExclusionUpsert<Row, UpsertedRow<Returned>> where Output == Returned? {
        ExclusionUpsert<Row, UpsertedRow<Returned>>(upsert: upsert.outcomes())
    }

    /// Asks for columns of each row as they are stored now; nil for a row that was left out.
    public func returning<each Value: PostgresDecodable>(
        _ columns: repeat any KeyPath<Row, each Value> & Sendable
    ) -> ExclusionUpsert<Row, (repeat each Value)?> where Output == Never {
        ExclusionUpsert<Row, (repeat each Value)?>(upsert: upsert.returning(repeat each columns))
    }

    /// Asks for columns of each row, besides what became of it.
    public func returning<each Value: PostgresDecodable>(
        _ columns: repeat any KeyPath<Row, each Value> & Sendable
    ) -> ExclusionUpsert<Row, UpsertedRow<(repeat each Value)>> where Output == UpsertOutcome {
        ExclusionUpsert<Row, UpsertedRow<(repeat each Value)>>(upsert: upsert.returning(repeat each columns))
    }

    /// Asks for the whole row as it is stored now; nil for a row that was left out.
    public func returningRow() -> ExclusionUpsert<Row, Row?> where Output == Never {
        ExclusionUpsert<Row, Row?>(upsert: upsert.returningRow())
    }

    /// Asks for the whole row, besides what became of it.
    public func returningRow() -> ExclusionUpsert<Row, UpsertedRow<Row>> where Output == UpsertOutcome {
        ExclusionUpsert<Row, UpsertedRow<Row>>(upsert: upsert.returningRow())
    }
}

// Batch
extension ExclusionUpsert {
    /// How the rows of a batch travel: as ``Upsert/strategy(_:)``.
    public func strategy(_ strategy: UpsertStrategy) -> Self { Self(upsert: upsert.strategy(strategy)) }

    /// How many rows, and bytes of parameters, one statement of a batch holds at most: as ``Upsert/chunks(rows:bytes:)``.
    public func chunks(
        rows: Int = UpsertThresholds.rowsPerStatement, bytes: Int = UpsertThresholds.bytesPerStatement
    ) -> Self {
        Self(upsert: upsert.chunks(rows: rows, bytes: bytes))
    }

    /// How often a batch runs at most that the server gives up: as ``Upsert/retry(_:)``.
    public func retry(_ retry: PostgresTransaction.Retry) -> Self { Self(upsert: upsert.retry(retry)) }
}
