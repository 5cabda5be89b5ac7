import Testing

@testable import Postgres

@Suite struct PostgresHistogramTests {
    @Test func anEmptyOneIsAllZero() {
        let histogram = PostgresHistogram()
        #expect(histogram.count == 0)
        #expect(histogram.minimum == 0)
        #expect(histogram.maximum == 0)
        #expect(histogram.mean == 0)
        #expect(histogram.percentile(0.5) == 0)
        #expect(histogram.buckets.isEmpty)
    }

    @Test func valuesFallIntoPowersOfTwo() {
        var histogram = PostgresHistogram()
        for value: UInt64 in [0, 1, 2, 3, 4, 5, 8, 9, .max] { histogram.record(value) }
        #expect(
            histogram.buckets == [
                .init(upTo: 1, count: 2), .init(upTo: 2, count: 1), .init(upTo: 4, count: 2), .init(upTo: 8, count: 2),
                .init(upTo: 16, count: 1), .init(upTo: .max, count: 1),
            ])
        #expect(histogram.count == 9)
        #expect(histogram.sum == .max)
        #expect(histogram.minimum == 0)
        #expect(histogram.maximum == .max)
    }

    @Test func aPercentileIsNeverBelowTheTrueOneNorTwiceAsLarge() {
        var generator = SystemRandomNumberGenerator()
        var values = (0..<5000).map { _ in UInt64.random(in: 1...1_000_000, using: &generator) }
        var histogram = PostgresHistogram()
        for value in values { histogram.record(value) }
        values.sort()
        for part in [0.01, 0.5, 0.95, 0.99, 1] {
            let exact = values[max(0, Int((part * 5000).rounded(.up)) - 1)]
            let told = histogram.percentile(part)
            #expect(told >= exact)
            #expect(told < 2 * exact || told <= 2)
        }
        #expect(histogram.percentile(1) == values.last)
        #expect(histogram.percentile(7) == values.last)
        #expect(histogram.percentile(.nan) == values.last)
        #expect(histogram.percentile(-1) <= 2 * values[0])
    }

    @Test func timesAreNanoseconds() {
        var histogram = PostgresHistogram()
        histogram.record(.microseconds(3))
        histogram.record(.seconds(2))
        histogram.record(.seconds(-1))
        #expect(histogram.sum == 2_000_003_000)
        #expect(histogram.minimum == 0)
        histogram.record(.seconds(Int64.max))
        #expect(histogram.maximum == .max)
    }

    @Test func twoAddUpToOne() {
        var left = PostgresHistogram()
        var right = PostgresHistogram()
        var both = PostgresHistogram()
        for value: UInt64 in [5, 70, 900] {
            left.record(value)
            both.record(value)
        }
        for value: UInt64 in [1, 70, 100_000] {
            right.record(value)
            both.record(value)
        }
        left.add(right)
        #expect(left == both)
        left.add(PostgresHistogram())
        #expect(left == both)
    }
}
