/// Bytes: `bytea`.
///
/// A type of its own, because `[UInt8]` would be an array: the bytes of a `bytea` and the elements of an SQL array both look
/// like one, and only one of them can be meant. So `UInt8` is no parameter, and `[UInt8]` does not compile as one by accident.
/// With Foundation, `Data` is `bytea` too.
public struct PostgresBytes: Hashable, Sendable {
    /// What the server stores, byte for byte.
    public var bytes: [UInt8]

    /// Wraps an array without a copy.
    @inlinable public init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Copies any other sequence of bytes.
    @inlinable public init(_ bytes: some Sequence<UInt8>) { self.bytes = [UInt8](bytes) }
}

extension PostgresBytes: ExpressibleByArrayLiteral {
    @inlinable public init(arrayLiteral elements: UInt8...) { bytes = elements }
}

extension PostgresBytes: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .bytea }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(bytes) }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 17 {
            bytes = value.withUnsafeBytes { [UInt8]($0) }
        } else {
            bytes = try ByteaText.read(value, type, format, as: Self.self)
        }
    }
}

extension PostgresBytes: CustomStringConvertible {
    /// In hexadecimal, as the server writes it: `\x0aff`.
    public var description: String {
        let digits = [UInt8]("0123456789abcdef".utf8)
        var text = [UInt8]("\\x".utf8)
        text.reserveCapacity(2 + bytes.count * 2)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}

// As it appears in the server's own JSON, a string in hexadecimal; synthesized, it would be an object.
extension PostgresBytes: Codable {
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = [UInt8](try container.decode(String.self).utf8)
        guard let bytes = ByteaText.parse(text.span.bytes) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not the text form of a bytea")
        }
        self.bytes = bytes
    }
}

/// The two text forms of bytea (manual, "Binary Data Types"): `\x0aff`, or with `bytea_output = escape` the bytes themselves,
/// where a backslash is doubled and other bytes are `\ooo`.
@usableFromInline
enum ByteaText {
    @usableFromInline @inline(never)
    static func read<T>(
        _ value: RawSpan, _ type: PostgresType, _ format: PostgresFormat, as swiftType: T.Type
    ) throws(PostgresError) -> [UInt8] {
        guard type.oid == PostgresType.bytea.oid else { throw .typeMismatch(swiftType, type, format) }
        if format == .binary { return value.withUnsafeBytes { [UInt8]($0) } }
        guard let bytes = parse(value) else {
            throw .cannotDecode(swiftType, from: type, "neither the hexadecimal nor the escape form of a bytea")
        }
        return bytes
    }

    static func parse(_ text: RawSpan) -> [UInt8]? {
        text.withUnsafeBytes { bytes in
            bytes.starts(with: "\\x".utf8) ? hexadecimal(bytes.dropFirst(2)) : escaped(bytes)
        }
    }

    private static func hexadecimal(_ digits: Slice<UnsafeRawBufferPointer>) -> [UInt8]? {
        guard digits.count.isMultiple(of: 2) else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        var high: UInt8?
        for digit in digits {
            guard let value = nibble(digit) else { return nil }
            if let first = high {
                bytes.append(first << 4 | value)
                high = nil
            } else {
                high = value
            }
        }
        return bytes
    }

    private static func nibble(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit &- UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit &- UInt8(ascii: "a") &+ 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit &- UInt8(ascii: "A") &+ 10
        default: nil
        }
    }

    private static func escaped(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var rest = text[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\") else {
                bytes.append(byte)
                continue
            }
            guard let first = rest.popFirst() else { return nil }
            if first == UInt8(ascii: "\\") {
                bytes.append(first)
                continue
            }
            guard let second = rest.popFirst(), let third = rest.popFirst() else { return nil }
            let digits = [first, second, third].map { $0 &- UInt8(ascii: "0") }
            guard digits[0] <= 3, digits[1] <= 7, digits[2] <= 7 else { return nil }
            bytes.append(digits[0] << 6 | digits[1] << 3 | digits[2])
        }
        return bytes
    }
}
