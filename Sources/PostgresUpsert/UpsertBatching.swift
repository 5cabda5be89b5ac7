public import Postgres

/// What becomes of rows of one batch that have the same key: one statement cannot write a row twice (SQLSTATE 21000).
///
/// Keys are compared by the bytes that would be sent, so NFC and NFD are two keys; what only the server holds equal, as citext
/// does, is its error. With the predicate of a partial index, outside of which rows of one key do not conflict, only `fail` is
/// possible; and where only the server knows the key: `onIndex(...)`, `onAnyConflict()`, `onConstraint(...)` without columns. There
/// rows of one key are the server's error (21000), unless they are left alone.
public struct UpsertDuplicates<Row>: Sendable {
    enum Policy: Sendable {
        case fail
        case keepFirst
        case keepLast
        case merge(@Sendable (Row, Row) -> Row)
    }

    let policy: Policy

    /// `duplicateKeys` is thrown, which names the rows, and nothing is sent. The default: which of two rows is meant, only the
    /// program can say.
    public static var fail: Self { Self(policy: .fail) }
    /// The first row is sent.
    public static var keepFirst: Self { Self(policy: .keepFirst) }
    /// The last row is sent.
    public static var keepLast: Self { Self(policy: .keepLast) }
    /// One row is made of those of a key, from the first to the last. It must have the same key.
    public static func merge(_ merge: @escaping @Sendable (_ earlier: Row, _ later: Row) -> Row) -> Self {
        Self(policy: .merge(merge))
    }
}

/// How the rows of a batch travel.
public enum UpsertStrategy: Sendable, Hashable {
    /// By what the columns allow: arrays if they can be, else `VALUES`, and a statement for each row where neither could tell rows
    /// apart. Never COPY: with rows of four columns on a local server it was not faster than arrays up to 300,000 rows.
    case automatic
    /// One array a column: one SQL text for every number of rows.
    ///
    /// SQL: `INSERT INTO ... SELECT * FROM unnest($1::text[], $2::int8[]) ON CONFLICT ...`
    case unnest
    /// One parameter a value. For columns whose type has no array, or is one, which unnest would flatten.
    ///
    /// SQL: `INSERT INTO ... VALUES ($1, $2), ($3, $4) ON CONFLICT ...`
    case values
    /// Binary COPY into a temporary table, in a transaction: five round trips whatever the number of rows, and the privilege to make
    /// temporary tables. The server never holds a message of all rows in memory. Neither in a pipeline nor with `isolation:`.
    ///
    /// SQL: `CREATE TEMPORARY TABLE ...; COPY ... FROM STDIN; INSERT INTO ... SELECT ... ON CONFLICT ...; DROP TABLE ...`
    case copy
}

/// From which sizes on batches travel otherwise. All of it stands here.
public enum UpsertThresholds {
    /// How many rows one statement holds at most. Of more, several statements are made, in one transaction and one round trip.
    public static let rowsPerStatement = 65_536
    /// How many bytes of parameters one statement holds at most, unless a single row has more. The server holds a message whole
    /// in memory, and refuses one of a GiB.
    public static let bytesPerStatement = 32 << 20
    /// How many rows `VALUES` holds at most. Batches are made of statements of powers of two rows, so that there are few texts.
    public static let rowsPerValues = 1024
}

/// What an error of some rows takes with it.
public enum UpsertIsolation: Sendable, Hashable {
    /// All rows: it is one transaction.
    case batch
    /// The rows that travel in the same statement.
    case chunk
    /// Only the row itself. Each row is a statement, all of them pipelined.
    case row
}

/// What of a batch is no part of its SQL.
struct UpsertBatching<Row>: Sendable {
    var duplicates = UpsertDuplicates<Row>.fail
    var strategy = UpsertStrategy.automatic
    var rows = UpsertThresholds.rowsPerStatement
    var bytes = UpsertThresholds.bytesPerStatement
    var retry = PostgresTransaction.Retry.upTo(5)
    /// Whether each row carries its number, also where the upsert itself leaves none out: a trigger may.
    var numbersRows = false
}

extension Upsert {
    private func with(_ change: (inout UpsertBatching<Row>) -> Void) -> Self {
        var batching = definition.batching
        change(&batching)
        let changed = UpsertDefinition(definition, batching: batching)
        return Self(rows: rows, definition: changed, output: output)
    }

    /// What becomes of rows of a batch that have the same key. All of them get the outcome of the one that was sent.
    public func duplicates(_ policy: UpsertDuplicates<Row>) -> Self { with { $0.duplicates = policy } }

    /// Each row of many is told apart, also from those that a trigger suppresses. A function of the database answers as it was made.
    func numberingRows() -> Self { with { $0.numbersRows = true } }

    /// How the rows of a batch travel.
    public func strategy(_ strategy: UpsertStrategy) -> Self { with { $0.strategy = strategy } }

    /// How many rows, and bytes of parameters, one statement of a batch holds at most. The bytes are those of all its rows; one row
    /// that has more is sent by itself.
    public func chunks(
        rows: Int = UpsertThresholds.rowsPerStatement, bytes: Int = UpsertThresholds.bytesPerStatement
    ) -> Self {
        with {
            $0.rows = max(1, rows)
            $0.bytes = max(1, bytes)
        }
    }

    /// How often an upsert, of one row or many, runs at most, the first time included, if the server gives it up for a deadlock (40P01) or a
    /// serialization failure (40001). By default five times, with a random pause of up to 10 ms before the second and twice that
    /// before each further one, at most a second.
    ///
    /// Batches are sorted by key, and so mostly do not deadlock with each other. Rows that lack columns (``UpsertField``) are sent by
    /// which they lack, each kind sorted by itself: such batches can, and this is what saves them.
    ///
    /// Nothing of what was given up took effect, so running it again is safe. Inside a transaction it is never run again:
    /// the whole transaction has failed, and ``Postgres/PostgresConnection/transaction(isolation:readOnly:deferrable:retry:_:)``
    /// can run that again.
    public func retry(_ retry: PostgresTransaction.Retry) -> Self { with { $0.retry = retry } }
}
