import Measurement
import Reporting

/// The curves of a run.
struct Figures {
    private let report: RunReport

    init(_ report: RunReport) { self.report = report }

    func figures(_ section: Plan.Section) -> [Figure] {
        switch section {
        case .sequential: percentiles("sequential")
        case .concurrent: percentiles("concurrent")
        case .race: errorsAndLosses
        case .pipelined:
            throughput(
                .flight, "Upserts per second by size of the flight",
                "One connection, no latency added; a Sync each unless it says one. libpq \(LibPQ.version) \(LibPQ.sending).",
                x: "upserts in a flight")
        case .bulk:
            throughput(
                .rows, "Rows per second by rows in a statement", "Into an empty table, keys ascending.",
                x: "rows in a statement",
                y: "rows/s")
        case .coalesced:
            throughput(
                .tasksOnFewKeys, "Increments of 5 counters per second, waiting for the disk",
                "Atomic: each task by itself on a pool of 8. Coalesced: all through one UpsertWriter.", x: "tasks")
                + throughput(
                    .tasksOnManyKeys, "Increments of 10,000 counters per second, waiting for the disk",
                    "Atomic: each task by itself on a pool of 8. Coalesced: all through one UpsertWriter.", x: "tasks")
        case .distant: latencyCurve
        case .durable: []
        }
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

    private func throughput(
        _ curve: Curve, _ title: String, _ caption: String, x: String, y: String = "operations/s"
    ) -> [Figure] {
        let ticks = ticks(curve)
        if ticks.count < 2 { return [] }
        return [
            Figure(
                title, caption: caption + " Bars are 95 % intervals of the median.",
                x: .init(x, isLogarithmic: true, ticks: ticks), y: .init(y, isLogarithmic: true),
                series: series(curve) { x, arm in
                    arm.result.repetitions.map { Figure.Point(x, $0.median, low: $0.low, high: $0.high) }
                })
        ]
    }

    private var latencyCurve: [Figure] {
        let ticks = ticks(.latency)
        if ticks.count < 2 { return [] }
        return [
            Figure(
                "Operations per second by round-trip latency",
                caption:
                    "Keys that are there, over TCP through a proxy that adds the latency. Bars are 95 % intervals of the median.",
                x: .init("ms added to a round trip", ticks: ticks), y: .init("operations/s", isLogarithmic: true),
                series: series(.latency) { x, arm in
                    arm.result.repetitions.map { Figure.Point(x, $0.median, low: $0.low, high: $0.high) }
                })
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
                series: scenario.arms.map { arm in
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
