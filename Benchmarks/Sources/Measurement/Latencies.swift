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

    package static func += (total: inout Self, more: Self) {
        if more.histogram.totalCount > 0 { total.histogram.add(more.histogram) }
    }

    /// The percentile distribution in the text form of HdrHistogram (.hgrm), in milliseconds, which its plotter reads.
    package var percentileDistribution: String {
        var text = ""
        histogram.outputPercentileDistribution(to: &text, outputValueUnitScalingRatio: 1_000_000)
        return text
    }

    /// Points of the distribution up to the percentile of which there are ten values above: what lies beyond is chance.
    package var percentileCurve: [(percentile: Double, microseconds: Double)] {
        guard count > 0 else { return [] }
        let last = 1 - min(1, 10 / Double(count))
        let levels = [
            0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998,
            0.999, 0.9995, 0.9999,
        ]
        return levels.filter { $0 <= last }.map { ($0 * 100, percentile($0 * 100)) }
    }
}
