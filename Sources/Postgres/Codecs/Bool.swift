extension Bool: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .bool }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.write(UInt8(self ? 1 : 0))
    }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        encoder.writeCell(ofInteger: UInt8(self ? 1 : 0))
    }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if type.oid == 16, let byte = value.integer(UInt8.self) {
            switch (byte, format) {
            case (1, .binary), (UInt8(ascii: "t"), .text):
                self = true
                return
            case (0, .binary), (UInt8(ascii: "f"), .text):
                self = false
                return
            default: break
            }
        }
        throw Self.refuse(type, format)
    }

    @usableFromInline @inline(never)
    static func refuse(_ type: PostgresType, _ format: PostgresFormat) -> PostgresError {
        guard type.oid == PostgresType.bool.oid else { return .typeMismatch(Bool.self, type, format) }
        return .cannotDecode(Bool.self, from: type, "the bytes are not a boolean in \(format) form")
    }
}
