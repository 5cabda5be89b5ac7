import Postgres

/// Binds rows to statements that are not larger than they may be.
struct BatchBinder<Row> {
    private let definition: UpsertDefinition<Row>
    private let rows: [Row]
    private let keys: BatchKeys
    private let cut: UpsertCut
    /// The same rows where errors shall say that they are.
    private let placed: (rows: [Row], origins: [Int])?
    private(set) var statements: [UpsertStatementRows<Row>] = []

    init(
        _ definition: UpsertDefinition<Row>, _ rows: [Row], _ keys: BatchKeys, _ cut: UpsertCut,
        _ placed: (rows: [Row], origins: [Int])? = nil
    ) {
        self.placed = placed
        self.definition = definition
        self.rows = rows
        self.keys = keys
        self.cut = cut
    }

    /// A row as a statement of its own.
    mutating func bind(row index: Int) throws(PostgresError) {
        let plan = definition.plan(.row).plan(of: rows[index])
        let query: PostgresQuery
        do throws(PostgresError) { query = try plan.query(rows[index]) } catch {
            throw error.with(message: "row \(placed?.origins[index] ?? index): \(error.message)")
        }
        statements.append(UpsertStatementRows(query: query, plan: plan, order: [index], count: 1, bytes: 0))
    }

    /// Rows that have the same columns, those at `range` of the sending order.
    mutating func bind(_ plan: UpsertPlan<Row>, _ order: [Int]?, _ range: Range<Int>) throws(PostgresError) {
        if let failure = plan.failure { throw failure }
        switch plan.form.source {
        case .arrays: try bindArrays(plan, order, range)
        default: try bindValues(plan, order, range)
        }
    }

    // MARK: Arrays

    private mutating func bindArrays(
        _ plan: UpsertPlan<Row>, _ order: [Int]?, _ range: Range<Int>
    ) throws(PostgresError) {
        let limit = cut.isSingle ? Int.max : definition.batching.rows
        if range.count > limit {
            // Pieces of about the same size.
            let pieces = (range.count + limit - 1) / limit
            for piece in 0..<pieces {
                let from = range.lowerBound + range.count * piece / pieces
                let to = range.lowerBound + range.count * (piece + 1) / pieces
                try bindArrays(plan, order, from..<to)
            }
            return
        }
        let isWhole = range.count == rows.count
        let slice = isWhole ? order : order.map { Array($0[range]) } ?? Array(range)
        let byteLimit = cut.isSingle || range.count < 2 ? Int.max : definition.batching.bytes
        if let statement = try arrays(plan, slice, range.count, byteLimit) {
            statements.append(statement)
        } else {
            let middle = range.lowerBound + range.count / 2
            try bindArrays(plan, order, range.lowerBound..<middle)
            try bindArrays(plan, order, middle..<range.upperBound)
        }
    }

    /// One array a column; nil when that is more than `byteLimit`.
    private func arrays(
        _ plan: UpsertPlan<Row>, _ order: [Int]?, _ rowCount: Int, _ byteLimit: Int
    ) throws(PostgresError) -> UpsertStatementRows<Row>? {
        guard let count = Int32(exactly: rowCount) else {
            throw .upsert("\(rowCount) rows are more than an array can hold")
        }
        var bytes = 0
        let source = placed?.rows ?? rows
        let sources = placed.map { placed in order?.map { placed.origins[$0] } ?? placed.origins } ?? order
        let query = PostgresQuery(plan.text, parameterCount: plan.parameterCount) { encoder in
            for position in plan.columns.indices {
                if bytes > byteLimit { return }
                let element = plan.elements[position]
                encoder.appendParameter(of: PostgresType(oid: element.arrayOID)) {
                    (encoder: inout PostgresEncoder) throws(PostgresError) in
                    // An array: dimensions, flags, element type, and for the one dimension length and first index.
                    encoder.write(Int32(count == 0 ? 0 : 1))
                    encoder.write(Int32(0))
                    encoder.write(element.elementOID)
                    if count == 0 { return }
                    encoder.write(count)
                    encoder.write(Int32(1))
                    if let key = plan.sortKey.firstIndex(of: position) {
                        keys.write(key, order: order, to: &encoder)
                    } else {
                        try plan.write(plan.columns[position], of: source, order: sources, to: &encoder)
                    }
                }
                bytes = encoder.byteCount
            }
            plan.appendConstants(to: &encoder)
        }
        if bytes > byteLimit { return nil }
        return UpsertStatementRows(query: query, plan: plan, order: order, count: rowCount, bytes: bytes)
    }

    // MARK: Values

    private mutating func bindValues(
        _ plan: UpsertPlan<Row>, _ order: [Int]?, _ range: Range<Int>
    ) throws(PostgresError) {
        if range.isEmpty { throw .upsert("table \"\(definition.layout.name)\": a list of VALUES needs rows") }
        // A Bind message counts its parameters in 16 bits.
        let fitting = max(1, (65_535 - plan.constants.count) / max(1, plan.columns.count))
        let limit =
            cut.isSingle ? fitting : min(fitting, UpsertThresholds.rowsPerValues, definition.batching.rows)
        if cut.isSingle, range.count <= limit {
            return statements.append(values(plan, order.map { Array($0[range]) } ?? Array(range)))
        }
        var start = range.lowerBound
        while start < range.upperBound {
            let size = powerOfTwo(notAbove: min(limit, range.upperBound - start))
            let slice = order.map { Array($0[start..<start + size]) } ?? Array(start..<start + size)
            try append(values(plan, slice), plan, slice)
            start += size
        }
    }

    /// A statement, or two of half its rows while it is too large.
    private mutating func append(
        _ statement: UpsertStatementRows<Row>, _ plan: UpsertPlan<Row>, _ slice: [Int]
    ) throws(PostgresError) {
        if statement.count < 2 || statement.bytes <= definition.batching.bytes { return statements.append(statement) }
        let middle = slice.count / 2
        for half in [Array(slice[..<middle]), Array(slice[middle...])] {
            try append(values(plan, half), plan, half)
        }
    }

    private func values(_ plan: UpsertPlan<Row>, _ order: [Int]) -> UpsertStatementRows<Row> {
        let plan = plan.sized(order.count)
        var bytes = 0
        let query = PostgresQuery(plan.text, parameterCount: plan.parameterCount) { encoder in
            rows.withUnsafeBufferPointer { rows in
                guard let first = rows.baseAddress else { return }
                for index in order {
                    for append in plan.appendParameters { append(first + index, &encoder) }
                }
            }
            bytes = encoder.byteCount
            plan.appendConstants(to: &encoder)
        }
        return UpsertStatementRows(query: query, plan: plan, order: order, count: order.count, bytes: bytes)
    }

    private func powerOfTwo(notAbove limit: Int) -> Int {
        limit < 2 ? 1 : 1 << (Int.bitWidth - 1 - limit.leadingZeroBitCount)
    }
}
