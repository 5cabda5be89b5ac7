import Postgres

/// The bytes that a value writes about itself.
func encoded<Value: PostgresEncodable>(_ value: Value) throws(PostgresError) -> [UInt8] {
    var encoder = PostgresEncoder()
    try value.encode(into: &encoder)
    return encoder.withUnsafeBytes { [UInt8]($0) }
}

func decoded<Value: PostgresDecodable>(
    _ bytes: [UInt8], _ type: PostgresType, _ format: PostgresFormat, as: Value.Type = Value.self
) throws(PostgresError) -> Value {
    // As in a row, only the OID is known.
    try Value(postgres: bytes.span.bytes, type: PostgresType(oid: type.oid), format: format)
}

func decoded<Value: PostgresDecodable>(
    _ text: String, _ type: PostgresType, as: Value.Type = Value.self
) throws(PostgresError) -> Value {
    try decoded([UInt8](text.utf8), type, .text)
}

/// Encoded in the type's own format and read back as the same type.
func roundTrip<Value: PostgresCodable>(_ value: Value, as type: PostgresType? = nil) throws(PostgresError) -> Value {
    try decoded(try encoded(value), type ?? Value.postgresType, Value.postgresFormat)
}

/// The code that `body` throws; nil when it returns.
func code(_ body: () throws(PostgresError) -> Void) -> PostgresError.Code? {
    do throws(PostgresError) {
        try body()
        return nil
    } catch {
        return error.code
    }
}

/// The code with which a value is refused; nil when it is read.
func refusal<Value: PostgresDecodable>(
    _ bytes: [UInt8], _ type: PostgresType, _ format: PostgresFormat, as: Value.Type
) -> PostgresError.Code? {
    code { () throws(PostgresError) in _ = try decoded(bytes, type, format, as: Value.self) }
}

func refusal<Value: PostgresDecodable>(_ text: String, _ type: PostgresType, as: Value.Type) -> PostgresError.Code? {
    refusal([UInt8](text.utf8), type, .text, as: Value.self)
}

/// The code with which a value refuses to be sent; nil when it is written.
func refusal<Value: PostgresEncodable>(of value: Value) -> PostgresError.Code? {
    code { () throws(PostgresError) in _ = try encoded(value) }
}

/// SplitMix64: the same values on every run.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
