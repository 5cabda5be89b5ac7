import Measurement
import Reporting

/// What was claimed for the atomic upsert when it replaced SELECT-then-INSERT-or-UPDATE in a small service, and what was
/// measured here.
struct Claims {
    struct Claim: Encodable {
        var name: String
        var claimed: String
        var measured: String
        var verdict: String
    }

    private(set) var claims: [Claim] = []

    init(_ report: RunReport) {
        if let comparison = report["sequential"]?.comparison {
            gain("sequential: throughput", 40...60, comparison.throughput)
            reduction("sequential: mean latency", 30...40, comparison.mean)
            reduction("sequential: p95", 25...35, comparison.p95)
            reduction("sequential: p99", 20...30, comparison.p99)
        }
        if let comparison = report["concurrent"]?.comparison {
            gain("concurrent: throughput", 100...200, comparison.throughput)
            reduction("concurrent: mean latency", 40...50, comparison.mean)
            reduction("concurrent: p95", 50...60, comparison.p95)
            reduction("concurrent: p99", 60...70, comparison.p99)
        }
        errors(report)
        if let sequential = report["sequential"],
            let naive = sequential[arm: "naive"]?.result.roundTripsPerOperation,
            let atomic = sequential[arm: "atomic"]?.result.roundTripsPerOperation
        {
            add("sequential: round trips", 50...50, -50, (atomic / naive - 1) * 100)
        }
        if let comparison = report["concurrent"]?.comparison {
            let ratio = comparison.throughput
            claims.append(
                Claim(
                    name: "as many requests on the same connections", claimed: "2x",
                    measured: "\(ratio.median.formatted(2))x", verdict: ratio.median >= 2 ? "confirmed" : "not reached")
            )
        }
    }

    var table: TextTable {
        var table = TextTable(["claim", "claimed", "measured", "verdict"], leading: [0, 3])
        for claim in claims { table.add([claim.name, claim.claimed, claim.measured, claim.verdict]) }
        return table
    }

    private mutating func gain(_ name: String, _ range: ClosedRange<Double>, _ ratio: Ratio) {
        let measured = (ratio.median - 1) * 100
        claims.append(
            Claim(
                name: name, claimed: "+\(range.lowerBound.formatted(0)) to +\(range.upperBound.formatted(0)) %",
                measured: percent(measured), verdict: verdict(measured, range)))
    }

    private mutating func reduction(_ name: String, _ range: ClosedRange<Double>, _ ratio: Ratio) {
        let measured = (1 - ratio.median) * 100
        claims.append(
            Claim(
                name: name, claimed: "-\(range.lowerBound.formatted(0)) to -\(range.upperBound.formatted(0)) %",
                measured: percent(-measured), verdict: verdict(measured, range)))
    }

    private mutating func add(_ name: String, _ range: ClosedRange<Double>, _ claimed: Double, _ measured: Double) {
        claims.append(
            Claim(
                name: name, claimed: percent(claimed), measured: percent(measured),
                verdict: verdict(measured.magnitude, range)))
    }

    private mutating func errors(_ report: RunReport) {
        let two = report["concurrent, 2 workers"]?[arm: "naive"]
        let ten = report["concurrent"]?[arm: "naive"]
        if let two { rate("naive: errors with 2 workers", 1...5, two.result.errorRate) }
        if let ten { rate("naive: errors with 10 workers", 10...30, ten.result.errorRate) }
        let peak = report.scenarios.filter { $0.section == .concurrent || $0.section == .race }
            .compactMap { $0[arm: "naive"]?.measured.highestErrorRate }.max()
        if let peak {
            claims.append(
                Claim(
                    name: "naive: errors at peak", claimed: "up to 50 %", measured: "\((peak * 100).formatted(1)) %",
                    verdict: peak > 0.5 ? "more" : "confirmed"))
        }
        if let ten, ten.result.errors > 0, let atomic = report["concurrent"]?[arm: "atomic"]?.result {
            add("concurrent: errors", 100...100, -100, (atomic.errorRate / ten.result.errorRate - 1) * 100)
        }
    }

    private mutating func rate(_ name: String, _ range: ClosedRange<Double>, _ rate: Double) {
        let measured = rate * 100
        let verdict = range.contains(measured) ? "confirmed" : measured < range.lowerBound ? "fewer" : "more"
        claims.append(
            Claim(
                name: name, claimed: "\(range.lowerBound.formatted(0)) to \(range.upperBound.formatted(0)) %",
                measured: "\(measured.formatted(1)) %", verdict: verdict))
    }

    // Half a percent is what the rounding of the claims leaves open.
    private func verdict(_ measured: Double, _ range: ClosedRange<Double>) -> String {
        if measured < range.lowerBound - 0.5 { return "not reached" }
        return measured > range.upperBound + 0.5 ? "exceeded" : "confirmed"
    }

    private func percent(_ value: Double) -> String { (value >= 0 ? "+" : "") + value.formatted(1) + " %" }
}
