import Postgres

/// One row of each key.
struct DistinctRows<Row> {
    var rows: [Row]
    /// For each row that was given, the place of the one that stands for it.
    var representatives: [Int]
    /// The place of each among the rows that were given; of a merged one, that of the first.
    var origins: [Int]
    /// Rows that were not given so, by the place of the first of those that they are merged from.
    var merged: [Int: Row]

    /// The rows that were given, with those that are sent at the places where errors shall say that they are.
    func placed(among given: [Row]) -> [Row] {
        var placed = given
        for (origin, row) in merged { placed[origin] = row }
        return placed
    }
}

extension UpsertDefinition {
    func checkDuplicates() throws(PostgresError) { if let error = duplicatesFailure { throw error } }

    /// Why what is said of rows of one key cannot be done. Rows of one key to which the predicate of a partial index does not apply
    /// are different rows of the table, and which they are only the server knows: none may stand for another. Of a key that only the
    /// server knows, it is not even known which rows have the same.
    var duplicatesFailure: PostgresError? {
        if case .fail = batching.duplicates.policy { return nil }
        if case .columns(_, predicate: .some) = shape.target {
            return .upsert(
                "table \"\(layout.name)\": duplicates(...) does not go with a partial index, outside of which rows of one key do"
                    + " not conflict", hint: "leave it out, and upsert rows of one key in different batches")
        }
        if shape.conflictKey(layout) != nil { return nil }
        return .upsert(
            "table \"\(layout.name)\": duplicates(...) needs to know the key columns",
            hint: "name them: .onConflict(\\.column), or .onConstraint(\"name\", \\.column)")
    }

    /// One row of each key, and for each row that was given the place of the one that stands for it.
    func distinct(
        _ rows: [Row], _ groups: [[Int]], _ plan: UpsertPlan<Row>
    ) throws(PostgresError) -> DistinctRows<Row> {
        // For each row that is not kept as it is: the first of its group.
        var firsts: [Int: Int] = [:]
        var replaced: [Int: Row] = [:]
        var lasts: [Int: Int] = [:]
        for group in groups {
            guard let first = group.first, let last = group.last else { continue }
            for index in group { firsts[index] = first }
            switch batching.duplicates.policy {
            case .fail: throw plan.duplicateKeys(groups)
            case .keepFirst: break
            case .keepLast:
                replaced[first] = rows[last]
                lasts[first] = last
            case .merge(let merge):
                replaced[first] = group.dropFirst().reduce(rows[first]) { merge($0, rows[$1]) }
            }
        }
        var kept: [Row] = []
        kept.reserveCapacity(rows.count)
        var representatives: [Int] = []
        representatives.reserveCapacity(rows.count)
        var origins: [Int] = []
        for (index, row) in rows.enumerated() {
            // A group's first row comes before its others, so its place is known.
            if let first = firsts[index], first != index {
                representatives.append(representatives[first])
            } else {
                representatives.append(kept.count)
                kept.append(replaced[index] ?? row)
                origins.append(lasts[index] ?? index)
            }
        }
        try checkMerged(replaced, rows, plan)
        // The last of a group was given as it is, at its own place.
        return DistinctRows(
            rows: kept, representatives: representatives, origins: origins, merged: lasts.isEmpty ? replaced : [:])
    }

    /// A row merged into one of another key would stand for rows that it has nothing to do with.
    private func checkMerged(
        _ replaced: [Int: Row], _ rows: [Row], _ plan: UpsertPlan<Row>
    ) throws(PostgresError) {
        guard case .merge = batching.duplicates.policy else { return }
        for (first, merged) in replaced.sorted(by: { $0.key < $1.key }) {
            guard try plan.keys(of: [rows[first], merged]).order().duplicates.isEmpty else { continue }
            throw .upsert(
                "table \"\(layout.name)\": the row merged from row \(first) and others has another key than they",
                hint: "the closure of .merge must keep the key")
        }
    }
}

extension UpsertPlan {
    func duplicateKeys(_ groups: [[Int]]) -> PostgresError {
        let shown = groups.prefix(5).map { group in
            let indices = group.prefix(5).map(String.init).joined(separator: ", ")
            return group.count > 5 ? indices + ", ..." : indices
        }
        let names = sortKey.map { "\"\(columns[$0].name)\"" }.joined(separator: ", ")
        return PostgresError(
            code: .duplicateKeys,
            message: "rows of one batch have the same key (\(names)): \(shown.joined(separator: "; "))"
                + (groups.count > 5 ? "; and \(groups.count - 5) more keys" : ""),
            hint:
                "one statement cannot write a row twice: say what to do with them, duplicates(.keepLast), or merge them",
            underlying: UpsertDuplicateKeys(groups: groups))
    }
}
