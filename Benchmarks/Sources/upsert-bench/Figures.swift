import Measurement
import Reporting

/// The curves of a run.
struct Figures {
    private let report: RunReport

    init(_ report: RunReport) { self.report = report }

    func figures(_ section: Plan.Section) -> [Figure] {
        switch section {
        case .sequential: ["sequential", "sequential, misses", "sequential, hits"].flatMap(percentiles)
        case .concurrent: ["concurrent", "concurrent, misses", "concurrent, hits"].flatMap(percentiles)
        case .race: errorsAndLosses
        case .pipelined: flights(.flight, "an empty table") + flights(.flightOfHits, "keys that are there")
        case .bulk:
            rows(.rows, "into an empty table") + rows(.rowsOfHits, "on keys that are there")
        case .coalesced:
            coalescing("5", .fewKeys, .fewKeysRelaxed, .fewKeysVolatile)
                + coalescing("10,000", .manyKeys, .manyKeysRelaxed, .manyKeysVolatile)
        case .distant:
            latencyCurve("Operations per second by round-trip latency") { !$0.contains("pipeline") }
                + latencyCurve("Pipelines with a Sync each, by round-trip latency") {
                    $0 == "atomic" || ($0.contains("pipeline") && !$0.hasSuffix("one Sync"))
                }
                + latencyCurve("Pipelines with one Sync, by round-trip latency") {
                    $0 == "atomic" || $0.hasSuffix("one Sync")
                }
        case .durable: []
        }
    }

    private func flights(_ curve: Curve, _ start: String) -> [Figure] {
        throughput(
            [(curve, "")], "Upserts per second by size of the flight, \(start)",
            "One connection, no latency added; a Sync each unless it says one. libpq \(LibPQ.version) \(LibPQ.sending).",
            x: "upserts in a flight")
    }

    private func rows(_ curve: Curve, _ start: String) -> [Figure] {
        throughput(
            [(curve, "")], "Rows per second by rows in a statement, \(start)", "Keys ascending.",
            x: "rows in a statement", y: "rows/s")
    }

    private func coalescing(_ keys: String, _ disk: Curve, _ relaxed: Curve, _ volatile: Curve) -> [Figure] {
        let caption = "Atomic: each task by itself on a pool of 8. Coalesced: all through one UpsertWriter."
        return throughput(
            [(disk, ""), (relaxed, ", synchronous_commit off")], "Increments of \(keys) counters per second, fsync on",
            caption, x: "tasks")
            + throughput(
                [(volatile, "")], "Increments of \(keys) counters per second, fsync off", caption, x: "tasks")
    }

    /// The points of each arm along a curve.
    private func series(_ curve: Curve, _ point: (Double, ScenarioResult.Arm) -> Figure.Point?) -> [Figure.Series] {
        let scenarios = report.scenarios.compactMap { scenario in
            scenario.place.flatMap { $0.curve == curve ? (x: $0.x, scenario) : nil }
        }.sorted { $0.x < $1.x }
        var names: [String] = []
        for arm in scenarios.flatMap(\.1.arms).map(\.result.arm) where !names.contains(arm) { names.append(arm) }
        return names.map { name in
            Figure.Series(name, scenarios.compactMap { x, scenario in scenario[arm: name].flatMap { point(x, $0) } })
        }
    }

    private func ticks(_ curve: Curve) -> [(label: String, at: Double)] {
        Set(report.scenarios.compactMap { $0.place }.filter { $0.curve == curve }.map(\.x)).sorted()
            .map { (Int($0).grouped, $0) }
    }

    /// - Parameter curves: over the same axes, each with what the names of its arms end in.
    private func throughput(
        _ curves: [(curve: Curve, suffix: String)], _ title: String, _ caption: String, x: String,
        y: String = "operations/s"
    ) -> [Figure] {
        guard let ticks = curves.first.map({ ticks($0.curve) }), ticks.count > 1 else { return [] }
        return [
            Figure(
                title, caption: caption + " Bars are 95 % intervals of the median.",
                x: .init(x, isLogarithmic: true, ticks: ticks), y: .init(y, isLogarithmic: true),
                series: curves.flatMap { curve, suffix in
                    series(curve, Self.interval).map { Figure.Series($0.name + suffix, $0.points) }
                })
        ]
    }

    private static func interval(_ x: Double, _ arm: ScenarioResult.Arm) -> Figure.Point? {
        arm.result.repetitions.map { Figure.Point(x, $0.median, low: $0.low, high: $0.high) }
    }

    private func latencyCurve(_ title: String, _ isShown: (String) -> Bool) -> [Figure] {
        let ticks = ticks(.latency)
        if ticks.count < 2 { return [] }
        return [
            Figure(
                title,
                caption: """
                    Keys that are there, over TCP through a proxy that adds the latency. libpq \(LibPQ.version) \
                    \(LibPQ.sending). Bars are 95 % intervals of the median.
                    """,
                x: .init("ms added to a round trip", ticks: ticks), y: .init("operations/s", isLogarithmic: true),
                series: series(.latency, Self.interval).filter { isShown($0.name) })
        ]
    }

    private var errorsAndLosses: [Figure] {
        let ticks = ticks(.workers)
        if ticks.count < 2 { return [] }
        let axis = Figure.Axis("workers", isLogarithmic: true, ticks: ticks)
        return [
            Figure(
                "Duplicate-key errors by workers",
                caption: "Increments of 5 counters that begin on an empty table; the share of operations that failed.",
                x: axis, y: .init("% of operations"),
                series: series(.workers) { x, arm in Figure.Point(x, arm.result.errorRate * 100) }),
            Figure(
                "Lost updates by workers",
                caption: "The share of increments that were reported as done and are not in the table.",
                x: axis, y: .init("% of increments"),
                series: series(.workers) { x, arm in arm.result.lossRate.map { Figure.Point(x, $0 * 100) } }),
        ]
    }

    /// On a scale on which each further nine is as long as the one before it.
    private func percentiles(_ name: String) -> [Figure] {
        guard let scenario = report[name] else { return [] }
        return [
            Figure(
                "Latency by percentile, \(name)", caption: scenario.explanation + ".",
                x: .init(
                    "percentile", isLogarithmic: true,
                    ticks: [("0", 1), ("50", 2), ("90", 10), ("99", 100), ("99.9", 1000), ("99.99", 10_000)]),
                y: .init("microseconds", isLogarithmic: true),
                // Those whose operations have a latency of their own.
                series: scenario.arms.filter {
                    !$0.result.arm.contains("pipeline of") && !$0.result.arm.hasPrefix("bulk of")
                }.map { arm in
                    Figure.Series(
                        arm.result.arm,
                        arm.result.latencies.percentileCurve.map {
                            Figure.Point(1 / (1 - $0.percentile / 100), $0.microseconds)
                        })
                })
        ]
    }
}

extension Int {
    /// "10,000"
    var grouped: String {
        let digits = Array("\(self)")
        return String(
            digits.enumerated().flatMap { index, digit in
                index > 0 && (digits.count - index) % 3 == 0 ? [",", digit] : [digit]
            })
    }
}
