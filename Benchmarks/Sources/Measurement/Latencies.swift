import Histogram

/// A distribution of times, in microseconds, from nanoseconds recorded within 0.1 %.
package struct Latencies: Sendable {
    private var histogram = Histogram<UInt64>(
        highestTrackableValue: 60_000_000_000, numberOfSignificantValueDigits: .three)

    package init() { histogram.autoResize = true }

    package mutating func record(_ nanoseconds: some Sequence<UInt64>) {
        // A resizing histogram takes every value.
        for time in nanoseconds { _ = histogram.record(time) }
    }

    package var count: Int { Int(clamping: histogram.totalCount) }
    package var mean: Double { count == 0 ? 0 : histogram.mean / 1000 }
    package var median: Double { percentile(50) }
    package var minimum: Double { count == 0 ? 0 : Double(histogram.min) / 1000 }
    package var maximum: Double { count == 0 ? 0 : Double(histogram.max) / 1000 }
    package var standardDeviation: Double { count == 0 ? 0 : histogram.stdDeviation / 1000 }

    package func percentile(_ percentile: Double) -> Double {
        count == 0 ? 0 : Double(histogram.valueAtPercentile(percentile)) / 1000
    }
}
