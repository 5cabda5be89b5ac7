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

/// Rows bound to a statement, and the order in which they are sent.
struct UpsertBatch: Sendable {
    let query: PostgresQuery
    /// Input indices in sending order; nil when that is the order of the input.
    let order: [Int]?
}

extension UpsertPlan {
    /// Rows as one array a column, sorted by key.
    func batch(_ rows: [Row]) throws(PostgresError) -> UpsertBatch {
        if let failure { throw failure }
        guard let count = Int32(exactly: rows.count) else {
            throw .upsert("\(rows.count) rows are more than an array can hold")
        }
        var keyColumns: [PostgresEncoder] = []
        for position in sortKey {
            var encoder = PostgresEncoder(capacity: rows.count &* 24)
            try write(columns[position], of: rows, order: nil, to: &encoder)
            keyColumns.append(encoder)
        }
        let keys = BatchKeys(columns: keyColumns, count: rows.count)
        let order = keys.order()
        if sortKeyIsConflictKey, !order.duplicates.isEmpty { throw duplicateKeys(order.duplicates) }
        if case .matched = answer, order.holdsNull {
            throw .upsert(
                "a key of the batch is NULL, so it cannot be told what became of its row",
                hint: "upsert rows without a key apart, or do not ask for outcomes")
        }

        let query = PostgresQuery(text, parameterCount: parameterCount) { encoder in
            for position in columns.indices {
                let element = elements[position]
                encoder.appendParameter(of: PostgresType(oid: element.arrayOID)) {
                    (encoder: inout PostgresEncoder) throws(PostgresError) in
                    // An array: dimensions, flags, element type, and for the one dimension length and first index.
                    encoder.write(Int32(count == 0 ? 0 : 1))
                    encoder.write(Int32(0))
                    encoder.write(element.elementOID)
                    if count == 0 { return }
                    encoder.write(count)
                    encoder.write(Int32(1))
                    if let key = sortKey.firstIndex(of: position) {
                        keys.write(key, order: order.indices, to: &encoder)
                    } else {
                        try write(columns[position], of: rows, order: order.indices, to: &encoder)
                    }
                }
            }
            appendConstants(to: &encoder)
        }
        return UpsertBatch(query: query, order: order.indices)
    }

    private func write(
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

    private func duplicateKeys(_ groups: [[Int]]) -> PostgresError {
        let shown = groups.prefix(5).map { group in
            let indices = group.prefix(5).map(String.init).joined(separator: ", ")
            return group.count > 5 ? indices + ", ..." : indices
        }
        let names = sortKey.map { "\"\(columns[$0].name)\"" }.joined(separator: ", ")
        return PostgresError(
            code: .duplicateKeys,
            message: "rows of one batch have the same key (\(names)): \(shown.joined(separator: "; "))"
                + (groups.count > 5 ? "; and \(groups.count - 5) more keys" : ""),
            hint: "one statement cannot write a row twice: merge them first",
            underlying: UpsertDuplicateKeys(groups: groups))
    }
}
