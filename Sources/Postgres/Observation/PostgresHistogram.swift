/// How often values of each size came: a bucket for each power of two, of fixed size and cheap to add to.
///
/// The unit is the recorder's: nanoseconds for times, rows for sizes. A percentile is exact to a factor of two, and never below
/// the true one; `count`, `sum`, `minimum` and `maximum` are exact.
public struct PostgresHistogram: Sendable, Hashable {
    /// One bucket: how many values were above half of `upTo` (for the first: zero) and at most `upTo`.
    public struct Bucket: Sendable, Hashable {
        public let upTo: UInt64
        public let count: UInt64
    }

    // By the number of significant bits of the value less one; 0 and 1 share the first.
    private var counts = [UInt64](repeating: 0, count: 65)
    /// How many values were recorded.
    public private(set) var count: UInt64 = 0
    /// The sum of all values; it stays at its largest possible value rather than wrap.
    public private(set) var sum: UInt64 = 0
    /// The largest value; 0 when there is none.
    public private(set) var maximum: UInt64 = 0
    private var smallest = UInt64.max

    public init() {}

    /// The smallest value; 0 when there is none.
    public var minimum: UInt64 { count == 0 ? 0 : smallest }
    /// The average; 0 when there is none.
    public var mean: Double { count == 0 ? 0 : Double(sum) / Double(count) }

    /// Adds a value.
    public mutating func record(_ value: UInt64) {
        counts[Self.index(value)] &+= 1
        count &+= 1
        sum = Self.adding(sum, value)
        maximum = max(maximum, value)
        smallest = min(smallest, value)
    }

    /// Adds a time, in nanoseconds; a negative one counts as zero.
    public mutating func record(_ time: Duration) {
        let (seconds, attoseconds) = time.components
        guard seconds >= 0, attoseconds >= 0 else { return record(0) }
        let (whole, overflows) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        record(overflows ? .max : Self.adding(whole, UInt64(attoseconds / 1_000_000_000)))
    }

    /// Adds what another has counted.
    public mutating func add(_ other: PostgresHistogram) {
        for index in counts.indices { counts[index] &+= other.counts[index] }
        count &+= other.count
        sum = Self.adding(sum, other.sum)
        maximum = max(maximum, other.maximum)
        smallest = min(smallest, other.smallest)
    }

    /// A bound below or at which the given part of the values lies: `percentile(0.99)`. Of 0 values it is 0.
    ///
    /// - Parameter part: from 0 to 1; values outside are taken as the nearest of these.
    public func percentile(_ part: Double) -> UInt64 {
        guard count > 0 else { return 0 }
        let wanted = (part.isNaN ? 1 : min(max(part, 0), 1)) * Double(count)
        var passed: UInt64 = 0
        for (index, number) in counts.enumerated() where number > 0 {
            passed &+= number
            if Double(passed) >= wanted { return min(Self.bound(index), maximum) }
        }
        return maximum
    }

    /// The buckets that hold anything, smallest values first.
    public var buckets: [Bucket] {
        counts.enumerated().compactMap { index, number in
            number == 0 ? nil : Bucket(upTo: Self.bound(index), count: number)
        }
    }

    private static func index(_ value: UInt64) -> Int {
        value <= 1 ? 0 : UInt64.bitWidth - (value - 1).leadingZeroBitCount
    }

    private static func bound(_ index: Int) -> UInt64 { index >= UInt64.bitWidth ? .max : 1 << UInt64(index) }

    private static func adding(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let (sum, overflows) = left.addingReportingOverflow(right)
        return overflows ? .max : sum
    }
}
