import Postgres
import Synchronization

/// A shape on a table, with its texts, which are made on first use and shared by all copies of an upsert.
final class UpsertDefinition<Row>: Sendable {
    let layout: TableLayout<Row>
    let shape: UpsertShape
    private let one = AtomicLazyReference<UpsertPlan<Row>>()
    private let many = AtomicLazyReference<UpsertPlan<Row>>()

    init(layout: TableLayout<Row>, shape: UpsertShape) {
        self.layout = layout
        self.shape = shape
    }

    /// The statement for one row.
    var oneRow: UpsertPlan<Row> { one.load() ?? one.storeIfNil(plan(UpsertSQL.oneRow)) }
    /// The statement for any number of rows.
    var manyRows: UpsertPlan<Row> { many.load() ?? many.storeIfNil(plan(UpsertSQL.manyRows)) }

    private func plan(
        _ write: (UpsertShape, ResolvedUpsert, TableLayout<Row>) throws(PostgresError) -> UpsertStatement
    ) -> UpsertPlan<Row> {
        do {
            let resolved = try shape.resolve(layout)
            return UpsertPlan(layout, resolved, try write(shape, resolved, layout))
        } catch {
            return UpsertPlan(failure: error)
        }
    }
}

/// A finished text, and what binding rows to it takes.
final class UpsertPlan<Row>: Sendable {
    let text: PostgresQuery.Text
    /// Why there is no text.
    let failure: PostgresError?
    let answer: UpsertStatement.Answer
    /// The columns sent, a parameter each.
    let columns: [Column<Row>]
    let appendParameters: ContiguousArray<Column<Row>.AppendParameter>
    let elements: [ArrayElement]
    let constants: [UpsertFragment.Parameter]
    /// The columns that rows are sorted by, as positions in `columns`.
    let sortKey: [Int]
    /// Whether two rows of equal `sortKey` would be written twice, which the server refuses.
    let sortKeyIsConflictKey: Bool

    init(_ layout: TableLayout<Row>, _ resolved: ResolvedUpsert, _ statement: UpsertStatement) {
        text = PostgresQuery.Text(unsafeSQL: statement.sql)
        failure = nil
        answer = statement.answer
        columns = resolved.sent.map { layout.columns[$0] }
        appendParameters = ContiguousArray(columns.map { $0.appendParameter })
        elements = columns.map { ArrayElement($0) }
        constants = statement.constants
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
        sortKey = []
        sortKeyIsConflictKey = false
    }

    /// One row as parameters: one allocation.
    func query(_ row: borrowing Row) -> PostgresQuery {
        if let failure { return .failing(failure) }
        return withUnsafePointer(to: row) { row in
            PostgresQuery(text, parameterCount: appendParameters.count &+ constants.count) { encoder in
                appendParameters.withUnsafeBufferPointer { columns in
                    for append in columns { append(row, &encoder) }
                }
                appendConstants(to: &encoder)
            }
        }
    }

    func appendConstants(to encoder: inout PostgresEncoder) {
        for constant in constants {
            encoder.appendParameter(of: constant.type, format: constant.format) { encoder in
                if let bytes = constant.bytes { encoder.write(bytes) } else { encoder.writeNull() }
            }
        }
    }
}
