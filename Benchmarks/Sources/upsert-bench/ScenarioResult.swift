import Measurement

/// A scenario's figures, without what it took to get them.
struct ScenarioResult {
    struct Arm {
        var result: ArmResult
        var measured: Measured
    }

    let name: String
    let explanation: String
    let section: Plan.Section
    let place: Scenario.Place?
    let arms: [Arm]

    init(_ scenario: Scenario, _ measured: [Measured], section: Plan.Section = .sequential) {
        name = scenario.name
        explanation = scenario.explanation
        self.section = section
        place = scenario.place
        arms = zip(scenario.arms, measured).map { arm, measured in
            Arm(result: measured.result(scenario, arm), measured: measured)
        }
    }

    subscript(arm name: String) -> Arm? { arms.first { $0.result.arm == name } }

    /// One arm's throughput over another's, repetition by repetition.
    func throughput(_ name: String, over base: String) -> Ratio? {
        guard let arm = self[arm: name]?.measured, let base = self[arm: base]?.measured else { return nil }
        return Ratio(arm.throughputs, over: base.throughputs)
    }

    /// The atomic arm over the naive one, repetition by repetition.
    var comparison: Comparison? {
        guard let naive = self[arm: "naive"]?.measured, let atomic = self[arm: "atomic"]?.measured else { return nil }
        func latency(_ value: (Latencies) -> Double) -> Ratio? {
            Ratio(atomic.repetitionLatencies.map(value), over: naive.repetitionLatencies.map(value))
        }
        guard let throughput = throughput("atomic", over: "naive"), let mean = latency(\.mean),
            let p95 = latency({ $0.percentile(95) }), let p99 = latency({ $0.percentile(99) })
        else { return nil }
        return Comparison(throughput: throughput, mean: mean, p95: p95, p99: p99)
    }

    struct Comparison {
        var throughput: Ratio
        var mean: Ratio
        var p95: Ratio
        var p99: Ratio
    }
}
