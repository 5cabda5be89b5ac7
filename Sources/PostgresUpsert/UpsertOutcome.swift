public import Postgres

/// What became of a row.
public enum UpsertOutcome: Sendable, Hashable {
    /// There was no such row; it was inserted.
    case inserted
    /// There was one; it was overwritten.
    case updated
    /// There was one, and `ifChanged()` found it equal.
    case unchanged
    /// There was one, and it was left alone: by `doNothing()`, or because `where` was not true.
    case skipped
    /// It was neither inserted nor updated, for one of several reasons that cannot be told apart: `where` together with
    /// `ifChanged()`, or a trigger that suppressed it. (Where the upsert may leave rows out for one reason, a row that a trigger
    /// suppressed has the outcome of that.)
    case notWritten
}

/// What became of a row, and its columns.
public struct UpsertedRow<Returned> {
    public var outcome: UpsertOutcome
    /// The columns asked for; nil when the row was not written.
    public var returned: Returned?

    public init(outcome: UpsertOutcome, returned: Returned?) {
        self.outcome = outcome
        self.returned = returned
    }
}

extension UpsertedRow: Sendable where Returned: Sendable {}
extension UpsertedRow: Equatable where Returned: Equatable {}

/// Columns of a row that was written, before and after.
public struct UpsertChange<Values> {
    /// As they were; nil when the row was inserted.
    public var old: Values?
    /// As they are stored now.
    public var new: Values

    public init(old: Values?, new: Values) {
        self.old = old
        self.new = new
    }
}

extension UpsertChange: Sendable where Values: Sendable {}
extension UpsertChange: Equatable where Values: Equatable {}

/// What became of the rows of an upsert, in the order in which they were given.
public struct UpsertResult<Output>: RandomAccessCollection {
    let rows: [Output]
    /// How many rows were inserted or updated.
    public let affected: Int

    init(rows: [Output], affected: Int) {
        self.rows = rows
        self.affected = affected
    }

    /// Nil when there are rows to send.
    init?<Row>(emptyOf upsert: Upsert<Row, Output>) throws(PostgresError) {
        guard case .many(let rows) = upsert.rows, rows.isEmpty else { return nil }
        if let error = upsert.error { throw error }
        self.init(rows: [], affected: 0)
    }

    public var startIndex: Int { 0 }
    public var endIndex: Int { rows.count }
    public subscript(position: Int) -> Output { rows[position] }

    /// The returned columns of an upsert of one row, which must have been written.
    public func one<Returned>() throws(PostgresError) -> Returned where Output == Returned? {
        guard rows.count == 1 else { throw wrongCount }
        guard let returned = rows[0] else {
            throw PostgresError(code: .rowCount, message: "the row was not written", outcome: .succeeded)
        }
        return returned
    }

    fileprivate var wrongCount: PostgresError {
        PostgresError(code: .rowCount, message: "expected one row, got \(rows.count)", outcome: .succeeded)
    }
}

extension UpsertResult: Sendable where Output: Sendable {}

/// What an outcome can be read from.
public protocol UpsertOutcomeReporting {
    /// What became of the row.
    var outcome: UpsertOutcome { get }
}

extension UpsertOutcome: UpsertOutcomeReporting {
    public var outcome: UpsertOutcome { self }
}

extension UpsertedRow: UpsertOutcomeReporting {}

extension UpsertResult where Output: UpsertOutcomeReporting {
    /// The result of an upsert of one row.
    public func one() throws(PostgresError) -> Output {
        guard rows.count == 1 else { throw wrongCount }
        return rows[0]
    }

    /// What became of each row.
    public var outcomes: [UpsertOutcome] { rows.map { $0.outcome } }
}

extension UpsertResult {
    /// The columns of the rows that were written.
    public func returned<Returned>() -> [Returned] where Output == UpsertedRow<Returned> { rows.compactMap(\.returned) }
    /// The columns of the rows that were written.
    public func returned<Returned>() -> [Returned] where Output == Returned? { rows.compactMap { $0 } }
}

/// How an answer becomes what the caller asked for.
@usableFromInline
struct UpsertOutput<Output>: Sendable {
    /// From a row that was written. The outcome is nil when it was not asked for.
    let written: @Sendable (PostgresRow, UpsertOutcome?) throws(PostgresError) -> Output
    /// For a row that was not.
    let leftOut: @Sendable (UpsertOutcome) throws(PostgresError) -> Output
}

extension UpsertOutput where Output == Never {
    static var none: Self {
        Self(
            written: { (_, _) throws(PostgresError) -> Never in throw rowsOfNone() },
            leftOut: { (_) throws(PostgresError) -> Never in throw rowsOfNone() })
    }
}

extension UpsertOutput where Output == UpsertOutcome {
    static var outcome: Self {
        Self(
            written: { (_, outcome) throws(PostgresError) -> UpsertOutcome in outcome ?? .notWritten },
            leftOut: { (outcome) throws(PostgresError) -> UpsertOutcome in outcome })
    }
}
