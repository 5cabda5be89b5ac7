import Postgres

extension PostgresTransaction.Retry {
    /// A random pause (full jitter) behind the attempt of that number.
    func pause(afterAttempt attempt: Int) -> Duration {
        let doubled = base * (1 << min(max(attempt - 1, 0), 20))
        return min(doubled, cap) * Double.random(in: 0...1)
    }
}

extension PostgresError {
    /// Whether the server gave a statement up for what others did at the same time, and nothing of it took effect.
    var isConflict: Bool {
        (code == .deadlockDetected || code == .serializationFailure) && outcome != .unknown && outcome != .succeeded
    }
}

extension PostgresExecutor {
    /// Whether what failed here may be run again: inside a transaction only the whole transaction may.
    var mayRunAgain: Bool { self is PostgresConnection || self is PostgresClient }

    /// Runs a batch, and again as `retry` says.
    func retrying<Success>(
        _ retry: PostgresTransaction.Retry, _ run: () async throws(PostgresError) -> Success
    ) async throws(PostgresError) -> Success {
        var attempt = 1
        var conflict: PostgresError?
        while true {
            do throws(PostgresError) {
                return try await run()
            } catch {
                // A transaction begun by a statement of its own: that one failed with the first attempt.
                if error.code == .inFailedSqlTransaction, let conflict { throw conflict }
                guard error.isConflict, attempt < retry.attempts, mayRunAgain else { throw error }
                conflict = error
                // Cancelled in the pause: the error says that nothing took effect.
                do { try await Task.sleep(for: retry.pause(afterAttempt: attempt)) } catch _ { throw error }
            }
            attempt += 1
        }
    }
}
