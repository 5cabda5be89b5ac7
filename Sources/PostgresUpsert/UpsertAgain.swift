public import Postgres

// Behind the failure of an upsert that asks for nothing back. What succeeds at once does not come here.

extension PostgresExecutor {
    /// Runs an upsert again, if nothing took effect and another attempt may end otherwise: after a deadlock or a serialization
    /// failure, as ``Upsert/retry(_:)`` says, or if its table was taken for another kind.
    ///
    /// - Throws: the error in the words of an upsert.
    @usableFromInline @inline(never)
    func runAgain<Row>(_ upsert: Upsert<Row, Never>, after failure: PostgresError) async throws(PostgresError) -> Int {
        let definition = upsert.definition
        do throws(PostgresError) {
            if definition.reconsiders(failure), commitsByItself { return try await upsertBatch(upsert).affected }
            if failure.isOfUnknownNullKey { return try await upsertBatch(upsert).affected }
            // A batch has been run again already.
            guard case .one = upsert.rows, failure.mayRunAgain else { throw failure }
            return try await upsertBatch(upsert, after: failure).affected
        } catch {
            throw await explained(error, definition)
        }
    }
}
