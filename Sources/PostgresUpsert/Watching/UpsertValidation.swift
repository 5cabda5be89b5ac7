public import Postgres

/// How often the statements on a table ran, and how long they took, by `pg_stat_statements`.
public struct UpsertStatementStatistics: Sendable, Hashable {
    /// The text, with constants replaced by `$1`.
    public var sql: String
    public var calls: Int
    /// Inserted, updated or returned, all calls together.
    public var rows: Int
    /// All calls together.
    public var totalTime: Duration
    public var meanTime: Duration
    public var maximumTime: Duration
}

/// Whether a table holds the rows that it should.
public struct UpsertKeyCount: Sendable, Hashable {
    /// Rows, those with a NULL in the key included.
    public var rows: Int
    /// Distinct keys.
    public var keys: Int
    /// How many keys there should be.
    public var expected: Int?

    /// What is wrong; nil when nothing is.
    public var problem: String? {
        if rows != keys { return "\(rows) rows, but \(keys) distinct keys: some keys have several rows" }
        guard let expected, keys != expected else { return nil }
        return "\(keys) distinct keys instead of \(expected)"
    }
}

/// A session that waits for a lock of another.
public struct UpsertLockWait: Sendable, Hashable {
    /// The process of the one who waits.
    public var pid: Int32
    /// Those it waits for, as `pg_blocking_pids` tells.
    public var blockedBy: [Int32]
    /// What it waits for: `transactionid`, `tuple`, `relation` and the like (manual, "pg_locks").
    public var lockType: String
    /// For how long its statement has been running.
    public var running: Duration
    /// Its statement.
    public var sql: String
}

extension PostgresExecutor {
    /// The statements on a table, those that took longest together first.
    ///
    /// SQL: a query on `pg_stat_statements`, for texts in which the table's name stands as a name, with or without quotes, and not
    /// behind another schema than the declared one.
    ///
    /// - Parameter limit: no more than so many.
    /// - Returns: nil if the extension is not installed in this database.
    /// - Throws: `objectNotInPrerequisiteState` if it is not in the server's `shared_preload_libraries`.
    public func statementStatistics<Row: PostgresTable>(
        of table: Row.Type, limit: Int = 20
    ) async throws(PostgresError) -> [UpsertStatementStatistics]? {
        let schema = try await query(
            """
            SELECT n.nspname FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n \
            ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'
            """, as: String.self
        ).first()
        guard let schema else { return nil }
        let mention = TableMention(name: table.table.name, schema: table.table.layout.schema)
        let statements = try await query(
            """
            SELECT query, calls, rows, total_exec_time, mean_exec_time, max_exec_time \
            FROM \(identifier: schema).pg_stat_statements \
            WHERE dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
            AND (query ~ \(mention.quotedName) OR query ~* \(mention.plainName)) AND query !~* '^\\s*(create|alter|drop|comment)\\M' \
            ORDER BY total_exec_time DESC LIMIT \(limit)
            """, as: (String, Int, Int, Double, Double, Double).self
        ).all()
        return statements.map { sql, calls, rows, total, mean, maximum in
            UpsertStatementStatistics(
                sql: sql, calls: calls, rows: rows, totalTime: .milliseconds(total), meanTime: .milliseconds(mean),
                maximumTime: .milliseconds(maximum))
        }
    }

    /// How many rows and how many distinct keys a table holds: after a migration they are the same, and as many as expected.
    ///
    /// SQL: `SELECT count(*), count(DISTINCT ROW("stats_type")) FROM "stats"`, which reads all of it.
    ///
    /// - Parameters:
    ///   - key: the columns of the key; without any, those declared as primary key.
    ///   - expected: how many keys there should be.
    public func keyCount<Row: PostgresTable>(
        of table: Row.Type, by key: PartialKeyPath<Row>..., expected: Int? = nil
    ) async throws(PostgresError) -> UpsertKeyCount {
        let layout = table.table.layout
        if let failure = layout.failure { throw failure }
        var columns: [Int] = []
        for path in key {
            guard let index = layout.index(of: path) else { throw layout.notAColumn(path) }
            columns.append(index)
        }
        if columns.isEmpty {
            columns = layout.columns.indices.filter { layout.columns[$0].options.contains(.primaryKey) }
        }
        guard !columns.isEmpty else {
            throw .upsert(
                "table \"\(layout.name)\" has no column declared as .primaryKey", hint: "name the key: by: \\.column")
        }
        // As a row: `count(DISTINCT a)` alone would leave NULL out.
        let names = columns.map { layout.quotedColumns[$0] }.joined(separator: ", ")
        let (rows, keys) = try await query(
            "SELECT count(*), count(DISTINCT ROW(\(unsafeSQL: names))) FROM \(unsafeSQL: layout.quotedName)",
            as: (Int, Int).self
        ).one()
        return UpsertKeyCount(rows: rows, keys: keys, expected: expected)
    }

    /// Who waits for a lock on a table, or for a transaction that holds one.
    ///
    /// SQL: a query on `pg_stat_activity` and `pg_locks`, for statements in which the table's name stands as a name. The texts of others' sessions are
    /// seen by roles with `pg_read_all_stats` only.
    public func lockWaits<Row: PostgresTable>(
        on table: Row.Type
    ) async throws(PostgresError) -> [UpsertLockWait] {
        let mention = TableMention(name: table.table.name, schema: table.table.layout.schema)
        let waits = try await query(
            """
            SELECT DISTINCT ON (a.pid) a.pid, pg_catalog.pg_blocking_pids(a.pid), l.locktype, \
            extract(epoch FROM clock_timestamp() - a.query_start)::float8, a.query \
            FROM pg_catalog.pg_stat_activity AS a JOIN pg_catalog.pg_locks AS l ON l.pid = a.pid AND NOT l.granted \
            WHERE a.datname = current_database() \
            AND (a.query ~ \(mention.quotedName) OR a.query ~* \(mention.plainName)) ORDER BY a.pid
            """, as: (Int32, [Int32], String, Double?, String).self
        ).all()
        return waits.map { pid, blockedBy, lockType, seconds, sql in
            UpsertLockWait(
                pid: pid, blockedBy: blockedBy, lockType: lockType, running: .seconds(max(0, seconds ?? 0)), sql: sql)
        }
    }
}
