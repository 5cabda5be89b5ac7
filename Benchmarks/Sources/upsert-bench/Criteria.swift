import Measurement
import Reporting

/// The success criteria: a verdict line each.
struct Criteria {
    private(set) var verdicts: [Verdict] = []

    init(_ report: RunReport) {
        for name in ["concurrent", "concurrent, 2 workers"] {
            guard let atomic = report[name]?[arm: "atomic"]?.result else { continue }
            add(
                atomic.errors == 0,
                "\(name): the atomic upsert has no errors: \(atomic.errors) of \(atomic.operations)")
        }
        if let concurrent = report["concurrent"], let naive = concurrent[arm: "naive"]?.result,
            let atomic = concurrent[arm: "atomic"]?.result
        {
            add(
                naive.duplicateKeyErrors > 0 && atomic.duplicateKeyErrors == 0,
                "concurrent: duplicate keys, 0 for atomic and more for naive: \(atomic.duplicateKeyErrors) and"
                    + " \(naive.duplicateKeyErrors)")
        }
        if let sequential = report["sequential"],
            let naive = sequential[arm: "naive"]?.result.roundTripsPerOperation,
            let atomic = sequential[arm: "atomic"]?.result.roundTripsPerOperation
        {
            add(
                abs(atomic - 1) < 0.001 && abs(naive - 2) < 0.001,
                "sequential: round trips per operation, 1 for atomic and 2 for naive: \(atomic.formatted(3)) and"
                    + " \(naive.formatted(3))")
        }
        for name in ["sequential", "concurrent"] {
            guard let comparison = report[name]?.comparison else { continue }
            let throughput = comparison.throughput
            add(
                throughput.low > 1.10,
                "\(name): throughput gain over 10 %: \(change(throughput))")
            add(
                comparison.mean.high < 0.95,
                "\(name): mean latency gain over 5 %: \(change(comparison.mean))")
        }
        let races = report.scenarios.filter { $0.section == .race }
        if !races.isEmpty {
            func lost(_ arm: String) -> Int { races.reduce(0) { $0 + ($1[arm: arm]?.result.lostUpdates ?? 0) } }
            add(
                lost("atomic") == 0,
                "increments by many workers: none lost by the atomic upsert: \(lost("atomic")) lost; naive \(lost("naive")),"
                    + " in a transaction \(lost("naive in a transaction")), with retry \(lost("naive with retry"))")
        }
        let counted = report.scenarios.flatMap(\.arms).map(\.result).filter { result in
            result.proxyRoundTripsPerOperation != nil
                && ["naive", "naive in a transaction", "atomic", "database function"].contains(result.arm)
        }
        if !counted.isEmpty {
            let equal = counted.count { $0.roundTripsPerOperation == $0.proxyRoundTripsPerOperation }
            add(
                equal == counted.count,
                "round trips counted on the connection are those that the proxy counted: in \(equal) of \(counted.count) arms"
            )
        }
        for name in ["sequential", "concurrent"] {
            guard let atomic = report[name]?[arm: "atomic"]?.measured else { continue }
            let variation = coefficientOfVariation(atomic.throughputs)
            add(
                variation < 0.10,
                "\(name): repeatable, throughput varies by less than 10 %: \((variation * 100).formatted(1)) %")
        }
    }

    private mutating func add(_ isMet: Bool, _ text: String) { verdicts.append(Verdict(isMet, text)) }

    // A gain counts when the whole interval is beyond the mark.
    private func change(_ ratio: Ratio) -> String {
        func percent(_ value: Double) -> String { (value >= 1 ? "+" : "") + ((value - 1) * 100).formatted(1) }
        return "\(percent(ratio.median)) % (95 %: \(percent(ratio.low)) to \(percent(ratio.high)))"
    }
}
