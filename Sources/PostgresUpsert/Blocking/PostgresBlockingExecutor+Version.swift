public import Postgres

/// Optimistic locking, and upserts as functions, for the blocking API: those of the asynchronous API, run on the calling thread.
extension PostgresBlockingExecutor {
    /// Inserts a row, or overwrites the stored one if that has the version of the given row: as the form of
    /// ``Postgres/PostgresExecutor``.
    ///
    /// - Returns: the version that is stored now.
    /// - Throws: `staleVersion` with an ``UpsertStaleVersion`` that holds the stored row; `notWritten` if that has the version of the
    ///   given row and was left alone all the same.
    @discardableResult
    public func upsert<Row, Version>(_ upsert: VersionedUpsert<Row, Version>) throws(PostgresError) -> Version {
        try wait { (db) async throws(PostgresError) -> Version in try await db.upsert(upsert) }
    }

    /// The same, again and again: where the version is stale, `resolve` makes the change anew on the row as it is now.
    ///
    /// - Parameters:
    ///   - retry: how often it is tried, the first time included, and the pauses.
    ///   - limit: no further attempt begins after this time.
    ///   - resolve: gets the stored row, as it is behind the pause, and the one that could not be written.
    /// - Returns: the version that is stored now.
    /// - Throws: `staleVersion` of the last attempt; what `resolve` throws.
    @discardableResult
    public func upsert<Row, Version>(
        _ upsert: VersionedUpsert<Row, Version>, retry: PostgresTransaction.Retry, within limit: Duration? = nil,
        resolve: (_ current: Row, _ mine: Row) throws -> Row
    ) throws -> Version {
        try withoutActuallyEscaping(resolve) { resolve in
            let result = try wait { (db) async throws(PostgresError) -> Result<Version, any Error> in
                do {
                    return .success(
                        try await db.upsert(upsert, retry: retry, within: limit) { current, mine in
                            try resolve(current, mine)
                        })
                } catch { return .failure(error) }
            }
            return try result.get()
        }
    }

    /// Makes the functions of an upsert, unless they are there: as the form of ``Postgres/PostgresExecutor``.
    ///
    /// - Returns: an upsert that calls them.
    @discardableResult
    public func install<Row, Output>(
        _ function: UpsertFunction<Row, Output>
    ) throws(PostgresError) -> Upsert<Row, Output> {
        try wait { (db) async throws(PostgresError) -> Upsert<Row, Output> in try await db.install(function) }
    }

    /// Drops the functions of other versions of an upsert: as the form of ``Postgres/PostgresExecutor``.
    ///
    /// - Returns: their names and the types of their parameters, with schemas.
    @discardableResult
    public func dropStaleVersions<Row, Output>(
        of function: UpsertFunction<Row, Output>
    ) throws(PostgresError) -> [String] {
        try wait { (db) async throws(PostgresError) -> [String] in try await db.dropStaleVersions(of: function) }
    }
}
