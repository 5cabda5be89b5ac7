import Postgres

extension PostgresExecutor {
    /// Whether an upsert is a transaction of its own here, and may so be run again. Inside a transaction only that may.
    var commitsByItself: Bool { self is PostgresConnection || self is PostgresClient }

    /// Runs a batch, and again as `retry` says.
    ///
    /// - Parameter first: how it failed the first time, if it has been run already.
    func retrying<Success>(
        _ retry: PostgresTransaction.Retry, after first: PostgresError? = nil,
        _ run: () async throws(PostgresError) -> Success
    ) async throws(PostgresError) -> Success {
        var attempt = 1
        var conflict: PostgresError?
        var failure = first
        while true {
            do throws(PostgresError) {
                if let error = failure { throw error }
                return try await run()
            } catch {
                // A transaction begun by a statement of its own: that one failed with the first attempt.
                if error.code == .inFailedSqlTransaction, let conflict { throw conflict }
                guard error.mayRunAgain, commitsByItself, let pause = retry.pause(behindAttempt: attempt) else {
                    throw error
                }
                conflict = error
                failure = nil
                attempt += 1
                // Cancelled in the pause: the error says that nothing took effect.
                do { try await Task.sleep(for: pause) } catch _ { throw error }
            }
        }
    }
}

extension PostgresTransaction.Retry {
    /// The pause before the next attempt; nil if there is none, or no time left behind the pause (`withPostgresTimeout`).
    func pause(behindAttempt attempt: Int) -> Duration? {
        guard attempt < attempts else { return nil }
        let pause = pause(beforeAttempt: attempt + 1)
        if let left = remainingPostgresTimeout(), left <= pause { return nil }
        return pause
    }
}
