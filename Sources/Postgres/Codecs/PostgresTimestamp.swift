#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A point in time: `timestamp with time zone`, with the server's exact microseconds.
///
/// Foundation's `Date` is a Double of seconds, which cannot hold every microsecond; this can.
public struct PostgresTimestamp: Hashable, Sendable, Comparable {
    /// Microseconds since 2000-01-01 00:00:00 UTC, as the server counts.
    public var microseconds: Int64

    /// The time so many microseconds after 2000-01-01 00:00:00 UTC; the two extremes of Int64 are the infinities.
    @inlinable public init(microseconds: Int64) { self.microseconds = microseconds }

    /// Later than all other times.
    @inlinable public static var infinity: Self { Self(microseconds: .max) }
    /// Earlier than all other times.
    @inlinable public static var negativeInfinity: Self { Self(microseconds: .min) }
    /// The earliest time the server has: 4714-11-24 00:00:00 BC.
    @inlinable public static var earliest: Self { Self(microseconds: TimestampRange.first) }
    /// The latest time the server has: 294276-12-31 23:59:59.999999.
    @inlinable public static var latest: Self { Self(microseconds: TimestampRange.last) }

    /// Neither `infinity` nor `negativeInfinity`.
    @inlinable public var isFinite: Bool { microseconds != .max && microseconds != .min }

    @inlinable public static func < (left: Self, right: Self) -> Bool { left.microseconds < right.microseconds }
}

extension PostgresTimestamp {
    /// The system clock's time.
    public static func now() -> Self {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        // A clock does not reach the years in which this would overflow; it would wrap, not trap.
        let unix = Int64(time.tv_sec) &* 1_000_000 &+ Int64(time.tv_nsec) / 1000
        return Self(microseconds: unix &- TimestampRange.unixEpochOffset)
    }

    /// From microseconds since 1970-01-01 00:00:00 UTC; nil outside the server's range.
    public init?(unixMicroseconds: Int64) {
        let (value, overflow) = unixMicroseconds.subtractingReportingOverflow(TimestampRange.unixEpochOffset)
        guard !overflow, TimestampRange.contains(value) else { return nil }
        microseconds = value
    }

    /// Microseconds since 1970-01-01 00:00:00 UTC; nil outside the server's range, as for `infinity`.
    public var unixMicroseconds: Int64? {
        guard TimestampRange.contains(microseconds) else { return nil }
        let (value, overflow) = microseconds.addingReportingOverflow(TimestampRange.unixEpochOffset)
        return overflow ? nil : value
    }
}

extension PostgresTimestamp: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .timestamptz }

    /// Throws `invalidArgument` outside the server's range.
    @inlinable
    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        guard TimestampRange.contains(microseconds) || !isFinite else { throw TimestampRange.outside(Self.self) }
        encoder.write(microseconds)
    }

    @inlinable @inline(__always)
    public func encodeCell(into encoder: inout PostgresEncoder) throws(PostgresError) {
        guard TimestampRange.contains(microseconds) || !isFinite else { throw TimestampRange.outside(Self.self) }
        encoder.writeCell(ofInteger: microseconds)
    }

    @inlinable
    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        if format == .binary, type.oid == 1184, let number = value.integer(Int64.self) {
            microseconds = number
        } else {
            microseconds = try TimestampRange.read(value, type, format, expecting: .timestamptz, as: Self.self)
        }
    }
}

extension PostgresTimestamp: CustomStringConvertible {
    /// As the server writes it in UTC: `2024-05-06 07:08:09.12+00`.
    public var description: String { TimestampText.write(microseconds, zone: "+00") }

    /// From the server's text form with an offset, such as `2024-05-06 07:08:09.12+02`; nil for any other text.
    public init?(_ text: String) {
        guard let value = TimestampText.parse(text.utf8, hasZone: true) else { return nil }
        microseconds = value
    }
}

extension PostgresTimestamp: Codable {
    /// As its description.
    public func encode(to encoder: any Encoder) throws { try description.encode(to: encoder) }

    /// From the server's text form; in JSON the server writes a `T` between date and time.
    public init(from decoder: any Decoder) throws {
        microseconds = try TimestampText.decode(from: decoder, hasZone: true)
    }
}
