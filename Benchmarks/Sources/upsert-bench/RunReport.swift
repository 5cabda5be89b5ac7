import Foundation
import Measurement

struct RunReport {
    let serverVersion: String
    let isPrivate: Bool
    let repetitions: Repetitions
    let scenarios: [ScenarioResult]

    subscript(name: String) -> ScenarioResult? { scenarios.first { $0.name == name } }

    /// Errors of the arms that must have none.
    var atomicErrors: Int {
        scenarios.flatMap(\.arms).filter { $0.result.arm != "naive" }.reduce(0) { $0 + $1.result.errors }
    }

    func writeJSON(to path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let data = try encoder.encode(scenarios.flatMap { $0.arms.map(\.result) })
        try (data + Data("\n".utf8)).write(to: URL(filePath: path))
    }

    var text: String {
        [heading, figures, latencies, ratios, Claims(self).text, Criteria(self).text].joined(separator: "\n\n")
    }

    private var heading: String {
        let server = isPrivate ? "a private server" : "your server"
        var lines = [
            "PostgreSQL \(serverVersion) (\(server)), libpq \(LibPQ.version),"
                + " \(ProcessInfo.processInfo.activeProcessorCount) processors;"
                + " \(repetitions.repetitions) repetitions of up to \(repetitions.iterations) iterations, arms interleaved."
        ]
        for scenario in scenarios { lines.append("  \(scenario.name): \(scenario.explanation)") }
        return lines.joined(separator: "\n")
    }

    private var figures: String {
        var table = TextTable(
            [
                "scenario", "arm", "operations", "errors", "23505", "error %", "ops/s", "cv %", "trips/op",
                "syscalls/op",
                "cpu us/op",
            ], leading: [0, 1])
        for scenario in scenarios {
            for arm in scenario.arms {
                let result = arm.result
                table.add([
                    scenario.name, result.arm, "\(result.operations)", "\(result.errors)",
                    "\(result.duplicateKeyErrors)", (result.errorRate * 100).formatted(2),
                    result.throughput.formatted(0),
                    (coefficientOfVariation(arm.measured.throughputs) * 100).formatted(1),
                    result.roundTripsPerOperation?.formatted(3) ?? "n/a",
                    result.systemCallsPerOperation?.formatted(2) ?? "n/a",
                    result.cpuMicrosecondsPerOperation.formatted(2),
                ])
            }
        }
        return """
            \(table)
            ops/s counts successes; cv: how far the repetitions' ops/s are apart (standard deviation / mean). Round trips and
            system calls are counted on the connections, which libpq cannot; CPU is the whole client process's.
            """
    }

    private var latencies: String {
        var table = TextTable(
            ["latency, us", "arm", "mean", "p50", "p95", "p99", "min", "max", "stddev"], leading: [0, 1])
        for scenario in scenarios {
            for arm in scenario.arms {
                let latencies = arm.result.latencies
                let columns = [
                    latencies.mean, latencies.median, latencies.percentile(95), latencies.percentile(99),
                    latencies.minimum, latencies.maximum, latencies.standardDeviation,
                ]
                table.add([scenario.name, arm.result.arm] + columns.map { $0.formatted(1) })
            }
        }
        return "\(table)"
    }

    private var ratios: String {
        var table = TextTable(["atomic / naive", "throughput", "mean", "p95", "p99"])
        for scenario in scenarios {
            guard let comparison = scenario.comparison else { continue }
            let ratios = [comparison.throughput, comparison.mean, comparison.p95, comparison.p99]
            table.add([scenario.name] + ratios.map(\.text))
        }
        return "\(table)\nMedian of the ratios of the repetitions, with a 95 % interval (bootstrap)."
    }
}

extension Ratio {
    /// "1.52 (1.49-1.55)"
    var text: String { "\(median.formatted(2)) (\(low.formatted(2))-\(high.formatted(2)))" }
}
