extension PostgresClient {
    /// Runs a body in a transaction on a connection of its own: see
    /// ``PostgresConnection/transaction(isolation:readOnly:deferrable:retry:_:)``.
    @discardableResult
    public nonisolated(nonsending) func transaction<Success>(
        isolation: PostgresTransaction.Isolation = .serverDefault, readOnly: Bool = false, deferrable: Bool = false,
        retry: PostgresTransaction.Retry = .never,
        _ body: (PostgresTransaction) async throws -> Success
    ) async throws -> Success {
        // As `withConnection`; the result need not be sent anywhere.
        let lease = try await pool.acquire(.exclusive)
        do {
            let result = try await pool.connection(of: lease).transaction(
                isolation: isolation, readOnly: readOnly, deferrable: deferrable, retry: retry, body)
            pool.giveBackConnection(of: lease)
            return result
        } catch {
            pool.giveBackConnection(of: lease)
            throw error
        }
    }

    /// Runs a pipeline as one transaction, in one round trip: see
    /// ``PostgresConnection/transaction(_:isolation:readOnly:deferrable:retry:)``.
    @discardableResult
    public func transaction(
        _ pipeline: PostgresPipeline, isolation: PostgresTransaction.Isolation = .serverDefault,
        readOnly: Bool = false, deferrable: Bool = false, retry: PostgresTransaction.Retry = .never
    ) async throws -> PostgresPipeline.Results {
        try await withConnection { connection in
            try await connection.transaction(
                pipeline, isolation: isolation, readOnly: readOnly, deferrable: deferrable, retry: retry)
        }
    }
}
