public import Postgres

/// A struct that is one row of a table. One declaration says how it is written, how it is read, and what its key is.
///
/// ```swift
/// struct PageStats: PostgresTable {
///     var path: String, hits: Int, fetchedAt: PostgresTimestamp?
///
///     static let table = Table<Self>("page_stats", init: Self.init(path:hits:fetchedAt:)) {
///         Column("path", \.path, .primaryKey)
///         Column("hits", \.hits)
///         Column("fetched_at", \.fetchedAt, .updatedAt)
///     }
/// }
/// ```
/// Write `Table<Self>`, not `Table`: a misspelt property is then reported at once, instead of after a long search for `Row`.
public protocol PostgresTable: PostgresRowDecodable, Sendable {
    /// The table's declaration. Make it a `static let`: the SQL texts made from it are kept in it.
    static var table: Table<Self> { get }
}

extension PostgresTable {
    /// Reads the columns of the declaration by name.
    ///
    /// - Throws: `unsupported` when the declaration has no `init:`.
    public init(row: PostgresRow) throws(PostgresError) { self = try Self.table.decode(row) }
}

extension PostgresTable where Self: Decodable {
    /// Reads the columns of the declaration by name; without an `init:` in it, each property from the column of its own name.
    public init(row: PostgresRow) throws(PostgresError) {
        if Self.table.makesRows {
            self = try Self.table.decode(row)
        } else {
            self = try DecodableRow<Self>(row: row).value
        }
    }
}

/// Reaches the default of `PostgresRowDecodable` for Decodable types, which that of `PostgresTable` hides.
private struct DecodableRow<Value: Decodable>: Decodable, PostgresRowDecodable {
    let value: Value

    init(from decoder: any Decoder) throws { value = try Value(from: decoder) }
}
