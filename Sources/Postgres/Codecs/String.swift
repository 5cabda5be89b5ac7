/// A String travels as text in both directions: so it is a parameter for any type that the server can read from text, and any
/// column can be read as one.
extension String: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .unspecified }
    @inlinable public static var postgresFormat: PostgresFormat { .text }
    @inlinable public static var postgresResultFormat: PostgresFormat { .text }

    /// Throws `invalidArgument` for a string with a NUL in it, which the server has no way to store.
    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        // `withUTF8` would need a copy to mutate, and count references for it.
        let isSendable = utf8Span.span.withUnsafeBytes { encoder.write(text: $0) }
        if !isSendable { throw PostgresText.zeroByte() }
    }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        // Unlike `utf8Span` this is inlined: for a short string it is a handful of instructions.
        let isWritten = utf8.withContiguousStorageIfAvailable { encoder.writeCell(ofText: $0) }
        if isWritten != true { try encoder.writeMeasuredCell(self) }
    }

    /// Reads any type in text form; in binary form text, varchar, bpchar, name, "char", unknown, xml, json and jsonb.
    ///
    /// Bytes that are not UTF-8, which an SQL_ASCII database can hold, throw `cannotDecode`: nothing is repaired.
    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .text || type.oid == 25 || type.oid == 1043 {
            self = try PostgresText.read(value, type)
        } else {
            self = try PostgresText.readBinary(value, type)
        }
    }
}

@usableFromInline
enum PostgresText {
    @usableFromInline @inline(never)
    static func zeroByte() -> PostgresError {
        PostgresError(
            code: .invalidArgument, message: "a string with a NUL character in it cannot be sent as text",
            hint: "use bytea for bytes, or remove the NUL")
    }

    @usableFromInline
    static func read(_ value: RawSpan, _ type: PostgresType) throws(PostgresError) -> String {
        // By way of UTF8Span: `String(validating:as:)` looks generic metadata up at each call, which costs more than the copying.
        let text = value.withUnsafeBytes { bytes -> String? in
            guard let text = try? UTF8Span(validating: bytes.bindMemory(to: UInt8.self).span) else { return nil }
            return String(copying: text)
        }
        guard let text else {
            throw .cannotDecode(String.self, from: type, "the bytes are not UTF-8")
        }
        return text
    }

    @usableFromInline @inline(never)
    static func readBinary(_ value: RawSpan, _ type: PostgresType) throws(PostgresError) -> String {
        switch type.oid {
        case PostgresType.text.oid, PostgresType.varchar.oid, PostgresType.bpchar.oid, PostgresType.name.oid,
            PostgresType.char.oid, PostgresType.unknown.oid, PostgresType.json.oid, PostgresType.xml.oid:
            return try read(value, type)
        case PostgresType.jsonb.oid:
            try JSONBVersion.check(value, type, as: String.self)
            return try read(value.extracting(droppingFirst: 1), type)
        default: throw .typeMismatch(String.self, type, .binary)
        }
    }
}

/// The binary form of jsonb is a version number, always 1, and the JSON text (src/backend/utils/adt/jsonb.c, `jsonb_recv`).
@usableFromInline
enum JSONBVersion {
    @inlinable static var number: UInt8 { 1 }

    static func check<T>(_ value: RawSpan, _ type: PostgresType, as swiftType: T.Type) throws(PostgresError) {
        guard value.integer(UInt8.self, at: 0) == number else {
            throw .cannotDecode(swiftType, from: type, "jsonb of an unknown version")
        }
    }
}
