/// What a calendar and a clock on the wall show, in no time zone: `timestamp without time zone`.
public struct PostgresLocalTimestamp: Hashable, Sendable, Comparable {
    /// Microseconds since 2000-01-01 00:00:00.
    public var microseconds: Int64

    /// The time so many microseconds after 2000-01-01 00:00:00; the two extremes of Int64 are the infinities.
    @inlinable public init(microseconds: Int64) { self.microseconds = microseconds }

    /// Later than all other times.
    @inlinable public static var infinity: Self { Self(microseconds: .max) }
    @inlinable public static var negativeInfinity: Self { Self(microseconds: .min) }
    /// The earliest time the server has: 4714-11-24 00:00:00 BC.
    @inlinable public static var earliest: Self { Self(microseconds: TimestampRange.first) }
    /// The latest time the server has: 294276-12-31 23:59:59.999999.
    @inlinable public static var latest: Self { Self(microseconds: TimestampRange.last) }

    /// Neither `infinity` nor `negativeInfinity`.
    @inlinable public var isFinite: Bool { microseconds != .max && microseconds != .min }

    @inlinable public static func < (left: Self, right: Self) -> Bool { left.microseconds < right.microseconds }
}

extension PostgresLocalTimestamp: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .timestamp }

    /// Throws `invalidArgument` outside the server's range.
    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        guard TimestampRange.contains(microseconds) || !isFinite else { throw TimestampRange.outside(Self.self) }
        encoder.write(microseconds)
    }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 1114, let number = value.integer(Int64.self) {
            microseconds = number
        } else {
            microseconds = try TimestampRange.read(value, type, format, expecting: .timestamp, as: Self.self)
        }
    }
}

extension PostgresLocalTimestamp: CustomStringConvertible {
    /// As the server writes it: `2024-05-06 07:08:09.12`.
    public var description: String { TimestampText.write(microseconds, zone: "") }

    /// From the server's text form, such as `2024-05-06 07:08:09.12`; nil for any other text.
    public init?(_ text: String) {
        guard let value = TimestampText.parse(text.utf8, hasZone: false) else { return nil }
        microseconds = value
    }
}

extension PostgresLocalTimestamp: Codable {
    /// As its description.
    public func encode(to encoder: any Encoder) throws { try description.encode(to: encoder) }

    /// From the server's text form; in JSON the server writes a `T` between date and time.
    public init(from decoder: any Decoder) throws {
        microseconds = try TimestampText.decode(from: decoder, hasZone: false)
    }
}
