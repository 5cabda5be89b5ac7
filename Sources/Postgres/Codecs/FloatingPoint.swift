extension Double: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .float8 }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(bitPattern) }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.writeCell(ofInteger: bitPattern)
    }

    /// Reads float8 and float4.
    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 701, let bits = value.integer(UInt64.self) {
            self.init(bitPattern: bits)
        } else {
            self = try Self.read(value, type, format)
        }
    }

    @usableFromInline @inline(never)
    static func read(_ value: RawSpan, _ type: PostgresType, _ format: PostgresFormat) throws(PostgresError) -> Double {
        let number: Double?
        switch (type.oid, format) {
        case (700, .binary): number = value.integer(UInt32.self).map { Double(Float(bitPattern: $0)) }
        case (701, .binary): number = value.integer(UInt64.self).map { Double(bitPattern: $0) }
        case (700, .text), (701, .text): number = FloatText.parse(value)
        default: throw .typeMismatch(Double.self, type, format)
        }
        guard let number else { throw FloatText.malformed(Double.self, value, type, format) }
        return number
    }
}

extension Float: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .float4 }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(bitPattern) }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.writeCell(ofInteger: bitPattern)
    }

    /// Reads float4 only: a float8 would lose digits.
    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 700, let bits = value.integer(UInt32.self) {
            self.init(bitPattern: bits)
        } else {
            self = try Self.read(value, type, format)
        }
    }

    @usableFromInline @inline(never)
    static func read(_ value: RawSpan, _ type: PostgresType, _ format: PostgresFormat) throws(PostgresError) -> Float {
        guard type.oid == PostgresType.float4.oid else { throw .typeMismatch(Float.self, type, format) }
        let number: Float?
        switch format {
        case .binary: number = value.integer(UInt32.self).map { Float(bitPattern: $0) }
        case .text: number = FloatText.parse(value)
        }
        guard let number else { throw FloatText.malformed(Float.self, value, type, format) }
        return number
    }
}

/// The server's text form of float4 and float8 (manual, "Floating-Point Types").
private enum FloatText {
    /// nil when it is not a number, or one that `Number` cannot hold: nothing becomes infinite that was not so written.
    static func parse<Number: BinaryFloatingPoint & LosslessStringConvertible>(_ text: RawSpan) -> Number? {
        if text.equals("NaN") { return .nan }
        if text.equals("Infinity") { return .infinity }
        if text.equals("-Infinity") { return -.infinity }
        // The standard library reads more than the server writes (hexadecimal, "inf", "nan"), so the characters are checked
        // first. They are ASCII then, and decoding repairs nothing.
        let isDecimal = text.withUnsafeBytes { bytes in
            bytes.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "+"),
                    UInt8(ascii: "e"):
                    true
                default: false
                }
            }
        }
        guard isDecimal else { return nil }
        let string = text.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        guard let number = Number(string), number.isFinite else { return nil }
        return number
    }

    static func malformed<T>(
        _ swiftType: T.Type, _ value: RawSpan, _ type: PostgresType, _ format: PostgresFormat
    ) -> PostgresError {
        .cannotDecode(swiftType, from: type, "\(value.byteCount) bytes that are not a number in \(format) form")
    }
}
