import Measurement

/// What a section's arms are, each beside the one it is to be compared with: ratios of throughput, repetition by repetition.
struct Comparisons {
    private let scenarios: [ScenarioResult]

    init(_ scenarios: [ScenarioResult]) { self.scenarios = scenarios }

    /// Those that have something to say of these scenarios.
    var tables: [TextTable] { [speedUps, strategies, coalescing].filter { $0.rows.count > 1 } }

    /// Of pipelines over one statement after the other. Every ratio to libpq says which libpq, and what it sends.
    private var speedUps: TextTable {
        var table = TextTable(
            ["pipeline", "arm", "times sequential", "times libpq's", "libpq", "its sends/op"], leading: [0, 1])
        for scenario in scenarios {
            let base = scenario[arm: "sequential"] == nil ? "atomic" : "sequential"
            for arm in scenario.arms.map(\.result.arm) where arm.contains("pipeline") || arm == "a task each" {
                guard let ratio = scenario.throughput(arm, over: base) else { continue }
                var row = [scenario.name, arm, ratio.text(1), "-", "-", "-"]
                let peer = Self.peer(of: arm, in: scenario)
                if let libpq = scenario[arm: peer]?.result {
                    row[3] = scenario.throughput(arm, over: peer)?.text ?? "-"
                    row[4] = LibPQ.version
                    row[5] = libpq.sendCallsPerOperation?.formatted(3) ?? "-"
                }
                table.add(row)
            }
        }
        return table
    }

    /// A pipeline's own, with its Syncs in the same places.
    private static func peer(of arm: String, in scenario: ScenarioResult) -> String {
        switch arm {
        case "pipeline", "a task each": "libpq"
        case "pipeline, one Sync": "libpq, one Sync"
        default: "libpq \(arm)\(scenario.section == .concurrent ? ", a thread each" : "")"
        }
    }

    /// Of bulk upserts over the one by unnest, and their CPU over that of libpq.
    private var strategies: TextTable {
        let libpq = "libpq unnest, arrays ready made"
        var table = TextTable(
            ["bulk", "arm", "rows/s, times unnest", "CPU / libpq's, arrays ready made"], leading: [0, 1])
        for scenario in scenarios {
            guard let ready = scenario[arm: libpq]?.measured else { continue }
            for arm in scenario.arms where arm.result.arm != libpq {
                guard let ratio = scenario.throughput(arm.result.arm, over: BulkStrategy.unnest.rawValue),
                    let cpu = Ratio(arm.measured.cpuMicroseconds, over: ready.cpuMicroseconds)
                else { continue }
                table.add([scenario.name, arm.result.arm, ratio.text, cpu.text])
            }
        }
        return table
    }

    /// Of coalesced upserts over those that as many tasks send one by one.
    private var coalescing: TextTable {
        var table = TextTable(["coalescing", "arm", "times atomic"], leading: [0, 1])
        for scenario in scenarios {
            for arm in Coalescing.allCases.map(\.rawValue) {
                guard let ratio = scenario.throughput(arm, over: "atomic") else { continue }
                table.add([scenario.name, arm, ratio.text])
            }
        }
        return table
    }
}
