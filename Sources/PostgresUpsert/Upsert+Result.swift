public import Postgres

extension Upsert {
    /// Asks what became of each row.
    ///
    /// SQL: `RETURNING (xmax = 0)`, `RETURNING (old.tableoid IS NULL)` since PostgreSQL 18; see
    /// ``Postgres/PostgresExecutor/prepareOutcomes(of:)``. Of many rows that may be left out, by `doNothing()`, `where` or
    /// `ifChanged()`, each carries its number through the INSERT in a setting of the transaction, so that the rows written are told
    /// from the others whatever their keys are. A BEFORE trigger on the table must not do such an upsert into it.
    public func outcomes() -> Upsert<Row, UpsertOutcome> where Output == Never {
        with(.outcome) { $0.wantsOutcomes = true }
    }

    /// Asks what became of each row, besides its columns.
    public func outcomes<Returned>() -> Upsert<Row, UpsertedRow<Returned>> where Output == Returned? {
        let output = output
        let both = UpsertOutput<UpsertedRow<Returned>>(
            written: { (row, outcome) throws(PostgresError) -> UpsertedRow<Returned> in
                UpsertedRow(outcome: outcome ?? .notWritten, returned: try output.written(row, outcome))
            },
            leftOut: { (outcome) throws(PostgresError) -> UpsertedRow<Returned> in
                UpsertedRow(outcome: outcome, returned: nil)
            })
        return with(both) { $0.wantsOutcomes = true }
    }

    /// Asks for columns of each row as they are stored now; nil for a row that was not written.
    ///
    /// SQL: `RETURNING "hits", "fetched_at"`
    public func returning<each Value: PostgresDecodable>(
        _ columns: repeat any KeyPath<Row, each Value> & Sendable
    ) -> Upsert<Row, (repeat each Value)?> where Output == Never {
        let output = UpsertOutput<(repeat each Value)?>(
            written: { (row, _) throws(PostgresError) -> (repeat each Value)? in
                var columns = ColumnReader(row: row)
                let values = (repeat try columns.next((each Value).self))
                return Optional.some(values)
            },
            leftOut: { (_) throws(PostgresError) -> (repeat each Value)? in nil })
        var paths: [PartialKeyPath<Row>] = []
        for column in repeat each columns { paths.append(column) }
        return with(output) { $0.returning = indices(paths, &$0) }
    }

    /// Asks for columns of each row, besides what became of it.
    public func returning<each Value: PostgresDecodable>(
        _ columns: repeat any KeyPath<Row, each Value> & Sendable
    ) -> Upsert<Row, UpsertedRow<(repeat each Value)>> where Output == UpsertOutcome {
        let plain = Upsert<Row, Never>(rows: rows, definition: definition, output: .none)
        return plain.returning(repeat each columns).outcomes()
    }

    /// Asks for columns of each row as they are stored now and as they were before, which needs PostgreSQL 18; nil for a row that
    /// was not written.
    ///
    /// SQL: `RETURNING "hits", old."hits", (old.tableoid IS NULL)`
    ///
    /// - Throws: when it is run, `unsupported` on an older server, before the upsert is sent.
    public func returningChange<each Value: PostgresDecodable>(
        _ columns: repeat any KeyPath<Row, each Value> & Sendable
    ) -> Upsert<Row, UpsertChange<(repeat each Value)>?> where Output == Never {
        let output = UpsertOutput<UpsertChange<(repeat each Value)>?>(
            written: { (row, outcome) throws(PostgresError) -> UpsertChange<(repeat each Value)>? in
                var columns = ColumnReader(row: row)
                let new = (repeat try columns.next((each Value).self))
                if outcome == .inserted { return UpsertChange(old: nil, new: new) }
                return UpsertChange(old: (repeat try columns.next((each Value).self)), new: new)
            },
            leftOut: { (_) throws(PostgresError) -> UpsertChange<(repeat each Value)>? in nil })
        var paths: [PartialKeyPath<Row>] = []
        for column in repeat each columns { paths.append(column) }
        return with(output) {
            $0.returning = indices(paths, &$0)
            $0.wantsOldRow = true
            $0.wantsOutcomes = true
        }
    }

    /// Asks for the whole row as it is stored now; nil for a row that was not written.
    ///
    /// SQL: `RETURNING "path", "hits", "fetched_at"`
    public func returningRow() -> Upsert<Row, Row?> where Output == Never {
        let output = UpsertOutput<Row?>(
            written: { (row, _) throws(PostgresError) -> Row? in try Row(row: row) },
            leftOut: { (_) throws(PostgresError) -> Row? in nil })
        return with(output) { $0.returning = Array(definition.layout.columns.indices) }
    }

    /// Asks for the whole row, besides what became of it.
    public func returningRow() -> Upsert<Row, UpsertedRow<Row>> where Output == UpsertOutcome {
        Upsert<Row, Never>(rows: rows, definition: definition, output: .none).returningRow().outcomes()
    }
}

/// Reads a row's columns one after another, from the first; others may follow those that are read.
private struct ColumnReader {
    let row: PostgresRow
    var index = 0

    mutating func next<Column: PostgresDecodable>(_: Column.Type) throws(PostgresError) -> Column {
        defer { index += 1 }
        return try row.decode(index, as: Column.self)
    }
}
