#if canImport(FoundationEssentials)
    public import FoundationEssentials
#else
    public import Foundation
#endif

/// `bytea`, as ``PostgresBytes``.
extension Data: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .bytea }

    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        // Data may lie in several regions.
        for region in regions { region.withUnsafeBytes { encoder.write($0) } }
    }

    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == PostgresType.bytea.oid {
            self = value.withUnsafeBytes { Data($0) }
        } else {
            self.init(try ByteaText.read(value, type, format, as: Data.self))
        }
    }
}
