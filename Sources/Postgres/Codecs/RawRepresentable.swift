// An enum of strings or integers only has to adopt `PostgresCodable`:
//     enum Mood: String, PostgresCodable { case sad, happy }

extension PostgresEncodable where Self: RawRepresentable, RawValue: PostgresEncodable {
    @inlinable public static var postgresType: PostgresType { RawValue.postgresType }
    @inlinable public static var postgresFormat: PostgresFormat { RawValue.postgresFormat }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        try rawValue.encode(into: &encoder)
    }
}

extension PostgresDecodable where Self: RawRepresentable, RawValue: PostgresDecodable {
    @inlinable public static var postgresResultFormat: PostgresFormat { RawValue.postgresResultFormat }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        let rawValue = try RawValue(postgres: value, type: type, format: format)
        guard let known = Self(rawValue: rawValue) else {
            throw .cannotDecode(Self.self, from: type, "the value is none of its cases")
        }
        self = known
    }
}
