public import Postgres
import Synchronization

/// A shape on a table, with its texts, which are made on first use and shared by all copies of an upsert.
///
/// Inlinable as far as one row needs it: specialized for the row type where that is known, binding is ten times as fast.
@usableFromInline
final class UpsertDefinition<Row>: Sendable {
    let layout: TableLayout<Row>
    let shape: UpsertShape
    @usableFromInline let one = LazyReference<UpsertPlan<Row>>()
    private let many = LazyReference<UpsertPlan<Row>>()
    private let others = Mutex<[UpsertForm: UpsertPlan<Row>]>([:])

    init(layout: TableLayout<Row>, shape: UpsertShape) {
        self.layout = layout
        self.shape = shape
    }

    /// The statement for one row.
    @inlinable var oneRow: UpsertPlan<Row> { one.load() ?? makeOneRow() }

    @usableFromInline @inline(never)
    func makeOneRow() -> UpsertPlan<Row> { one.storeIfNil(makePlan(UpsertForm(source: .row))) }

    /// The statement for any number of rows.
    var manyRows: UpsertPlan<Row> { many.load() ?? many.storeIfNil(makePlan(UpsertForm(source: .arrays))) }

    /// The statement of a form.
    func plan(_ form: UpsertForm) -> UpsertPlan<Row> {
        if form.evidence == .lock { return form.source == .row ? oneRow : manyRows }
        if let plan = others.withLock({ $0[form] }) { return plan }
        let plan = makePlan(form)
        return others.withLock { others in
            if let first = others[form] { return first }
            others[form] = plan
            return plan
        }
    }

    /// How outcomes are told, by what is known of the table.
    var evidence: OutcomeEvidence {
        guard shape.needsEvidence else { return .lock }
        return layout.memory.facts?.evidence ?? (shape.wantsOldRow ? .oldRow : .lock)
    }

    private func makePlan(_ form: UpsertForm) -> UpsertPlan<Row> {
        do throws(PostgresError) {
            if form.evidence != .oldRow, shape.wantsOldRow, let facts = layout.memory.facts {
                throw layout.noOldRow(facts)
            }
            let resolved = try shape.resolve(layout)
            return UpsertPlan(layout, resolved, try UpsertSQL.statement(shape, resolved, layout, form))
        } catch {
            return UpsertPlan(failure: error)
        }
    }
}

/// A finished text, and what binding rows to it takes.
@usableFromInline
final class UpsertPlan<Row>: Sendable {
    @usableFromInline let text: PostgresQuery.Text
    /// Why there is no text.
    @usableFromInline let failure: PostgresError?
    let answer: UpsertStatement.Answer
    /// The columns sent, a parameter each.
    let columns: [Column<Row>]
    @usableFromInline let appendParameters: ContiguousArray<Column<Row>.AppendParameter>
    let elements: [ArrayElement]
    let constants: [UpsertFragment.Parameter]
    @usableFromInline let parameterCount: Int
    /// The columns that rows are sorted by, as positions in `columns`.
    let sortKey: [Int]
    /// Whether two rows of equal `sortKey` would be written twice, which the server refuses.
    let sortKeyIsConflictKey: Bool

    init(_ layout: TableLayout<Row>, _ resolved: ResolvedUpsert, _ statement: UpsertStatement) {
        text = TextCache.shared.text(statement.sql)
        failure = nil
        answer = statement.answer
        columns = resolved.sent.map { layout.columns[$0] }
        appendParameters = ContiguousArray(columns.map { $0.appendParameter })
        elements = columns.map { ArrayElement($0) }
        constants = statement.constants
        parameterCount = resolved.sent.count + constants.count
        sortKey = resolved.sortKey.compactMap { resolved.sent.firstIndex(of: $0) }
        sortKeyIsConflictKey = resolved.conflictKey != nil
    }

    init(failure: PostgresError) {
        text = PostgresQuery.Text(unsafeSQL: "-- \(failure.message)")
        self.failure = failure
        answer = .count
        columns = []
        appendParameters = []
        elements = []
        constants = []
        parameterCount = 0
        sortKey = []
        sortKeyIsConflictKey = false
    }

    /// One row as parameters: one allocation.
    @inlinable
    func query(_ row: borrowing Row) throws(PostgresError) -> PostgresQuery {
        if let failure { throw failure }
        return withUnsafePointer(to: row) { row in
            PostgresQuery(text, parameterCount: parameterCount) { encoder in
                appendParameters.withUnsafeBufferPointer { columns in
                    for append in columns { append(row, &encoder) }
                }
                if parameterCount > appendParameters.count { appendConstants(to: &encoder) }
            }
        }
    }

    @usableFromInline
    func appendConstants(to encoder: inout PostgresEncoder) {
        for constant in constants {
            encoder.appendParameter(of: constant.type, format: constant.format) { encoder in
                if let bytes = constant.bytes { encoder.write(bytes) } else { encoder.writeNull() }
            }
        }
    }
}
