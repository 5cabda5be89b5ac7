/// JSON that stays text: sent as `jsonb`, read from `json` and `jsonb`.
///
/// A `String` is no less a parameter for a json column; this one says its type, and so fits where the server cannot infer it.
public struct PostgresJSONText: Hashable, Sendable {
    /// The JSON as it was written.
    public var text: String

    /// Wraps a text; whether it is JSON is for the server to say.
    @inlinable public init(_ text: String) { self.text = text }
}

extension PostgresJSONText: ExpressibleByStringLiteral {
    @inlinable public init(stringLiteral value: String) { text = value }
}

extension PostgresJSONText: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .jsonb }

    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.write(JSONBVersion.number)
        try text.encode(into: &encoder)
    }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        let isWritten = text.utf8.withContiguousStorageIfAvailable {
            encoder.writeCell(ofText: $0, version: JSONBVersion.number)
        }
        if isWritten != true { try encoder.writeMeasuredCell(self) }
    }

    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        guard type.oid == PostgresType.json.oid || type.oid == PostgresType.jsonb.oid else {
            throw .typeMismatch(Self.self, type, format)
        }
        self.init(try String(postgres: value, type: type, format: format))
    }
}

extension PostgresJSONText: CustomStringConvertible {
    public var description: String { text }
}

// Coders do not show the text of what they read, so to them it is a string. A row's column is read by the codec above.
extension PostgresJSONText: Codable {
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }

    public init(from decoder: any Decoder) throws {
        self.init(try decoder.singleValueContainer().decode(String.self))
    }
}
