#if canImport(FoundationEssentials)
    public import FoundationEssentials
#else
    public import Foundation
#endif

/// `timestamp with time zone`. A `Date` is a Double of seconds, so it is rounded to the nearest microsecond when sent; what is
/// read and sent again is the same microsecond for the 270 years before and after 2001. ``PostgresTimestamp`` is always exact.
///
/// A time that the other side cannot hold throws: `infinity` is no `Date`.
extension Date: PostgresCodable {
    @inlinable public static var postgresType: PostgresType { .timestamptz }

    public func encode(into encoder: inout PostgresEncoder) throws(PostgresError) {
        guard let timestamp = PostgresTimestamp(self) else { throw TimestampRange.outside(Date.self) }
        try timestamp.encode(into: &encoder)
    }

    public init(postgres value: RawSpan, type: PostgresType, format: PostgresFormat) throws(PostgresError) {
        let timestamp: PostgresTimestamp
        if format == .binary, type.oid == PostgresType.timestamptz.oid, let number = value.integer(Int64.self) {
            timestamp = PostgresTimestamp(microseconds: number)
        } else {
            timestamp = PostgresTimestamp(
                microseconds: try TimestampRange.read(value, type, format, expecting: .timestamptz, as: Date.self))
        }
        guard let date = timestamp.date else {
            throw .cannotDecode(Date.self, from: type, "infinity, or a time outside the server's range")
        }
        self = date
    }
}

extension PostgresTimestamp {
    /// Seconds from 2000-01-01 to Foundation's reference date, 2001-01-01.
    private static let referenceDate: Int64 = 31_622_400

    /// Rounded to the nearest microsecond; nil outside the server's range.
    public init?(_ date: Date) {
        // Seconds and fraction apart: their product with a million would lose digits.
        let seconds = date.timeIntervalSinceReferenceDate
        let whole = seconds.rounded(.down)
        guard
            let wholeSeconds = Int64(exactly: whole),  // nil for NaN and infinity too
            let fraction = Int64(exactly: ((seconds - whole) * 1_000_000).rounded())
        else { return nil }
        let (shifted, overflow) = wholeSeconds.addingReportingOverflow(Self.referenceDate)
        let (product, overflow2) = shifted.multipliedReportingOverflow(by: 1_000_000)
        let (sum, overflow3) = product.addingReportingOverflow(fraction)
        guard !overflow, !overflow2, !overflow3, TimestampRange.contains(sum) else { return nil }
        microseconds = sum
    }

    /// The nearest `Date`, of which the microseconds may be lost far from 2001; nil for `infinity` and outside the server's
    /// range.
    public var date: Date? {
        guard TimestampRange.contains(microseconds) else { return nil }
        let (seconds, fraction) = microseconds.quotientAndRemainder(dividingBy: 1_000_000)
        let reference = Double(seconds &- Self.referenceDate) + Double(fraction) / 1_000_000
        return Date(timeIntervalSinceReferenceDate: reference)
    }
}
