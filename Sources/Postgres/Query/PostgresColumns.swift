import PostgresProtocol

/// The columns of a result, in order.
public final class PostgresColumns: RandomAccessCollection, Sendable {
    /// One column of a result (manual, "RowDescription").
    public struct Column: Sendable, Hashable {
        /// As the statement named it; need not be unique.
        public let name: String
        /// The type, of which only the OID is known here.
        public let type: PostgresType
        /// The form in which its values came.
        public let format: PostgresFormat
        /// The OID of the table it is a column of, if it is one; else 0.
        public let tableOID: UInt32
        /// The column's number in that table, from 1; else 0.
        public let tableColumn: Int
        /// The type's modifier, such as the length of a varchar; -1 when it has none.
        public let typeModifier: Int32
    }

    @usableFromInline
    struct Layout: Sendable {
        @usableFromInline let oid: UInt32
        @usableFromInline let format: PostgresFormat

        @inlinable
        init(oid: UInt32, format: PostgresFormat) {
            self.oid = oid
            self.format = format
        }
    }

    private let columns: [Column]
    // Memory of this object's own, initialized once, never changed, freed in `deinit`: reading an array's element through a
    // reference that is not counted would count one, for each value of a row.
    @usableFromInline nonisolated(unsafe) let layouts: UnsafePointer<Layout>
    @usableFromInline let layoutCount: Int

    init(_ columns: [Column]) {
        self.columns = columns
        let layouts = UnsafeMutablePointer<Layout>.allocate(capacity: Swift.max(columns.count, 1))
        for (index, column) in columns.enumerated() {
            (layouts + index).initialize(to: Layout(oid: column.type.oid, format: column.format))
        }
        self.layouts = UnsafePointer(layouts)
        layoutCount = columns.count
    }

    // Layouts are trivial: there is nothing to deinitialize.
    deinit { layouts.deallocate() }

    convenience init(_ description: RowDescription, _ formats: ResultFormats) {
        self.init(
            description.columns.enumerated().map { index, column in
                Column(
                    name: column.name, type: PostgresType(oid: column.typeOID), format: formats.format(ofColumn: index),
                    tableOID: column.tableOID, tableColumn: Int(column.columnNumber), typeModifier: column.typeModifier)
            })
    }

    public var startIndex: Int { 0 }
    public var endIndex: Int { columns.count }
    @inlinable public var count: Int { layoutCount }
    public subscript(position: Int) -> Column { columns[position] }

    /// The position of the first column of that name, compared as UTF-8 bytes: the server holds NFC and NFD apart.
    public func index(of name: String) -> Int? {
        columns.firstIndex { $0.name.utf8.elementsEqual(name.utf8) }
    }

    /// The same error, with the column's name.
    @usableFromInline @inline(never)
    func locate(_ error: PostgresError, _ index: Int) -> PostgresError {
        let name = index < columns.count ? "\"\(columns[index].name)\"" : "\(index)"
        return error.with(outcome: .succeeded, message: "column \(name): \(error.message)")
    }

    static let none = PostgresColumns([])
}
