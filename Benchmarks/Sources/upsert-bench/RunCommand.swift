import ArgumentParser
import Foundation
import Measurement
import Postgres
import Reporting

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "The main job: atomic upsert against SELECT-then-INSERT-or-UPDATE, with libpq beside. (default)",
        discussion: "Takes less than a minute with --quick, and less than a quarter of an hour without.")

    @OptionGroup var server: ServerOptions

    @Flag(help: "Fewer points of each curve, fewer repetitions.")
    var quick = false

    @Flag(help: "As little as possible, to see that everything works.")
    var smoke = false

    @Option(
        help: ArgumentHelp(
            "Write environment, verdicts, and an object for each scenario and arm to this file.", valueName: "file"))
    var json: String?

    @Option(
        help: ArgumentHelp(
            "Write the latencies of each scenario and arm to this folder, as HdrHistogram's percentile files.",
            valueName: "folder"))
    var hgrm: String?

    @Option(help: ArgumentHelp("Write a page with figures to this file, drawn by gnuplot.", valueName: "file"))
    var report: String?

    @Option(
        help: ArgumentHelp("Write each figure of that page to this folder, as SVG.", valueName: "folder"))
    var svg: String?

    func validate() throws {
        if quick, smoke { throw ValidationError("--quick and --smoke exclude each other.") }
        if report != nil || svg != nil, Gnuplot.path == nil {
            throw ValidationError("--report and --svg need gnuplot (Debian: gnuplot-nox); Benchmarks/run installs it.")
        }
    }

    func run() throws {
        let extent: Plan.Extent = smoke ? .smoke : quick ? .quick : .full
        try runToEnd { [server, json, hgrm, report, svg] in
            let result = try await Plan(extent).run(on: server)
            Progress.finish()
            print(result.text)
            if let json { try result.json().write(to: URL(filePath: json)) }
            if let hgrm { try result.writeDistributions(to: hgrm) }
            if let report { try result.writePage(to: report) }
            if let svg { try result.writeFigures(to: svg) }
            if result.unwantedErrors > 0 || result.unwantedLosses > 0 {
                Progress.note(
                    "Arms that must not fail had \(result.unwantedErrors) errors, and lost \(result.unwantedLosses) updates."
                )
                throw ExitCode.failure
            }
        }
    }
}

extension Plan {
    /// On a private server that does not wait for its disk, then on one that does; or all on the server that was given.
    fileprivate func run(on options: ServerOptions) async throws -> RunReport {
        var environment: [Fact] = []
        var results: [ScenarioResult] = []
        let isOneServer = options.url != nil || options.durable
        try await BenchmarkServer.with(options) { server in
            environment = Environment.facts(server, repetitions)
            try await run(steps.filter { !$0.isDurable || isOneServer }, on: server, into: &results)
        }
        let others = steps.filter { $0.isDurable && !isOneServer }
        if !others.isEmpty {
            try await BenchmarkServer.withPrivate(isDurable: true) { server in
                environment.append(Environment.settings(server, of: "the server of \"durable\""))
                try await run(others, on: server, into: &results)
            }
        }
        return RunReport(environment: environment, repetitions: repetitions, scenarios: results)
    }
}
