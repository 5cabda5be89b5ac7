public import Postgres

/// What is special about a column.
public struct ColumnOption: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Part of the primary key: the default conflict target, never overwritten.
    public static let primaryKey = Self(rawValue: 1)
    /// `GENERATED ... AS IDENTITY`, or a serial: numbered by the server, sent only when it is in the conflict target, never
    /// overwritten.
    public static let identity = Self(rawValue: 2)
    /// `GENERATED ALWAYS AS (...) STORED`: neither sent nor overwritten.
    public static let generated = Self(rawValue: 4)
    /// Never sent: `now()` on insert, kept on update.
    public static let createdAt = Self(rawValue: 8)
    /// Never sent: `now()` on insert and on update.
    public static let updatedAt = Self(rawValue: 16)
}

/// One column of a table: its name, the property that holds it, and what is special about it.
///
/// ```swift
/// Column("path", \.path, .primaryKey)
/// Column("data", \.data, type: "jsonb")     // $2::jsonb, or $2::text[]::jsonb[] in a batch
/// Column("name", \.name, type: "varchar(20)")     // $3::varchar: the column itself refuses what is too long
/// ```
public struct Column<Row>: Sendable {
    @usableFromInline
    typealias AppendParameter = @Sendable (UnsafePointer<Row>, inout PostgresEncoder) -> Void
    // Rows, the order to take them in (nil: as they lie), their number.
    @usableFromInline
    typealias WriteCells =
        @Sendable (UnsafePointer<Row>, UnsafePointer<Int>?, Int, inout PostgresEncoder) throws(PostgresError) -> Void

    /// The column's name in the table.
    public let name: String
    /// The SQL type it was declared with, if it was.
    public let declaredType: String?
    /// What is special about it.
    public let options: ColumnOption
    /// What values are cast to, if a type was declared.
    let castType: String?
    /// What they are cast to where they are compared with stored ones.
    let comparedType: String?
    let path: any PartialKeyPath<Row> & Sendable
    let offset: Int?
    let valueType: ObjectIdentifier
    let valueTypeName: String
    let type: PostgresType
    let format: PostgresFormat
    let appendParameter: AppendParameter
    let writeCells: WriteCells
    /// Whether a row has no value; nil when each has.
    let isAbsent: (@Sendable (UnsafePointer<Row>) -> Bool)?

    /// - Parameters:
    ///   - name: the column's name, without quotes.
    ///   - path: the property. Stored properties are read at their offset; computed ones through the key path, which is slower.
    ///   - options: what is special about it.
    ///   - type: the column's SQL type, put into the text as it is, but without its length or precision: a cast would cut what is too
    ///     long, and the column refuses it. Needed in a batch when the property is a `String` and the column is not text: jsonb, uuid,
    ///     date, an enum, citext and the like. Of a domain over a type with a length name that type: a cast to the domain cuts, too.
    // Inlinable, so that the closures are specialized for `Row` and `Value` where both are known.
    @inlinable
    public init<Value: PostgresEncodable>(
        _ name: String, _ path: any KeyPath<Row, Value> & Sendable, _ options: ColumnOption...,
        type: StaticString? = nil
    ) {
        let offset = MemoryLayout<Row>.offset(of: path)
        let appendParameter: AppendParameter
        let writeCells: WriteCells
        if let offset {
            appendParameter = { row, encoder in
                let value = (UnsafeRawPointer(row) + offset).assumingMemoryBound(to: BorrowedValue<Value>.self)
                value.pointee.appendParameter(to: &encoder) { locate($0, column: name) }
            }
            writeCells = {
                (rows, order, count, encoder: inout PostgresEncoder) throws(PostgresError) in
                let first = UnsafeRawPointer(rows) + offset
                let stride = MemoryLayout<Row>.stride
                let start = encoder.byteCount
                var index = 0
                do throws(PostgresError) {
                    if let order {
                        while index < count {
                            let value = first + order[index] &* stride
                            let borrowed = value.assumingMemoryBound(to: BorrowedValue<Value>.self)
                            try borrowed.pointee.writeCell(into: &encoder)
                            index &+= 1
                            if index == 64 { encoder.reserveCapacity(writtenSince: start, values: 64, of: count) }
                        }
                    } else {
                        var value = first
                        while index < count {
                            let borrowed = value.assumingMemoryBound(to: BorrowedValue<Value>.self)
                            try borrowed.pointee.writeCell(into: &encoder)
                            value += stride
                            index &+= 1
                            if index == 64 { encoder.reserveCapacity(writtenSince: start, values: 64, of: count) }
                        }
                    }
                } catch {
                    throw locate(error, column: name, row: order?[index] ?? index)
                }
            }
        } else {
            appendParameter = { row, encoder in
                encoder.appendParameter(of: Value.postgresType, format: Value.postgresFormat) {
                    (encoder: inout PostgresEncoder) throws(PostgresError) in
                    do throws(PostgresError) { try row.pointee[keyPath: path].encode(into: &encoder) } catch {
                        throw locate(error, column: name)
                    }
                }
            }
            writeCells = {
                (rows, order, count, encoder: inout PostgresEncoder) throws(PostgresError) in
                for index in 0..<count {
                    let row = order?[index] ?? index
                    do throws(PostgresError) { try encoder.writeCell(rows[row][keyPath: path]) } catch {
                        throw locate(error, column: name, row: row)
                    }
                }
            }
        }
        self.init(
            name: name, declaredType: type?.description, options: ColumnOption(options), path: path, offset: offset,
            valueType: ObjectIdentifier(Value.self), valueTypeName: "\(Value.self)", type: Value.postgresType,
            format: Value.postgresFormat, appendParameter: appendParameter, writeCells: writeCells,
            isAbsent: absenceTest(path))
    }

    @usableFromInline
    init(
        name: String, declaredType: String?, options: ColumnOption, path: any PartialKeyPath<Row> & Sendable,
        offset: Int?, valueType: ObjectIdentifier, valueTypeName: String, type: PostgresType, format: PostgresFormat,
        appendParameter: @escaping AppendParameter, writeCells: @escaping WriteCells,
        isAbsent: (@Sendable (UnsafePointer<Row>) -> Bool)?
    ) {
        self.name = name
        self.declaredType = declaredType
        castType = declaredType.map { PostgresUpsert.castType($0) }
        comparedType = declaredType.map { PostgresUpsert.comparedType($0) }
        self.options = options
        self.path = path
        self.offset = offset
        self.valueType = valueType
        self.valueTypeName = valueTypeName
        self.type = type
        self.format = format
        self.appendParameter = appendParameter
        self.writeCells = writeCells
        self.isAbsent = isAbsent
    }
}

/// The same error, saying where the value that could not be encoded stood.
@usableFromInline @inline(never)
func locate(_ error: PostgresError, column: String, row: Int? = nil) -> PostgresError {
    let place = row.map { "row \($0), column \"\(column)\"" } ?? "column \"\(column)\""
    return error.with(outcome: .notSent, message: "\(place): \(error.message)")
}

/// Collects the columns of a table's declaration.
@resultBuilder
public enum ColumnBuilder<Row> {
    @inlinable public static func buildExpression(_ column: Column<Row>) -> Column<Row> { column }
    @inlinable public static func buildBlock(_ columns: Column<Row>...) -> [Column<Row>] { columns }
}
