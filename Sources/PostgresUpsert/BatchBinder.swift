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
        do throws(PostgresError) {
            let query = try plan.query(rows[index])
            if let error = query.error { throw error }
            statements.append(
                UpsertStatementRows(query: query, plan: plan, order: [index], count: 1, bytes: query.byteCount))
        } catch {
            let error = error.located(inRow: origin(index))
            guard cut.isIsolated, !error.isOfUnknownNullKey else { throw error }
            fail(row: index, plan, error)
        }
    }

    /// Rows that are not sent.
    mutating func fail(_ failures: [Int: PostgresError], _ plan: UpsertPlan<Row>) {
        for (index, error) in failures.sorted(by: { $0.key < $1.key }) { fail(row: index, plan, error) }
    }

    private mutating func fail(row index: Int, _ plan: UpsertPlan<Row>, _ error: PostgresError) {
        statements.append(
            UpsertStatementRows(
                query: .failing(error), plan: plan, order: [index], count: 1, bytes: 0, failure: error))
    }

    private func origin(_ index: Int) -> Int { placed?.origins[index] ?? index }

    /// The statement, if it can be sent or may fail by itself.
    private func checked(_ statement: UpsertStatementRows<Row>) throws(PostgresError) -> UpsertStatementRows<Row> {
        guard let error = statement.query.error else { return statement }
        guard cut.isIsolated else { throw error }
        var failed = statement
        failed.failure = error
        return failed
    }

    /// Rows that have the same columns, those at `range` of the sending order.
    mutating func bind(_ plan: UpsertPlan<Row>, _ order: [Int]?, _ range: Range<Int>) throws(PostgresError) {
        if let failure = plan.failure {
            guard cut.isIsolated else { throw failure }
            for index in order?[range] ?? Array(rows.indices)[range] {
                fail(row: index, plan, failure.located(inRow: origin(index)))
            }
            return
        }
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
            statements.append(try checked(statement))
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
            return statements.append(try values(plan, order.map { Array($0[range]) } ?? Array(range)))
        }
        var start = range.lowerBound
        while start < range.upperBound {
            let size = powerOfTwo(notAbove: min(limit, range.upperBound - start))
            let slice = order.map { Array($0[start..<start + size]) } ?? Array(start..<start + size)
            try append(try values(plan, slice), plan, slice)
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
            try append(try values(plan, half), plan, half)
        }
    }

    private func values(_ plan: UpsertPlan<Row>, _ order: [Int]) throws(PostgresError) -> UpsertStatementRows<Row> {
        let plan = plan.sized(order.count)
        var bytes = 0
        let query = PostgresQuery(plan.text, parameterCount: plan.parameterCount) { encoder in
            append(order, plan, &encoder)
            bytes = encoder.byteCount
            plan.appendConstants(to: &encoder)
        }
        var statement = UpsertStatementRows(query: query, plan: plan, order: order, count: order.count, bytes: bytes)
        guard let error = query.error else { return statement }
        // Parameters know their column only.
        let bad = order.first { index in
            PostgresQuery(plan.text, parameterCount: plan.columns.count) { append([index], plan, &$0) }.error != nil
        }
        let located = bad.map { error.located(inRow: origin($0)) } ?? error
        guard cut.isIsolated else { throw located }
        statement.failure = located
        return statement
    }

    private func append(_ order: [Int], _ plan: UpsertPlan<Row>, _ encoder: inout PostgresEncoder) {
        rows.withUnsafeBufferPointer { rows in
            guard let first = rows.baseAddress else { return }
            for index in order {
                for append in plan.appendParameters { append(first + index, &encoder) }
            }
        }
    }

    private func powerOfTwo(notAbove limit: Int) -> Int {
        limit < 2 ? 1 : 1 << (Int.bitWidth - 1 - limit.leadingZeroBitCount)
    }
}
