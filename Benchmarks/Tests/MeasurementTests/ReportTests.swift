import Foundation
import Measurement
import Testing

@Suite struct Reports {
    @Test func latenciesAreMicrosecondsOfNanoseconds() {
        var latencies = Latencies()
        latencies.record((1...1000).map { UInt64($0) * 1000 })
        #expect(latencies.count == 1000)
        #expect(abs(latencies.mean - 500.5) < 1)
        #expect(abs(latencies.median - 500) < 1)
        #expect(abs(latencies.percentile(95) - 950) < 1)
        #expect(abs(latencies.percentile(99) - 990) < 1)
        #expect(abs(latencies.minimum - 1) < 0.01)
        #expect(abs(latencies.maximum - 1000) < 1)
        #expect(abs(latencies.standardDeviation - 288.7) < 1)
    }

    @Test func latenciesOfNothingAreZero() {
        let latencies = Latencies()
        #expect(latencies.count == 0)
        #expect(latencies.mean == 0)
        #expect(latencies.percentile(99) == 0)
        #expect(latencies.maximum == 0)
    }

    @Test func aTimeBeyondTheRangeIsKept() {
        var latencies = Latencies()
        latencies.record([600_000_000_000])
        #expect(latencies.count == 1)
        #expect(latencies.maximum >= 600_000_000)
    }

    @Test func theJSONHasEveryKeyAndNoOther() throws {
        var latencies = Latencies()
        latencies.record([1000])
        var counts = ArmResult.Counts()
        counts.operations = 200
        counts.errors = 20
        counts.duplicateKeyErrors = 19
        counts.systemCalls = 600
        counts.proxyRoundTrips = 400
        let result = ArmResult(
            scenario: "sequential", arm: "libpq", counts: counts, cost: Cost(seconds: 2, cpuSeconds: 0.001),
            latencies: latencies, throughputs: [80, 90, 100])
        let json = try JSONSerialization.jsonObject(with: JSONEncoder().encode(result))
        let object = try #require(json as? [String: Any])
        #expect(
            object.keys.sorted() == [
                "arm", "cpu_us_per_op", "duplicate_key_errors", "errors", "lost_updates", "mean_us", "operations",
                "p50_us",
                "p95_us", "p99_us", "proxy_round_trips_per_op", "round_trips_per_op", "scenario", "sends_per_op",
                "syscalls_per_op", "throughput", "throughput_cv", "throughput_median",
            ])
        #expect(object["round_trips_per_op"] is NSNull)
        #expect(object["lost_updates"] is NSNull)
        #expect(object["proxy_round_trips_per_op"] as? Double == 2)
        #expect((object["throughput_median"] as? [String: Any])?["median"] as? Double == 90)
        #expect(object["syscalls_per_op"] as? Double == 3)
        #expect(object["cpu_us_per_op"] as? Double == 5)
        #expect(object["throughput"] as? Double == 90)
        #expect(object["duplicate_key_errors"] as? Int == 19)
        #expect(result.errorRate == 0.1)
    }

    @Test func aTableAlignsItsColumns() {
        var table = TextTable(["name", "us"])
        table.add(["a", "1.50"])
        table.add(["long name", "12.25"])
        #expect(
            "\(table)" == """
                name          us
                ---------  -----
                a           1.50
                long name  12.25
                """)
    }

    @Test(arguments: [
        (1.005, 1, "1.0"), (-0.25, 2, "-0.25"), (1234.5678, 0, "1235"), (.infinity, 1, "-"), (0, 2, "0.00"),
    ])
    func numbersHaveFixedDecimals(number: Double, decimals: Int, expected: String) {
        #expect(number.formatted(decimals) == expected)
    }

    @Test func distributionsAdd() {
        var total = Latencies()
        total += Latencies()
        #expect(total.count == 0)
        var more = Latencies()
        more.record([1000, 3000])
        total += more
        total += more
        #expect(total.count == 4)
        #expect(abs(total.mean - 2) < 0.01)
    }

    @Test func theDistributionIsWrittenAsHdrHistogramDoes() {
        var latencies = Latencies()
        latencies.record((1...1000).map { UInt64($0) * 1_000_000 })
        let lines = latencies.percentileDistribution.split(separator: "\n")
        #expect(lines.first?.split(separator: " ") == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"])
        let middle = lines.map { $0.split(separator: " ").compactMap { Double($0) } }.first {
            $0.count == 4 && $0[1] >= 0.5
        }
        #expect(middle.map { abs($0[0] - 500) < 2 && abs($0[2] - 500) < 2 && $0[3] >= 2 } == true)
        #expect(lines.last?.hasPrefix("#[Buckets") == true)
    }

    @Test func aCurveEndsWhereChanceBegins() {
        var latencies = Latencies()
        #expect(latencies.percentileCurve.isEmpty)
        latencies.record((1...1000).map { UInt64($0) * 1000 })
        let curve = latencies.percentileCurve
        #expect(curve.last?.percentile == 99)
        #expect(curve.map(\.microseconds) == curve.map(\.microseconds).sorted())
        #expect(curve.contains { $0.percentile == 50 && abs($0.microseconds - 500) < 1 })
    }
}
