/// Shows one column of a row to `Decodable` as a single value.
struct ColumnDecoder: Decoder, SingleValueDecodingContainer {
    let row: PostgresRow
    let index: Int

    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    private var name: String { row.columns[index].name }
    private var holdsJSON: Bool { JSONCell.holds(row.columns[index].type) }

    /// By the type's own codec if it has one; from JSON in a json column; else as the type builds itself from a single value.
    func value<Value: Decodable>(_ type: Value.Type) throws -> Value {
        if let type = type as? any (PostgresDecodable & Decodable).Type {
            // The same type again, of which the compiler now knows that it has a codec.
            guard let value = try coded(type) as? Value else { throw Self.notNested(name) }
            return value
        }
        if holdsJSON, !decodeNil() { return try json(type) }
        return try Value(from: self)
    }

    func coded<Value: PostgresDecodable & Decodable>(_: Value.Type) throws(PostgresError) -> Value {
        do throws(PostgresError) {
            return try row.decode(index, as: Value.self)
        } catch {
            // Such as [Int], which has a codec, but not one for json.
            guard error.code == .typeMismatch, holdsJSON else { throw error }
        }
        return try json(Value.self)
    }

    private func json<Value: Decodable>(_ type: Value.Type) throws(PostgresError) -> Value {
        do throws(PostgresError) {
            return try row.decode(index, as: JSONCell.self).decode(type)
        } catch {
            throw row.columns.locate(error, index)
        }
    }

    func singleValueContainer() throws -> any SingleValueDecodingContainer { self }

    func container<Key: CodingKey>(keyedBy: Key.Type) throws -> KeyedDecodingContainer<Key> { throw noContainer() }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer { throw noContainer() }

    private func noContainer() -> PostgresError {
        guard !decodeNil() else {
            return PostgresError(
                code: .unexpectedNull, message: "column \"\(name)\": NULL where a value is wanted",
                outcome: .succeeded, hint: "make the property optional")
        }
        return Self.notNested(name)
    }

    static func notNested(_ name: String) -> PostgresError {
        PostgresError(
            code: .typeMismatch, message: "column \"\(name)\" holds a single value, and a compound one is wanted",
            outcome: .succeeded, hint: "only json and jsonb columns hold such; bytea is read as PostgresBytes or Data")
    }

    func decodeNil() -> Bool { row.isNull(index) ?? true }

    func decode(_ type: Bool.Type) throws -> Bool { try row.decode(index) }
    func decode(_ type: String.Type) throws -> String { try row.decode(index) }
    func decode(_ type: Double.Type) throws -> Double { try row.decode(index) }
    func decode(_ type: Float.Type) throws -> Float { try row.decode(index) }
    func decode(_ type: Int.Type) throws -> Int { try row.decode(index) }
    func decode(_ type: Int16.Type) throws -> Int16 { try row.decode(index) }
    func decode(_ type: Int32.Type) throws -> Int32 { try row.decode(index) }
    func decode(_ type: Int64.Type) throws -> Int64 { try row.decode(index) }
    func decode(_ type: UInt32.Type) throws -> UInt32 { try row.decode(index) }
    // These have no type on the server.
    func decode(_ type: Int8.Type) throws -> Int8 { try integer() }
    func decode(_ type: UInt.Type) throws -> UInt { try integer() }
    func decode(_ type: UInt8.Type) throws -> UInt8 { try integer() }
    func decode(_ type: UInt16.Type) throws -> UInt16 { try integer() }
    func decode(_ type: UInt64.Type) throws -> UInt64 { try integer() }
    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try value(type) }

    private func integer<Integer: FixedWidthInteger>() throws(PostgresError) -> Integer {
        let wide = try row.decode(index, as: Int64.self)
        guard let value = Integer(exactly: wide) else {
            throw row.columns.locate(IntegerCell.outOfRange(row.columns[index].type, Integer.self), index)
        }
        return value
    }
}
