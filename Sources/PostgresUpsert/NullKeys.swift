public import Postgres

/// What becomes of a row whose conflict key holds NULL.
enum NullKeys: Sendable {
    /// It is sent, and never conflicts unless its index says NULLS NOT DISTINCT.
    case sent
    case rejected
    /// Sent where the index says NULLS NOT DISTINCT.
    case rejectedWhereDistinct
}

/// What an upsert conflicts by, as far as it matters for NULL.
struct NullKeyTarget: Hashable, Sendable {
    var constraint: String?
    var columns: [Int]
    var predicate: [UpsertFragment.Piece]
}

/// It is not known yet whether NULL conflicts.
private struct UnknownNullKey: Error {}

extension PostgresError {
    /// Nothing was sent, as the server has to be asked first whether NULL conflicts.
    var isOfUnknownNullKey: Bool { underlying is UnknownNullKey }
}

extension UpsertShape {
    /// Nil where only the server knows the key.
    func nullKeyTarget<Row>(_ layout: TableLayout<Row>) -> NullKeyTarget? {
        guard let key = conflictKey(layout) else { return nil }
        var target = NullKeyTarget(columns: key.sorted(), predicate: [])
        switch self.target {
        case .constraint(let name, _): target.constraint = name
        case .columns(_, let predicate?): target.predicate = predicate.pieces
        default: break
        }
        return target
    }
}

extension UpsertPlan {
    /// A row's key holds NULL.
    func checkNullKey() throws(PostgresError) {
        switch shape.nullKeys {
        case .sent: return
        case .rejected:
            throw nullKey(
                "holds NULL, and so would never conflict",
                hint: "where its index says NULLS NOT DISTINCT: rejectingNullKeys(unlessNotDistinct: true)")
        case .rejectedWhereDistinct:
            let target = shape.nullKeyTarget(layout)
            guard let notDistinct = target.flatMap({ layout.memory.nullsNotDistinct($0) }) else {
                throw nullKey(
                    "holds NULL, and it is not known whether its index says NULLS NOT DISTINCT",
                    hint: "before the upsert joins a pipeline: db.prepareNullKeys(of: upsert)", UnknownNullKey())
            }
            if !notDistinct {
                throw nullKey(
                    "holds NULL, and so would never conflict: its index does not say NULLS NOT DISTINCT",
                    hint: "db.check(\(Row.self).self, upsert) shows the DDL")
            }
        }
    }

    private func nullKey(_ what: String, hint: String, _ underlying: (any Error)? = nil) -> PostgresError {
        let names = sortKey.map { "\"\(columns[$0].name)\"" }.joined(separator: ", ")
        return PostgresError(
            code: .invalidArgument, message: "table \"\(layout.name)\": a row's key (\(names)) \(what)", hint: hint,
            underlying: underlying)
    }
}

extension PostgresExecutor {
    /// Binds rows; asks the server first, if that depends on what NULL means to it.
    func bind<Row, Output, Bound>(
        _ upsert: Upsert<Row, Output>, _ bind: () throws(PostgresError) -> Bound
    ) async throws(PostgresError) -> Bound {
        do throws(PostgresError) { return try bind() } catch {
            guard error.isOfUnknownNullKey else { throw error }
        }
        try await prepareNullKeys(of: upsert)
        return try bind()
    }

    /// Learns whether NULL conflicts by the index of an upsert, for ``Upsert/rejectingNullKeys(unlessNotDistinct:)``.
    ///
    /// Running the upsert does it by itself when the first NULL comes. Needed only before it joins a pipeline by its
    /// ``Upsert/query``. It is remembered for all upserts of the table that conflict by the same columns; call it again after the
    /// index was made anew.
    ///
    /// SQL: a query on `pg_index`.
    public func prepareNullKeys<Row, Output>(of upsert: Upsert<Row, Output>) async throws(PostgresError) {
        let layout = upsert.definition.layout
        if let failure = upsert.error { throw failure }
        guard let target = upsert.definition.shape.nullKeyTarget(layout) else { return }
        let names = target.columns.map { layout.columns[$0].name }
        let indexes = try await uniqueIndexes(of: Row.self)
        // Where several fit, a row that conflicts by any of them conflicts.
        let notDistinct = indexes.contains { index in
            guard index.nullsNotDistinct, index.isValid, index.covers(names) else { return false }
            if let constraint = target.constraint { return index.constraint == constraint }
            return index.predicate == nil || !target.predicate.isEmpty
        }
        layout.memory.note(target, nullsNotDistinct: notDistinct)
    }
}
