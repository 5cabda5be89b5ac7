import Foundation
import Measurement
import Reporting

/// All that a run has measured, put into words and tables.
struct RunReport {
    let environment: [Fact]
    let repetitions: Repetitions
    let scenarios: [ScenarioResult]

    subscript(name: String) -> ScenarioResult? { scenarios.first { $0.name == name } }

    /// Errors of the arms that must have none.
    var unwantedErrors: Int {
        scenarios.flatMap(\.arms).filter { !$0.result.arm.contains("naive") }.reduce(0) { $0 + $1.result.errors }
    }

    /// Updates that were lost by arms that must lose none.
    var unwantedLosses: Int {
        scenarios.flatMap(\.arms).filter { !$0.result.arm.contains("naive") }
            .reduce(0) { $0 + abs($1.result.lostUpdates ?? 0) }
    }

    func json() throws -> Data {
        struct Report: Encodable {
            var environment: [Fact]
            var targets: [Verdict]
            var criteria: [Verdict]
            var claims: [Claims.Claim]
            var results: [ArmResult]
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let report = Report(
            environment: environment, targets: Targets(self).verdicts, criteria: Criteria(self).verdicts,
            claims: Claims(self).claims, results: scenarios.flatMap { $0.arms.map(\.result) })
        return try encoder.encode(report) + Data("\n".utf8)
    }

    /// A file for each scenario and arm, as HdrHistogram's plotter reads them.
    func writeDistributions(to folder: String) throws {
        let folder = URL(filePath: folder, directoryHint: .isDirectory)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for result in scenarios.flatMap(\.arms).map(\.result) where result.latencies.count > 0 {
            let file = "\(result.scenario)-\(result.arm)".fileName + ".hgrm"
            try Data(result.latencies.percentileDistribution.utf8).write(to: folder.appending(path: file))
        }
    }

    /// Each figure of the page as a file of its own.
    func writeFigures(to folder: String) throws {
        let folder = URL(filePath: folder, directoryHint: .isDirectory)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for figure in document.figures {
            guard let svg = try Gnuplot.file(figure) else { continue }
            try Data(svg.utf8).write(to: folder.appending(path: figure.title.fileName + ".svg"))
        }
    }

    func writePage(to path: String) throws {
        let document = document
        var drawings: [Int: String] = [:]
        for (number, figure) in document.figures.enumerated() {
            drawings[number] = try Gnuplot.draw(figure, number: number)
        }
        try Data(Page(document, drawings: drawings).html.utf8).write(to: URL(filePath: path))
    }

    var text: String { document.text }

    private var document: Document {
        var document = Document("The typed atomic upsert, measured")
        document.add(.section("Targets"))
        document.add(.verdicts(Targets(self).verdicts))
        document.add(.section("Success criteria of the first use"))
        document.add(.verdicts(Criteria(self).verdicts))
        document.add(.section("What was claimed of the atomic upsert, and what was measured"))
        document.add(.table(Claims(self).table))
        document.add(
            .paragraph("atomic / naive, median of the ratios of the repetitions, with a 95 % interval (bootstrap):"))
        document.add(.table(ratios))
        for section in Plan.Section.allCases {
            let scenarios = scenarios.filter { $0.section == section }
            if scenarios.isEmpty { continue }
            document.add(.section(section.rawValue))
            document.add(
                .paragraph(scenarios.map { "\($0.name): \($0.explanation)." }.joined(separator: "\n")))
            let comparisons = Comparisons(scenarios)
            for table in comparisons.tables { document.add(.table(table)) }
            for figure in Figures(self).figures(section) { document.add(.figure(figure)) }
            document.add(.table(figures(scenarios)))
            document.add(.table(latencies(scenarios)))
        }
        document.add(.paragraph(Self.legend))
        document.add(.section("Measured on"))
        document.add(.facts(environment))
        return document
    }

    private static let legend = """
        ops/s counts successes: the median of the repetitions, with its interval. cv: how far the repetitions' ops/s are apart \
        (standard deviation / mean). 23505: duplicate keys. lost: increments reported as done that are not in the table. Round \
        trips and system calls are counted on the connections, which libpq cannot; "proxy" are the round trips that the proxy \
        between client and server counted by itself. Sends are libpq's calls of send. CPU is the whole client process's, which \
        includes the proxy where there is one. The latency of a pipeline or a bulk is that of its flight or statement; of rows of \
        one key a bulk keeps the last.
        """

    private func figures(_ scenarios: [ScenarioResult]) -> TextTable {
        let all = scenarios.flatMap(\.arms).map(\.result)
        let hasErrors = all.contains { $0.errors > 0 }
        let hasLosses = all.contains { $0.lostUpdates != nil }
        let hasProxy = all.contains { $0.proxyRoundTripsPerOperation != nil }
        let hasSends = all.contains { $0.sendCallsPerOperation != nil }
        var header = ["scenario", "arm", "operations"]
        if hasErrors { header += ["errors", "23505", "error %"] }
        if hasLosses { header += ["lost", "lost %"] }
        header += ["ops/s (95 %)", "cv %", "trips/op"]
        if hasProxy { header.append("proxy") }
        header.append("syscalls/op")
        if hasSends { header.append("sends/op") }
        header.append("cpu us/op")
        var table = TextTable(header, leading: [0, 1])
        for result in all {
            var row = [result.scenario, result.arm, "\(result.operations)"]
            if hasErrors {
                row += ["\(result.errors)", "\(result.duplicateKeyErrors)", (result.errorRate * 100).formatted(2)]
            }
            if hasLosses {
                row += [
                    result.lostUpdates.map { "\($0)" } ?? "n/a",
                    result.lossRate.map { ($0 * 100).formatted(2) } ?? "n/a",
                ]
            }
            row += [
                result.repetitions?.text(0) ?? "-", (result.coefficientOfVariation * 100).formatted(1),
                result.roundTripsPerOperation?.formatted(3) ?? "n/a",
            ]
            if hasProxy { row.append(result.proxyRoundTripsPerOperation?.formatted(3) ?? "n/a") }
            row.append(result.systemCallsPerOperation?.formatted(2) ?? "n/a")
            if hasSends { row.append(result.sendCallsPerOperation?.formatted(3) ?? "n/a") }
            row.append(result.cpuMicrosecondsPerOperation.formatted(2))
            table.add(row)
        }
        return table
    }

    private func latencies(_ scenarios: [ScenarioResult]) -> TextTable {
        var table = TextTable(
            ["latency, us", "arm", "mean", "p50", "p95", "p99", "min", "max", "stddev"], leading: [0, 1])
        for result in scenarios.flatMap(\.arms).map(\.result) {
            let latencies = result.latencies
            let columns = [
                latencies.mean, latencies.median, latencies.percentile(95), latencies.percentile(99),
                latencies.minimum, latencies.maximum, latencies.standardDeviation,
            ]
            table.add([result.scenario, result.arm] + columns.map { $0.formatted(1) })
        }
        return table
    }

    private var ratios: TextTable {
        var table = TextTable(["scenario", "throughput", "mean", "p95", "p99"])
        for scenario in scenarios where scenario.section != .bulk && scenario.section != .pipelined {
            guard let comparison = scenario.comparison else { continue }
            let ratios = [comparison.throughput, comparison.mean, comparison.p95, comparison.p99]
            table.add([scenario.name] + ratios.map(\.text))
        }
        return table
    }
}

extension String {
    /// Without what a shell or a file system could mind.
    fileprivate var fileName: String {
        String(map { $0.isLetter || $0.isNumber ? $0 : "-" }).split(separator: "-").joined(separator: "-")
    }
}

extension ArmResult {
    /// Of the increments that were reported as done.
    var lossRate: Double? {
        lostUpdates.map { operations == errors ? 0 : Double($0) / Double(operations - errors) }
    }
}
