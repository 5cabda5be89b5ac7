import Postgres

/// By what a row that was inserted is told from one that was updated. All are exact: where one is not available, the server
/// refuses the statement, it does not answer wrongly.
enum OutcomeEvidence: Hashable, Sendable {
    /// `old.tableoid IS NULL`, since PostgreSQL 18: there is no old row. Not `old."key" IS NULL`, which is also true of a key
    /// that is NULL, and such keys conflict under NULLS NOT DISTINCT.
    case oldRow
    /// `xmax = 0`: a row that was inserted has never been locked; DO UPDATE leaves its own lock in the new version of the row.
    /// A partitioned table has no xmax (0A000), and neither has a view (42703).
    case lock
    /// A setting of the transaction as a mark: reset for each row that is sent, set by the condition of DO UPDATE, which is
    /// evaluated for rows that conflict only, and read by RETURNING. The server takes the rows one by one through all three.
    ///
    /// A BEFORE UPDATE trigger must not upsert into the same table by this very form: that would set the mark anew.
    ///
    /// Looking up the keys beforehand, in a CTE, would not do: at READ COMMITTED a row may come into being behind the lookup.
    case mark
}

/// Under which name a table's rows are marked. It depends on the table, so that a trigger that upserts into another one does
/// not disturb the mark.
func markName(of quotedTable: String) -> String {
    "postgres_swift.upsert_" + String(stableHash(quotedTable), radix: 16)
}

/// Under which name the number of the row that is on its way into a table is kept.
func rowNumberName(of quotedTable: String) -> String {
    "postgres_swift.row_" + String(stableHash(quotedTable), radix: 16)
}

/// What has to be known of a server and a table to choose how outcomes are told.
struct TableFacts: Sendable, Equatable {
    /// `server_version_num`: 150018 is 15.18.
    var version: Int
    /// `pg_class.relkind`; 0 when there is no such table.
    var kind: UInt8

    var evidence: OutcomeEvidence {
        switch kind {
        case UInt8(ascii: "v"): .mark
        case _ where version >= 180_000: .oldRow
        case UInt8(ascii: "p"): .mark
        default: .lock
        }
    }

    /// SQL: `SELECT current_setting('server_version_num')::int4, (SELECT relkind::text FROM pg_class WHERE oid =
    /// to_regclass('"schema"."table"'))`
    static func query(of quotedTable: String) -> PostgresQuery.Typed<TableFacts> {
        let query: PostgresQuery = """
            SELECT current_setting('server_version_num')::int4, (SELECT relkind::text FROM pg_catalog.pg_class \
            WHERE oid = to_regclass(\(quotedTable)))
            """
        return PostgresQuery.Typed(query) { (row: PostgresRow) throws(PostgresError) -> TableFacts in
            let kind = try row.decode(1, as: String?.self)?.utf8.first
            return TableFacts(version: try row.decode(0, as: Int.self), kind: kind ?? 0)
        }
    }
}
