public import Postgres

/// An upsert under optimistic locking: it overwrites a row only if that still has the version that was read.
///
/// ```swift
/// struct Document: PostgresTable {
///     ...
///     static let save = upsert.version(\.version)
/// }
/// document.version = try await db.upsert(Document.save(document))
/// // INSERT INTO "documents" ("id", "body", "version") VALUES ($1, $2, $3) ON CONFLICT ("id") DO UPDATE SET
/// // "body" = EXCLUDED."body", "version" = "documents"."version" + 1
/// // WHERE "documents"."version" IS NOT DISTINCT FROM EXCLUDED."version" RETURNING "version"
/// ```
/// A new row is stored with the version that it has; each update adds 1. So nobody holds a lock while somebody edits, and nobody's
/// change is lost: whoever comes second gets `staleVersion`, with the row as it is now.
///
/// A row that was deleted meanwhile is inserted again. Where that is wrong, mark rows as deleted instead.
public struct VersionedUpsert<Row: PostgresTable, Version: UpsertVersion>: Sendable {
    let upsert: Upsert<Row, Version?>
    let version: any WritableKeyPath<Row, Version> & Sendable
    let row: Row?

    /// The same upsert with a row.
    public func callAsFunction(_ row: Row) -> Self { Self(upsert: upsert, version: version, row: row) }

    /// The SQL text, `$1` for the first parameter.
    public var sql: String { upsert.sql }
}

/// An integer that can be a version: `Int`, `Int16`, `Int32` or `Int64`.
public protocol UpsertVersion: FixedWidthInteger, PostgresCodable, UpsertArithmetic, Sendable {}

extension Int: UpsertVersion {}
extension Int16: UpsertVersion {}
extension Int32: UpsertVersion {}
extension Int64: UpsertVersion {}

extension Upsert where Output == Never {
    /// Overwrites a row only if its version is that of the given row, and adds 1 to it.
    ///
    /// SQL: `DO UPDATE SET ..., "version" = "documents"."version" + 1 WHERE "documents"."version" IS NOT DISTINCT FROM
    /// EXCLUDED."version" RETURNING "version"`
    ///
    /// - Parameter column: the version: an integer that the table starts at, by habit 0 or 1.
    public func version<Version: UpsertVersion>(
        _ column: any WritableKeyPath<Row, Version> & Sendable
    ) -> VersionedUpsert<Row, Version> {
        let one = UpsertExpression<Version>(UpsertFragment(text: "1"))
        let upsert = set(column) { $0.existing[dynamicMember: column] + one }
            .where { $0.existing[dynamicMember: column] == $0.excluded[dynamicMember: column] }
            .returning(column)
        var row: Row?
        if case .one(let given) = rows { row = given }
        return VersionedUpsert(upsert: upsert, version: column, row: row)
    }
}

extension PostgresError.Code {
    /// Somebody else has written the row since it was read; `underlying` is an `UpsertStaleVersion` with the row as it is now.
    /// Nothing was changed.
    public static let staleVersion = Self("client.staleVersion")
    /// An upsert under optimistic locking left the stored row alone, though it has the right version: a condition of the upsert's own
    /// is false for it, or a trigger suppressed the update. Nothing was changed.
    public static let notWritten = Self("client.notWritten")
}

/// What an upsert under optimistic locking found instead of the version that it was given.
public struct UpsertStaleVersion<Row: PostgresTable>: Error, Sendable {
    /// The row as it is stored now; nil if it cannot be seen any more, as when it was deleted since.
    public let current: Row?
}
