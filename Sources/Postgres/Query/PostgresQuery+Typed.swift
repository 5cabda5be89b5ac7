import PostgresProtocol

extension PostgresQuery {
    /// A query that knows what its rows are.
    public struct Typed<Row>: Sendable {
        /// Text and parameters.
        public var query: PostgresQuery
        @usableFromInline let formats: ResultFormats
        @usableFromInline let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row

        /// A query whose rows are decoded by a closure. Its columns arrive as text.
        @inlinable
        public init(
            _ query: PostgresQuery, decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row
        ) {
            self.init(query, formats: .text, decode: decode)
        }

        @inlinable
        init(
            _ query: PostgresQuery, formats: ResultFormats,
            decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row
        ) {
            self.query = query
            self.formats = formats
            self.decode = decode
        }
    }

    /// Rows as tuples, by position; one element is just the element. NULL needs an optional.
    ///
    /// ```swift
    /// PostgresQuery("SELECT id, name FROM users").as((Int, String?).self)
    /// ```
    @inlinable
    public func `as`<each Column: PostgresDecodable>(_ columns: (repeat each Column).Type) -> Typed<
        (repeat each Column)
    > {
        var formats = ResultFormats.Builder()
        for format in repeat (each Column).postgresResultFormat { formats.append(format) }
        return Typed(self, formats: formats.formats) {
            (row: PostgresRow) throws(PostgresError) -> (repeat each Column) in
            try row.decode(as: (repeat each Column).self)
        }
    }

    /// Rows as a type that reads itself from a row, usually by column name.
    @inlinable
    public func `as`<Row: PostgresRowDecodable>(_ row: Row.Type) -> Typed<Row> {
        Typed(self, formats: .text) { (row: PostgresRow) throws(PostgresError) -> Row in
            try Row(row: row)
        }
    }
}

/// Which form is asked for, a column each. Columns wanted as `String` are asked for as text, so that every type is readable.
@usableFromInline
struct ResultFormats: Sendable, Hashable {
    /// Bit n set: column n in binary. Columns from 64 on are asked for as text.
    @usableFromInline var binary: UInt64
    /// The number of columns; 0 when one format holds for all, whatever their number.
    @usableFromInline var count: UInt16

    @inlinable
    init(binary: UInt64, count: UInt16) {
        self.binary = binary
        self.count = count
    }

    /// For Bind.
    var codes: FormatCodes {
        if count == 0 { return .all(binary == 0 ? .text : .binary) }
        if count <= 64 { return .mixed(binary: binary, count: Int(count)) }
        return .each((0..<Int(count)).map { format(ofColumn: $0) == .binary ? .binary : .text })
    }

    @inlinable static var text: Self { Self(binary: 0, count: 0) }
    @inlinable static var binary: Self { Self(binary: .max, count: 0) }

    @inlinable
    func format(ofColumn index: Int) -> PostgresFormat {
        if count == 0 { return binary == 0 ? .text : .binary }
        return index < 64 && (binary >> UInt64(truncatingIfNeeded: index)) & 1 == 1 ? .binary : .text
    }

    @usableFromInline
    struct Builder {
        @usableFromInline var binary: UInt64 = 0
        @usableFromInline var count: UInt16 = 0

        @inlinable init() {}

        @inlinable @inline(__always)
        mutating func append(_ format: PostgresFormat) {
            if count < 64, format == .binary { binary |= 1 << UInt64(count) }
            count &+= 1
        }

        /// One code for all columns where that says the same: the server accepts it for any number of columns, so that a
        /// wrong number is found here, with a better message.
        @inlinable @inline(__always)
        var formats: ResultFormats {
            if binary == 0 { return .text }
            if count < 64, binary == (1 << UInt64(count)) &- 1 { return .binary }
            return ResultFormats(binary: binary, count: count)
        }
    }
}
