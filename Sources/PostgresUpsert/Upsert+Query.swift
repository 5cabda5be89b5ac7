public import Postgres

extension Upsert {
    /// The one statement that it is, with its rows bound.
    func bind() throws(PostgresError) -> UpsertStatementRows<Row> {
        guard case .many(let rows) = rows else { return try bindRow() }
        let batch = try definition.batch(rows, UpsertCut(isSingle: true))
        guard let statement = batch.statements.first else { throw noRows }
        return statement
    }

    /// Its rows as statements.
    func batch(_ cut: UpsertCut = UpsertCut()) throws(PostgresError) -> UpsertBatch<Row> {
        if case .many(let rows) = rows { return try definition.batch(rows, cut) }
        if cut.isIsolated, case .one(let row) = rows {
            return try definition.batch([row], UpsertCut(isByRow: true, isIsolated: true))
        }
        return UpsertBatch(statements: [try bindRow()], count: 1)
    }

    private func bindRow() throws(PostgresError) -> UpsertStatementRows<Row> {
        guard case .one(let row) = rows else { throw noRows }
        let plan = definition.plan(.row).plan(of: row)
        return UpsertStatementRows(query: try plan.query(row), plan: plan, order: nil, count: 1, bytes: 0)
    }

    /// How many rows were given.
    var rowCount: Int {
        if case .many(let rows) = rows { rows.count } else { 1 }
    }

    /// Why it cannot be run, as far as that can be said without binding rows.
    var failure: PostgresError? {
        if case .none = rows { noRows } else { error }
    }

    private var noRows: PostgresError {
        .upsert("the upsert of table \"\(definition.layout.name)\" has no rows", hint: "upsert(row)")
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
        let statement: UpsertStatementRows<Row>
        do throws(PostgresError) { statement = try bind() } catch {
            return PostgresQuery.Typed(.failing(error)) { (_: PostgresRow) throws(PostgresError) -> Output in
                throw error
            }
        }
        let output = output
        let shape = definition.shape
        let plan = statement.plan
        let isMatched = if case .matched = plan.answer { true } else { false }
        return PostgresQuery.Typed(statement.query) { (row: PostgresRow) throws(PostgresError) -> Output in
            let next = shape.returnedCount
            guard isMatched else { return try output.written(row, try shape.outcome(row, next)) }
            guard try row.decode(next + 1, as: Int?.self) != nil else { return try output.leftOut(plan.leftOut) }
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

extension PostgresPipeline {
    /// Appends an upsert, as ``Upsert/query`` is one statement: answers of many rows come in the order of their keys.
    @discardableResult
    public mutating func upsert<Row, Output>(_ upsert: Upsert<Row, Output>) -> Ticket<Output> { add(upsert.query) }

    /// Appends an upsert; how many rows it wrote is `affected` of its result.
    @inlinable @discardableResult
    public mutating func upsert<Row>(_ upsert: Upsert<Row, Never>) -> Ticket<Never> { add(upsert.query) }
}

@usableFromInline
func rowsOfNone() -> PostgresError {
    PostgresError(code: .unsupported, message: "an upsert without RETURNING has no rows", outcome: .succeeded)
}
