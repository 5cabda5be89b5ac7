public import Postgres

extension PostgresError.Code {
    /// Two rows of one batch have the same key; `underlying` is an `UpsertDuplicateKeys`. Nothing was sent.
    public static let duplicateKeys = Self("client.duplicateKeys")
}

/// Which rows of a batch have the same key, by the bytes of the key as they would have been sent.
public struct UpsertDuplicateKeys: Error, Sendable, Hashable {
    /// Groups of indices into the rows that were given.
    public let groups: [[Int]]
}

/// One statement of a batch, with its rows bound.
struct UpsertStatementRows<Row>: Sendable {
    let query: PostgresQuery
    let plan: UpsertPlan<Row>
    /// Indices into the rows of the batch, in sending order; nil when it holds all of them as they lie.
    let order: [Int]?
    let count: Int
    /// The parameters' size, about.
    let bytes: Int
    /// Why it cannot be sent; only of a batch whose parts fail by themselves.
    var failure: PostgresError?
}

/// Rows as statements: mostly one.
struct UpsertBatch<Row>: Sendable {
    var statements: [UpsertStatementRows<Row>]
    /// How many rows are sent.
    var count: Int
    /// For each row that was given, the one that was sent for it; nil when that is itself.
    var representatives: [Int]?

    /// Where the answer of each row that was given stands among the answers of all statements.
    var positions: [Int] {
        var order: [Int]?
        if statements.count != 1 || statements[0].order != nil { order = statements.flatMap { $0.order ?? [] } }
        let positions = UpsertMatching.positions(count: count, order: order)
        return representatives?.map { positions[$0] } ?? positions
    }

    /// The rows that were given and travel in a statement.
    func inputs(of statement: UpsertStatementRows<Row>) -> [Int] {
        let sent = statement.order ?? Array(0..<statement.count)
        guard let representatives else { return sent.sorted() }
        let members = Set(sent)
        return representatives.indices.filter { members.contains(representatives[$0]) }
    }
}

/// How rows are cut into statements.
struct UpsertCut: Sendable {
    /// Exactly one statement, whatever its size: for a pipeline.
    var isSingle = false
    /// A statement for each row.
    var isByRow = false
    /// What cannot be sent of a batch fails by itself.
    var isIsolated = false
}

extension UpsertDefinition {
    /// The rows as statements: sorted by key over all of them, so that concurrent batches do not deadlock.
    ///
    /// Rows that lack columns are an exception: a statement has rows of one kind, and so each kind is sorted by itself. Batches of
    /// several kinds can deadlock with each other; then the server ends one, and `retry` runs it again.
    ///
    /// - Parameter placed: the same rows where errors shall say that they are, and at which place each is.
    func batch(
        _ rows: [Row], _ cut: UpsertCut = UpsertCut(), placed: (rows: [Row], origins: [Int])? = nil
    ) throws(PostgresError) -> UpsertBatch<Row> {
        let plan = plan(source(cut))
        if let failure = plan.failure { throw failure }
        if batching.strategy == .copy { throw layout.notStaged }
        try checkDuplicates()
        var sound = try soundRows(plan, rows, cut, placed)
        let order = sound.keys.order()
        if plan.sortKeyIsConflictKey, !order.duplicates.isEmpty {
            let kept = try distinct(rows, order.duplicates, plan)
            var batch = try self.batch(kept.rows, cut, placed: (kept.placed(among: rows), kept.origins))
            batch.representatives = kept.representatives
            return batch
        }
        // Behind the search for duplicates: who sends rows of one key one after another does so in their order.
        if order.holdsNull { try sound.checkNullKeys(plan, cut, placed?.origins) }
        var binder = BatchBinder(self, rows, sound.keys, cut, placed)
        let indices = sound.indices(order.indices)
        if plan.form.source != .row { binder.fail(sound.failures, plan) }
        if plan.form.source == .row {
            for index in order.indices ?? Array(rows.indices) { try binder.bind(row: index) }
        } else if !rows.isEmpty, sound.failures.count == rows.count {
            // None is left.
        } else if layout.fieldColumns.isEmpty {
            try binder.bind(plan, indices, 0..<(indices?.count ?? rows.count))
        } else {
            for (absent, indices) in plan.groups(of: rows, indices) {
                if isTooUneven(plan.form.source, absent: absent), !cut.isSingle {
                    for index in indices { try binder.bind(row: index) }
                } else {
                    try binder.bind(plan.variant(absent: absent), indices, 0..<indices.count)
                }
            }
        }
        if cut.isSingle, binder.statements.count != 1 { throw notOneStatement }
        return UpsertBatch(statements: binder.statements, count: rows.count)
    }

    /// Where rows come from, by what their columns allow.
    func source(_ cut: UpsertCut = UpsertCut()) -> UpsertForm.Source {
        if cut.isByRow || shape.action == .select { return .row }
        if shape.updatesFirst, shape.returnsRows || !layout.canBeArrays { return .row }
        let strategy: UpsertStrategy
        switch batching.strategy {
        case .automatic, .copy: strategy = layout.canBeArrays ? .unnest : .values
        case .unnest, .values: strategy = batching.strategy
        }
        if strategy == .unnest { return .arrays }
        let mustBeRows =
            UpsertSQL<Row>.cannotBeValues(shape, shape.action, evidence) != nil
            || batching.numbersRows && shape.returnsRows
        if mustBeRows, !cut.isSingle { return .row }
        return .values(1)
    }

    /// Whether rows that lack those columns cannot be told apart in a list of VALUES: without anything to update they are left alone.
    private func isTooUneven(_ source: UpsertForm.Source, absent: UInt64) -> Bool {
        guard case .values = source, let resolved = try? shape.resolve(layout, absent: absent) else { return false }
        return UpsertSQL<Row>.cannotBeValues(shape, resolved.action, evidence) != nil
    }

    private var notOneStatement: PostgresError {
        .upsert(
            "table \"\(layout.name)\": the rows do not fit into one statement of a pipeline",
            hint: "run the upsert by itself: db.upsert(...)")
    }
}

extension UpsertPlan {
    /// The keys that rows are sorted by.
    func keys(of rows: [Row]) throws(PostgresError) -> BatchKeys {
        var keyColumns: [PostgresEncoder] = []
        for position in sortKey {
            var encoder = PostgresEncoder(capacity: rows.count &* 24)
            try write(columns[position], of: rows, order: nil, to: &encoder)
            keyColumns.append(encoder)
        }
        return BatchKeys(columns: keyColumns, count: rows.count)
    }

    /// Cells of a column; `order` nil for all rows as they lie.
    func write(
        _ column: Column<Row>, of rows: [Row], order: [Int]?, to encoder: inout PostgresEncoder
    ) throws(PostgresError) {
        // `withUnsafeBufferPointer` carries a typed error through, but an inout argument only by capture.
        try rows.withUnsafeBufferPointer { (rows) throws(PostgresError) in
            guard let first = rows.baseAddress else { return }
            guard let order else { return try column.writeCells(first, nil, rows.count, &encoder) }
            try order.withUnsafeBufferPointer { (order) throws(PostgresError) in
                try column.writeCells(first, order.baseAddress, order.count, &encoder)
            }
        }
    }

    /// The rows that lack the same columns, each group in sending order.
    func groups(of rows: [Row], _ order: [Int]?) -> [(absent: UInt64, indices: [Int])] {
        var groups: [(absent: UInt64, indices: [Int])] = []
        rows.withUnsafeBufferPointer { rows in
            guard let first = rows.baseAddress else { return }
            var places: [UInt64: Int] = [:]
            for index in order ?? Array(rows.indices) {
                let absent = absent(first + index)
                if let place = places[absent] {
                    groups[place].indices.append(index)
                } else {
                    places[absent] = groups.count
                    groups.append((absent, [index]))
                }
            }
        }
        return groups.isEmpty ? [(0, [])] : groups
    }
}
