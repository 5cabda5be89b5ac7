import Postgres
import PostgresUpsert

// What applications do without an upsert: look, then update or insert. Statements prepared once, as all are.

extension PostgresExecutor {
    func upsertNaively(_ row: StatsRow) async throws(PostgresError) {
        let found = try await query("SELECT 1 FROM stats WHERE stats_type = \(row.statsType)", as: Int32.self).first()
        if found == nil {
            try await execute("INSERT INTO stats (stats_type, data) VALUES (\(row.statsType), \(row.data))")
        } else {
            try await execute(
                "UPDATE stats SET data = \(row.data), fetched_at = now() WHERE stats_type = \(row.statsType)")
        }
    }

    /// Adds what was read and one: the increment of whoever did the same meanwhile is lost.
    func incrementNaively(_ row: Counter) async throws(PostgresError) {
        let found = try await query("SELECT hits FROM counters WHERE key = \(row.key)", as: Int64.self).first()
        if let found {
            try await execute("UPDATE counters SET hits = \(found + row.hits) WHERE key = \(row.key)")
        } else {
            try await execute("INSERT INTO counters (key, hits) VALUES (\(row.key), \(row.hits))")
        }
    }
}

extension PostgresConnection {
    // At READ COMMITTED, the server's default, which protects from neither.

    func upsertNaivelyInTransaction(_ row: StatsRow) async throws {
        try await transaction { transaction in try await transaction.upsertNaively(row) }
    }

    func incrementNaivelyInTransaction(_ row: Counter) async throws {
        try await transaction { transaction in try await transaction.incrementNaively(row) }
    }

    func upsertNaivelyWithRetry(_ row: StatsRow) async throws {
        try await againAfterDuplicateKey { () throws(PostgresError) in try await upsertNaively(row) }
    }

    func incrementNaivelyWithRetry(_ row: Counter) async throws {
        try await againAfterDuplicateKey { () throws(PostgresError) in try await incrementNaively(row) }
    }

    /// The row that was in the way is there now, so the second attempt updates it, unless it was deleted.
    private func againAfterDuplicateKey(
        _ operation: () async throws(PostgresError) -> Void
    ) async throws(PostgresError) {
        for _ in 0..<9 {
            do throws(PostgresError) { return try await operation() } catch  where error.isDuplicateKey {}
        }
        try await operation()
    }
}
