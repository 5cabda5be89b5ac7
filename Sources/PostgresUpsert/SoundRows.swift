import Postgres

/// The keys of the rows of a batch, and what is wrong with those that cannot be sent.
struct SoundRows {
    /// With NULL for a key that cannot be encoded: it equals nothing.
    var keys: BatchKeys
    /// Rows that fail by themselves. None where an error takes the whole batch with it.
    var failures: [Int: PostgresError] = [:]

    /// The rows that are sent, in sending order; nil for all of them as they lie.
    func indices(_ order: [Int]?) -> [Int]? {
        if failures.isEmpty { return order }
        let all = order ?? Array(0..<keys.count)
        return all.filter { failures[$0] == nil }
    }

    /// Some keys hold NULL.
    mutating func checkNullKeys<Row>(
        _ plan: UpsertPlan<Row>, _ cut: UpsertCut, _ origins: [Int]?
    ) throws(PostgresError) {
        do throws(PostgresError) { try plan.checkNullKey() } catch {
            guard cut.isIsolated, !error.isOfUnknownNullKey else { throw error }
            for index in keys.rowsHoldingNull() where failures[index] == nil {
                failures[index] = error.located(inRow: origins?[index] ?? index)
            }
        }
    }
}

extension UpsertDefinition {
    /// The keys that rows are sorted by.
    ///
    /// - Throws: of a key that cannot be encoded, unless rows fail by themselves. Two rows of one key, where they are an error, come
    ///   before it: whoever sends them one after another, as a writer does, must not have parted them by then.
    func soundRows(
        _ plan: UpsertPlan<Row>, _ rows: [Row], _ cut: UpsertCut, _ placed: (rows: [Row], origins: [Int])? = nil
    ) throws(PostgresError) -> SoundRows {
        do throws(PostgresError) { return SoundRows(keys: try plan.keys(of: rows)) } catch {
            let sound = plan.keysOneByOne(rows, placed)
            if cut.isIsolated { return sound }
            guard case .fail = batching.duplicates.policy, plan.sortKeyIsConflictKey else { throw error }
            let duplicates = sound.keys.order().duplicates
            throw duplicates.isEmpty ? error : plan.duplicateKeys(duplicates)
        }
    }
}

extension UpsertPlan {
    fileprivate func keysOneByOne(_ rows: [Row], _ placed: (rows: [Row], origins: [Int])?) -> SoundRows {
        var failures: [Int: PostgresError] = [:]
        var keyColumns = sortKey.map { _ in PostgresEncoder(capacity: rows.count &* 24) }
        for index in rows.indices {
            var cells: [PostgresEncoder] = []
            do throws(PostgresError) {
                for position in sortKey {
                    var cell = PostgresEncoder(capacity: 24)
                    let place = placed?.origins[index] ?? index
                    try write(columns[position], of: placed?.rows ?? rows, order: [place], to: &cell)
                    cells.append(cell)
                }
            } catch {
                failures[index] = error
                var null = PostgresEncoder(capacity: 4)
                null.write(Int32(-1))
                cells = sortKey.map { _ in null }
            }
            for (column, cell) in cells.enumerated() { keyColumns[column].append(cell) }
        }
        return SoundRows(keys: BatchKeys(columns: keyColumns, count: rows.count), failures: failures)
    }
}

extension PostgresError {
    /// The same error with the row that it is about. Of a value that could not be encoded it names the column.
    func located(inRow row: Int) -> PostgresError {
        with(message: "row \(row)\(message.hasPrefix("column ") ? "," : ":") \(message)")
    }
}
