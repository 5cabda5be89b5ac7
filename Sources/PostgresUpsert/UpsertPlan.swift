public import Postgres

/// A finished text, and what binding rows to it takes.
@usableFromInline
final class UpsertPlan<Row>: Sendable {
    @usableFromInline let text: PostgresQuery.Text
    /// Why there is no text.
    @usableFromInline let failure: PostgresError?
    /// Whether every row can be bound to this very text, unseen.
    @usableFromInline let isPlain: Bool
    let answer: UpsertStatement.Answer
    /// What is said of a row that was neither inserted nor updated.
    let leftOut: UpsertOutcome
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
    let form: UpsertForm
    let layout: TableLayout<Row>
    let shape: UpsertShape
    private let sizes = Lock<[Int: UpsertPlan<Row>]>([:])
    /// The plans of rows that have not all columns, by the columns that are absent.
    private let variants = Lock<[UInt64: UpsertPlan<Row>]>([:])

    static func make(_ layout: TableLayout<Row>, _ shape: UpsertShape, _ form: UpsertForm) -> UpsertPlan<Row> {
        do throws(PostgresError) {
            if form.evidence != .oldRow, shape.wantsOldRow, let facts = layout.memory.facts {
                throw layout.noOldRow(facts)
            }
            let resolved = try shape.resolve(layout, absent: form.absent)
            let statement = try UpsertSQL.statement(shape, resolved, layout, form)
            return UpsertPlan(layout, shape, form, resolved, statement)
        } catch {
            return UpsertPlan(layout, shape, form, failure: error)
        }
    }

    private init(
        _ layout: TableLayout<Row>, _ shape: UpsertShape, _ form: UpsertForm, _ resolved: ResolvedUpsert,
        _ statement: UpsertStatement
    ) {
        self.layout = layout
        self.shape = shape
        self.form = form
        text = TextCache.shared.text(statement.sql)
        failure = nil
        isPlain = layout.fieldColumns.isEmpty && shape.nullKeys == .sent
        answer = statement.answer
        leftOut = shape.leftOutOutcome(resolved.action)
        columns = resolved.sent.map { layout.columns[$0] }
        appendParameters = ContiguousArray(columns.map { $0.appendParameter })
        elements = columns.map { ArrayElement($0) }
        constants = statement.constants
        parameterCount = resolved.sent.count + constants.count
        sortKey = resolved.sortKey.compactMap { resolved.sent.firstIndex(of: $0) }
        sortKeyIsConflictKey = resolved.conflictKey != nil
    }

    /// The same rows bound to another text, which calls a function that holds this one.
    init(_ plan: UpsertPlan<Row>, calling sql: String) {
        layout = plan.layout
        shape = plan.shape
        form = UpsertForm(source: plan.form.source, evidence: plan.form.evidence)
        text = TextCache.shared.text(sql)
        failure = plan.failure
        isPlain = plan.isPlain
        answer = plan.answer
        leftOut = plan.leftOut
        columns = plan.columns
        appendParameters = plan.appendParameters
        elements = plan.elements
        constants = plan.constants
        parameterCount = plan.parameterCount
        sortKey = plan.sortKey
        sortKeyIsConflictKey = plan.sortKeyIsConflictKey
    }

    private init(_ layout: TableLayout<Row>, _ shape: UpsertShape, _ form: UpsertForm, failure: PostgresError) {
        self.layout = layout
        self.shape = shape
        self.form = form
        text = PostgresQuery.Text(unsafeSQL: "-- \(failure.message)")
        self.failure = failure
        isPlain = false
        answer = .count
        leftOut = .notWritten
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
        guard isPlain else {
            return try withUnsafePointer(to: row) { (row) throws(PostgresError) in try unevenQuery(row) }
        }
        return withUnsafePointer(to: row) { row in
            PostgresQuery(text, parameterCount: parameterCount) { encoder in
                appendParameters.withUnsafeBufferPointer { columns in
                    for append in columns { append(row, &encoder) }
                }
                if parameterCount > appendParameters.count { appendConstants(to: &encoder) }
            }
        }
    }

    /// A row that may lack columns, or the reason why none can be bound.
    @usableFromInline @inline(never)
    func unevenQuery(_ row: UnsafePointer<Row>) throws(PostgresError) -> PostgresQuery {
        let plan = variant(absent: absent(row))
        if let failure = plan.failure { throw failure }
        let query = PostgresQuery(plan.text, parameterCount: plan.parameterCount) { encoder in
            for append in plan.appendParameters { append(row, &encoder) }
            plan.appendConstants(to: &encoder)
        }
        if shape.nullKeys != .sent, query.error == nil, try plan.keys(of: [row.pointee]).order().holdsNull {
            try plan.checkNullKey()
        }
        return query
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

// Plans of other forms
extension UpsertPlan {
    /// The plan for so many rows of VALUES. Only those of powers of two are kept, lest they be too many.
    func sized(_ count: Int) -> UpsertPlan<Row> {
        if form.source == .values(count) { return self }
        var form = form
        form.source = .values(count)
        if count & (count - 1) != 0 { return UpsertPlan.make(layout, shape, form) }
        if let plan = sizes.withLock({ $0[count] }) { return plan }
        let plan = UpsertPlan.make(layout, shape, form)
        return sizes.withLock { sizes in
            if let first = sizes[count] { return first }
            sizes[count] = plan
            return plan
        }
    }

    /// The columns that a row has no value for.
    func absent(_ row: UnsafePointer<Row>) -> UInt64 {
        var absent: UInt64 = 0
        for (bit, index) in layout.fieldColumns.enumerated() where layout.columns[index].isAbsent?(row) == true {
            absent |= 1 << UInt64(bit)
        }
        return absent
    }

    static var variantLimit: Int { 256 }
    var variantCount: Int { variants.withLock { $0.count } }

    /// The plan that a row is bound to.
    func plan(of row: Row) -> UpsertPlan<Row> {
        if layout.fieldColumns.isEmpty { return self }
        return variant(absent: withUnsafePointer(to: row) { absent($0) })
    }

    /// The plan of rows without those columns.
    func variant(absent: UInt64) -> UpsertPlan<Row> {
        if absent == form.absent { return self }
        if let plan = variants.withLock({ $0[absent] }) { return plan }
        var form = form
        form.absent = absent
        let plan = UpsertPlan.make(layout, shape, form)
        return variants.withLock { variants in
            if let first = variants[absent] { return first }
            // As many as there are sets of columns: when it is full it starts again, as texts do.
            if variants.count >= Self.variantLimit { variants.removeAll() }
            variants[absent] = plan
            return plan
        }
    }
}
