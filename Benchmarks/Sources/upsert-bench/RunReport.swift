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
        [heading, figures, ratios, Claims(self).text, Criteria(self).text].joined(separator: "\n\n")
    }

    private var heading: String {
        let server = isPrivate ? "a private server" : "your server"
        var lines = [
            "PostgreSQL \(serverVersion) (\(server)), libpq \(LibPQ.version),"
                + " \(ProcessInfo.processInfo.activeProcessorCount) processors;"
                + " \(repetitions.repetitions) repetitions of \(repetitions.iterations) iterations, arms interleaved."
        ]
        for scenario in scenarios { lines.append("  \(scenario.name): \(scenario.explanation)") }
        return lines.joined(separator: "\n")
    }

    private var figures: String {
        var table = TextTable(
            [
                "scenario", "arm", "ops", "errors", "23505", "error %", "ops/s", "mean", "p50", "p95", "p99", "min",
                "max",
                "stddev", "trips/op", "syscalls/op", "cpu us/op", "cv %",
            ], leading: [0, 1])
        for scenario in scenarios {
            for arm in scenario.arms {
                let result = arm.result
                let latencies = result.latencies
                table.add([
                    scenario.name, result.arm, "\(result.operations)", "\(result.errors)",
                    "\(result.duplicateKeyErrors)", (result.errorRate * 100).formatted(2),
                    result.throughput.formatted(0), latencies.mean.formatted(1), latencies.median.formatted(1),
                    latencies.percentile(95).formatted(1), latencies.percentile(99).formatted(1),
                    latencies.minimum.formatted(1), latencies.maximum.formatted(1),
                    latencies.standardDeviation.formatted(1),
                    result.roundTripsPerOperation?.formatted(3) ?? "n/a",
                    result.systemCallsPerOperation?.formatted(2) ?? "n/a",
                    result.cpuMicrosecondsPerOperation.formatted(2),
                    (coefficientOfVariation(arm.measured.throughputs) * 100).formatted(1),
                ])
            }
        }
        return "\(table)\n"
            + "Latencies in microseconds. ops/s counts successes. Round trips and system calls are counted on the"
            + " connections (libpq does not tell); CPU is\nthe client process's. cv: how far the repetitions' throughputs"
            + " are apart (standard deviation / mean)."
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
