#if canImport(FoundationEssentials)
    public import FoundationEssentials
#else
    public import Foundation
#endif

extension UUID: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .uuid }

    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        Swift.withUnsafeBytes(of: uuid) { encoder.write($0) }
    }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 2950, value.byteCount == 16 {
            // Safe: 16 bytes are there, and every pattern of bits is a tuple of bytes.
            self.init(uuid: value.unsafeLoadUnaligned(as: uuid_t.self))
        } else {
            self = try Self.read(value, type, format)
        }
    }

    @usableFromInline @inline(never)
    static func read(_ value: RawSpan, _ type: PostgresType, _ format: PostgresFormat) throws(PostgresError) -> UUID {
        guard type.oid == PostgresType.uuid.oid else { throw .typeMismatch(UUID.self, type, format) }
        let text = format == .text ? value.withUnsafeBytes { String(validating: $0, as: UTF8.self) } : nil
        guard let uuid = text.flatMap({ UUID(uuidString: $0) }) else {
            throw .cannotDecode(UUID.self, from: type, "\(value.byteCount) bytes that are not a UUID in \(format) form")
        }
        return uuid
    }
}
