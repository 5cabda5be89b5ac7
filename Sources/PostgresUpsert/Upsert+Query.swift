public import Postgres

extension Upsert {
    /// The statement with its rows bound.
    func bind() throws(PostgresError) -> UpsertBatch { try bind(plan) }

    func bind(_ plan: UpsertPlan<Row>) throws(PostgresError) -> UpsertBatch {
        switch rows {
        case .none: throw noRows
        case .one(let row):
            return UpsertBatch(query: try plan.query(row), order: nil)
        case .many(let rows): return try plan.batch(rows)
        }
    }

    /// Why it cannot be run, as far as that can be said without binding rows.
    var failure: PostgresError? {
        if case .none = rows { noRows } else { error }
    }

    private var noRows: PostgresError {
        .upsert("the upsert of table \"\(definition.layout.name)\" has no rows", hint: "upsert(row)")
    }

    /// Nil when there is nothing to send.
    @usableFromInline
    func bindUnlessEmpty() throws(PostgresError) -> PostgresQuery? {
        if case .many(let rows) = rows, rows.isEmpty, plan.failure == nil { return nil }
        return try bind().query
    }

    /// The statement as a typed query, to join a pipeline.
    ///
    /// ```swift
    /// let (page, total) = try await db.pipeline(.atomic, PageStats.bump(page).query, totalHits)
    /// print(try page.affected)
    /// ```
    /// Of many rows, answers come in the order in which the rows are sent: sorted by key. Of an upsert of one row, and of one
    /// that cannot leave rows out, a row that was not written has no answer. An upsert that cannot be run is a query that fails
    /// when it is run, before anything is sent.
    public var query: PostgresQuery.Typed<Output> {
        let plan = plan
        let query: PostgresQuery
        do throws(PostgresError) { query = try bind(plan).query } catch { query = .failing(error) }
        let output = output
        let definition = definition
        let isMatched = if case .matched = plan.answer { true } else { false }
        return PostgresQuery.Typed(query) { (row: PostgresRow) throws(PostgresError) -> Output in
            let shape = definition.shape
            let next = shape.returnedCount
            guard isMatched else { return try output.written(row, try shape.outcome(row, next)) }
            guard try row.decode(next + 1, as: Int?.self) != nil else {
                return try output.leftOut(shape.leftOutOutcome)
            }
            return try output.written(row, try shape.outcome(row, next + 3))
        }
    }
}

extension Upsert where Output == Never {
    // Apart from the general one, so that it is specialized where `Row` is known, and captures nothing.
    /// The statement as a query, to join a pipeline; how many rows it wrote is `affected` of its result.
    ///
    /// An upsert that cannot be run is a query that fails when it is run, before anything is sent.
    @inlinable
    public var query: PostgresQuery.Typed<Never> {
        let query: PostgresQuery
        do throws(PostgresError) {
            if case .one(let row) = rows { query = try definition.oneRow.query(row) } else { query = try bindRows() }
        } catch {
            query = .failing(error)
        }
        return PostgresQuery.Typed(query) { (_: PostgresRow) throws(PostgresError) -> Never in throw rowsOfNone() }
    }

    @usableFromInline
    func bindRows() throws(PostgresError) -> PostgresQuery { try bind().query }
}

@usableFromInline
func rowsOfNone() -> PostgresError {
    PostgresError(code: .unsupported, message: "an upsert without RETURNING has no rows", outcome: .succeeded)
}
