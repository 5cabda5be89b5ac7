extension PostgresRowDecodable where Self: Decodable {
    /// Reads each property from the column of its name. An optional property without a column is nil.
    ///
    /// A property whose type is no `PostgresDecodable` is read through its raw value, as an enum, or from a json column.
    public init(row: PostgresRow) throws(PostgresError) {
        do {
            try self.init(from: RowDecoder(row))
        } catch let error as PostgresError {
            throw error
        } catch {
            throw PostgresError(
                code: .cannotDecode, message: "the row cannot be read as \(Self.self)\(DecodingError.path(error))",
                outcome: .succeeded, underlying: error)
        }
    }
}

/// Shows a row to `Decodable` as a container whose keys are the names of the columns.
private final class RowDecoder: Decoder {
    let row: PostgresRow
    /// Where the next column is looked for first: most types name their properties in the order of the columns.
    private var next = 0

    init(_ row: PostgresRow) { self.row = row }

    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy: Key.Type) throws -> KeyedDecodingContainer<Key> {
        KeyedDecodingContainer(RowContainer<Key>(decoder: self))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer { throw notKeyed() }

    func singleValueContainer() throws -> any SingleValueDecodingContainer { throw notKeyed() }

    private func notKeyed() -> PostgresError {
        PostgresError(
            code: .typeMismatch, message: "a row is read as a type with named properties", outcome: .succeeded,
            hint: "name a single column's type, or a tuple, instead")
    }

    func index(of name: String) -> Int? {
        let columns = row.columns
        if next < columns.count, columns[next].name.utf8.elementsEqual(name.utf8) { return next }
        return columns.index(of: name)
    }

    func scalar<Value: PostgresDecodable & Decodable>(_ key: some CodingKey) throws -> Value {
        guard let index = index(of: key.stringValue) else { throw row.noColumn(key.stringValue) }
        let value = try ColumnDecoder(row: row, index: index).coded(Value.self)
        next = index &+ 1
        return value
    }

    func value<Value: Decodable>(_ key: some CodingKey, as type: Value.Type) throws -> Value {
        guard let index = index(of: key.stringValue) else { throw row.noColumn(key.stringValue) }
        let value = try ColumnDecoder(row: row, index: index).value(type)
        next = index &+ 1
        return value
    }

    func isNull(_ key: some CodingKey) throws -> Bool {
        guard let index = index(of: key.stringValue) else { throw row.noColumn(key.stringValue) }
        return row.isNull(index) ?? true
    }
}

private struct RowContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let decoder: RowDecoder

    var codingPath: [any CodingKey] { [] }
    var allKeys: [Key] { decoder.row.columns.compactMap { Key(stringValue: $0.name) } }

    func contains(_ key: Key) -> Bool { decoder.index(of: key.stringValue) != nil }
    func decodeNil(forKey key: Key) throws -> Bool { try decoder.isNull(key) }
    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
        try decoder.value(key, as: type)
    }

    // The protocol has a method for each type of the standard library. Those with a codec skip the search for one.
    func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool { try decoder.scalar(key) }
    func decode(_ type: String.Type, forKey key: Key) throws -> String { try decoder.scalar(key) }
    func decode(_ type: Double.Type, forKey key: Key) throws -> Double { try decoder.scalar(key) }
    func decode(_ type: Float.Type, forKey key: Key) throws -> Float { try decoder.scalar(key) }
    func decode(_ type: Int.Type, forKey key: Key) throws -> Int { try decoder.scalar(key) }
    func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 { try decoder.value(key, as: type) }
    func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 { try decoder.scalar(key) }
    func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 { try decoder.scalar(key) }
    func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 { try decoder.scalar(key) }
    func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt { try decoder.value(key, as: type) }
    func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 { try decoder.value(key, as: type) }
    func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 { try decoder.value(key, as: type) }
    func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 { try decoder.scalar(key) }
    func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 { try decoder.value(key, as: type) }

    func nestedContainer<NestedKey: CodingKey>(
        keyedBy: NestedKey.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<NestedKey> { throw ColumnDecoder.notNested(key.stringValue) }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        throw ColumnDecoder.notNested(key.stringValue)
    }

    func superDecoder() throws -> any Decoder { throw ColumnDecoder.notNested("super") }
    func superDecoder(forKey key: Key) throws -> any Decoder { throw ColumnDecoder.notNested(key.stringValue) }
}
