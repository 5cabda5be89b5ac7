import Postgres

/// A shape on a table, with its texts, which are made on first use and shared by all copies of an upsert.
///
/// Inlinable as far as one row needs it: specialized for the row type where that is known, binding is ten times as fast.
@usableFromInline
final class UpsertDefinition<Row>: Sendable {
    let layout: TableLayout<Row>
    let shape: UpsertShape
    let batching: UpsertBatching<Row>
    /// The statements that were given, if this is the call of a function.
    let calls: [UpsertPlan<Row>]
    @usableFromInline let one = LazyReference<UpsertPlan<Row>>()
    private let many = LazyReference<UpsertPlan<Row>>()
    /// Plans that were taken for `one` and are not any more: somebody may be reading them.
    private let retired = Lock<[UpsertPlan<Row>]>([])
    private let others = Lock<[UpsertForm: UpsertPlan<Row>]>([:])

    init(layout: TableLayout<Row>, shape: UpsertShape, batching: UpsertBatching<Row> = UpsertBatching()) {
        self.layout = layout
        self.shape = shape
        self.batching = batching
        calls = []
    }

    /// With statements that are given already, instead of those that the shape makes: calls of a function.
    convenience init(_ definition: UpsertDefinition<Row>, calls: [UpsertPlan<Row>]) {
        self.init(definition, batching: definition.batching, calls: calls)
    }

    /// The same statements, with rows treated otherwise.
    convenience init(_ definition: UpsertDefinition<Row>, batching: UpsertBatching<Row>) {
        self.init(definition, batching: batching, calls: definition.calls)
    }

    private init(_ definition: UpsertDefinition<Row>, batching: UpsertBatching<Row>, calls: [UpsertPlan<Row>]) {
        layout = definition.layout
        shape = definition.shape
        self.batching = batching
        self.calls = calls
        for plan in calls {
            switch plan.form {
            case UpsertForm(source: .row): _ = one.storeIfNil(plan)
            case UpsertForm(source: .arrays): _ = many.storeIfNil(plan)
            default: others.withLock { $0[plan.form] = plan }
            }
        }
    }

    /// The statement for one row.
    @inlinable var oneRow: UpsertPlan<Row> { one.load() ?? makeOneRow() }

    @usableFromInline @inline(never)
    func makeOneRow() -> UpsertPlan<Row> {
        one.storeIfNil(.make(layout, shape, UpsertForm(source: .row, hasSystemColumns: hasSystemColumns)))
    }

    /// The statement for any number of rows, as arrays.
    private var manyRows: UpsertPlan<Row> {
        many.load() ?? many.storeIfNil(.make(layout, shape, UpsertForm(source: .arrays)))
    }

    /// The statement that takes its rows from there.
    func plan(_ source: UpsertForm.Source) -> UpsertPlan<Row> {
        let isOfMany = source == .arrays || source == .stage
        return plan(
            UpsertForm(
                source: source, evidence: evidence, hasSystemColumns: hasSystemColumns,
                isNumbered: isOfMany && batching.numbersRows && shape.returnsRows && calls.isEmpty))
    }

    func plan(_ form: UpsertForm) -> UpsertPlan<Row> {
        if form == UpsertForm(source: .row) { return oneRow }
        if form == UpsertForm(source: .arrays) { return manyRows }
        if let plan = others.withLock({ $0[form] }) { return plan }
        let plan = UpsertPlan.make(layout, shape, form)
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

    /// False of a view where it matters.
    private var hasSystemColumns: Bool { !(shape.updatesFirst && layout.memory.isView) }
}

extension UpsertDefinition {
    /// Whether the server refused what was assumed of the table.
    func mayReconsider(_ error: PostgresError) -> Bool { error.server.map(shape.contradictsEvidence) ?? false }

    /// Takes back what was assumed of the table, if that is what the server refused. Nothing took effect then.
    ///
    /// - Parameter wasKnown: whether outcomes were prepared before this very attempt.
    /// - Returns: whether other statements are made from now on, and it may be run again.
    func reconsiders(_ error: PostgresError, wasKnown: Bool = false) -> Bool {
        guard let server = error.server, mayReconsider(error) else { return false }
        layout.memory.facts = nil
        guard shape.lacksSystemColumns(server) else { return wasKnown }
        layout.memory.noteView()
        if let guess = one.load(), guess.form.hasSystemColumns,
            let former = one.replace(plan(UpsertForm(source: .row, hasSystemColumns: false)))
        {
            retired.withLock { $0.append(former) }
        }
        return true
    }
}
