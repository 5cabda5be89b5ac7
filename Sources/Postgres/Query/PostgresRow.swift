/// One row of a result: bytes until a column is asked for.
///
/// ```swift
/// let id: Int = try row["id"]
/// let name = try row.decode("name", as: String?.self)
/// ```
/// A row keeps the block of memory alive that it came in, together with its neighbours; decode what is needed, and let go.
public struct PostgresRow: Sendable {
    // Points behind the column count of a DataRow inside the memory that `owner` keeps and nobody changes any more. The row's
    // structure (column count, every length) was checked when it arrived.
    @usableFromInline nonisolated(unsafe) var cells: UnsafeRawPointer
    @usableFromInline var byteCount: Int
    // A RowChunk, which is Sendable; as AnyObject it is copied without run-time metadata by users' code, which cannot see that class.
    @usableFromInline nonisolated(unsafe) let owner: AnyObject
    /// Names, types and formats of the columns.
    public let columns: PostgresColumns

    @usableFromInline
    init(cells: UnsafeRawPointer, byteCount: Int, owner: AnyObject, columns: PostgresColumns) {
        self.cells = cells
        self.byteCount = byteCount
        self.owner = owner
        self.columns = columns
    }

    /// Reads the column at `index`, from 0.
    @inlinable
    public func decode<Value: PostgresDecodable>(
        _ index: Int, as type: Value.Type = Value.self
    ) throws(PostgresError) -> Value {
        guard index >= 0, index < columns.count else { throw noColumn(index) }
        var cursor = Cursor(self)
        for _ in 0..<index { cursor.skip() }
        return try cursor.next(type)
    }

    /// Reads the first column of that name, compared as UTF-8 bytes.
    @inlinable
    public func decode<Value: PostgresDecodable>(
        _ name: String, as type: Value.Type = Value.self
    ) throws(PostgresError) -> Value {
        guard let index = columns.index(of: name) else { throw noColumn(name) }
        return try decode(index, as: type)
    }

    /// Reads all columns, in order. The tuple must have as many elements as the row has columns.
    @inlinable
    public func decode<each Column: PostgresDecodable>(
        as types: (repeat each Column).Type
    ) throws(PostgresError) -> (repeat each Column) {
        var wanted = 0
        for _ in repeat (each Column).self { wanted &+= 1 }
        guard wanted == columns.count else { throw wrongColumnCount(wanted) }
        var cursor = Cursor(self)
        return (repeat try cursor.next((each Column).self))
    }

    /// For whoever reads so many columns, all there are; not to outlive the row.
    @inlinable @inline(__always)
    func cursor(over wanted: Int) throws(PostgresError) -> Cursor {
        guard wanted == columns.layoutCount else { throw wrongColumnCount(wanted) }
        return Cursor(self)
    }

    /// The first column of that name, as the type that is wanted of it.
    @inlinable
    public subscript<Value: PostgresDecodable>(_ name: String) -> Value {
        get throws(PostgresError) { try decode(name, as: Value.self) }
    }

    /// The column at `index`, from 0, as the type that is wanted of it.
    @inlinable
    public subscript<Value: PostgresDecodable>(_ index: Int) -> Value {
        get throws(PostgresError) { try decode(index, as: Value.self) }
    }

    /// Whether the column at `index` is NULL; nil if there is no such column.
    public func isNull(_ index: Int) -> Bool? {
        guard index >= 0, index < columns.count else { return nil }
        var cursor = Cursor(self)
        for _ in 0..<index { cursor.skip() }
        return cursor.nextLength() < 0
    }

    /// The column's bytes as they came, in `columns[index].format`; nil for NULL.
    public func bytes(_ index: Int) throws(PostgresError) -> [UInt8]? {
        guard index >= 0, index < columns.count else { throw noColumn(index) }
        var cursor = Cursor(self)
        for _ in 0..<index { cursor.skip() }
        let length = cursor.nextLength()
        return length < 0 ? nil : [UInt8](UnsafeRawBufferPointer(start: cursor.position, count: length))
    }
}

extension PostgresRow {
    /// Walks the cells of one row. Lengths were checked when the row arrived; checking again against the end costs nothing.
    @usableFromInline
    struct Cursor {
        @usableFromInline var position: UnsafeRawPointer
        @usableFromInline let end: UnsafeRawPointer
        @usableFromInline var index = 0
        // For errors only. Not even for those it is counted; `layouts` lies in it.
        @usableFromInline unowned(unsafe) let columns: PostgresColumns
        @usableFromInline let layouts: UnsafePointer<PostgresColumns.Layout>
        @usableFromInline let layoutCount: Int

        // The row, which holds the columns, outlives the cursor: it is used while the row is borrowed.
        @inlinable @inline(__always)
        init(_ row: PostgresRow) {
            position = row.cells
            end = row.cells + row.byteCount
            columns = row.columns
            layouts = row.columns.layouts
            layoutCount = row.columns.layoutCount
        }

        @inlinable @inline(__always)
        func layout(_ index: Int) -> PostgresColumns.Layout {
            index < layoutCount ? layouts[index] : PostgresColumns.Layout(oid: 0, format: .text)
        }

        /// The next length word; the value's bytes begin at `position`. -1 for NULL, and behind the last cell.
        @inlinable @inline(__always)
        mutating func nextLength() -> Int {
            guard end - position >= 4 else { return -1 }
            let length = Int(Int32(bigEndian: position.loadUnaligned(as: Int32.self)))
            position += 4
            return length <= end - position ? length : -1
        }

        @inlinable @inline(__always)
        mutating func skip() {
            let length = nextLength()
            if length > 0 { position += length }
            index &+= 1
        }

        @inlinable @inline(__always)
        mutating func next<Value: PostgresDecodable>(_: Value.Type) throws(PostgresError) -> Value {
            let column = layout(index)
            let number = index
            index &+= 1
            let length = nextLength()
            do {
                guard length >= 0 else { return try Value.decodeNull() }
                let bytes = UnsafeRawBufferPointer(start: position, count: length)
                position += length
                return try Value(postgres: bytes.bytes, type: PostgresType(oid: column.oid), format: column.format)
            } catch {
                throw columns.locate(error, number)
            }
        }
    }

    @usableFromInline @inline(never)
    func noColumn(_ index: Int) -> PostgresError {
        PostgresError(
            code: .noSuchColumn, message: "no column \(index): the row has \(columns.count)", outcome: .succeeded)
    }

    @usableFromInline @inline(never)
    func noColumn(_ name: String) -> PostgresError {
        let names = columns.map { "\"\($0.name)\"" }.joined(separator: ", ")
        return PostgresError(
            code: .noSuchColumn, message: "no column \"\(name)\"; there are \(names)", outcome: .succeeded)
    }

    @usableFromInline @inline(never)
    func wrongColumnCount(_ wanted: Int) -> PostgresError {
        PostgresError(
            code: .columnCount,
            message: "the row has \(columns.count) columns, the type it is read as has \(wanted)", outcome: .succeeded,
            hint: "name the columns in SELECT instead of *")
    }
}

/// A type that reads itself from a row.
///
/// A `Decodable` struct only has to adopt it: columns are found by name.
/// ```swift
/// struct User: Decodable, PostgresRowDecodable { var id: Int; var name: String? }
/// ```
public protocol PostgresRowDecodable: SendableMetatype {
    init(row: PostgresRow) throws(PostgresError)
}

extension PostgresRow: PostgresRowDecodable {
    public init(row: PostgresRow) { self = row }
}
