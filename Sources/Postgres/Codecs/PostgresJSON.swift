#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// A Codable value as JSON: sent as `jsonb`, read from `json` and `jsonb`.
///
/// ```swift
/// try await db.execute("INSERT INTO events (payload) VALUES (\(PostgresJSON(event)))")
/// ```
/// It is written and read by Foundation's JSONEncoder and JSONDecoder as they are by default.
public struct PostgresJSON<Value> {
    /// The value that the JSON stands for.
    public var value: Value

    /// Wraps a value; it becomes JSON when the query is made.
    @inlinable public init(_ value: Value) { self.value = value }
}

extension PostgresJSON: Sendable where Value: Sendable {}
extension PostgresJSON: Equatable where Value: Equatable {}
extension PostgresJSON: Hashable where Value: Hashable {}

extension PostgresJSON: PostgresEncodable where Value: Encodable {
    @inlinable public static var postgresType: PostgresType { .jsonb }

    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        let json: Data
        do {
            json = try JSONEncoder().encode(value)
        } catch {
            throw PostgresError(
                code: .invalidArgument, message: "\(Value.self) cannot be written as JSON", underlying: error)
        }
        encoder.write(JSONBVersion.number)
        json.withUnsafeBytes { encoder.write($0) }
    }
}

extension PostgresJSON: PostgresDecodable where Value: Decodable {
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        let text = try JSONCell(postgres: value, type: type, format: format)
        self.init(try text.decode(Value.self))
    }
}

// In a Codable struct it is not seen: the value stands where it stands.
extension PostgresJSON: Encodable where Value: Encodable {
    public func encode(to encoder: any Encoder) throws { try value.encode(to: encoder) }
}

extension PostgresJSON: Decodable where Value: Decodable {
    public init(from decoder: any Decoder) throws { self.init(try Value(from: decoder)) }
}

/// The bytes of a json or jsonb, not yet read.
struct JSONCell: PostgresDecodable {
    private let json: Data
    private let type: PostgresType

    static func holds(_ type: PostgresType) -> Bool {
        type.oid == PostgresType.json.oid || type.oid == PostgresType.jsonb.oid
    }

    init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        guard Self.holds(type) else { throw .typeMismatch(Self.self, type, format) }
        var text = value
        if format == .binary, type.oid == PostgresType.jsonb.oid {
            try JSONBVersion.check(value, type, as: Self.self)
            text = value.extracting(droppingFirst: 1)
        }
        json = text.withUnsafeBytes { Data($0) }
        self.type = type
    }

    func decode<Value: Decodable>(_: Value.Type) throws(PostgresError) -> Value {
        do {
            return try JSONDecoder().decode(Value.self, from: json)
        } catch {
            // The error may quote the JSON, so it goes no further than `underlying`.
            throw PostgresError(
                code: .cannotDecode, message: "the JSON cannot be read as \(Value.self)\(DecodingError.path(error))",
                outcome: .succeeded, underlying: error)
        }
    }
}

extension DecodingError {
    /// ` at a.b.c`, where `error` says where.
    static func path(_ error: any Error) -> String {
        let context: Context? =
            switch error as? DecodingError {
            case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context),
                .dataCorrupted(let context):
                context
            default: nil
            }
        guard let path = context?.codingPath, !path.isEmpty else { return "" }
        return " at " + path.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
    }
}
