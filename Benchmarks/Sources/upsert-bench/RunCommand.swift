import ArgumentParser
import Foundation
import Measurement
import Postgres

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "The main job: atomic upsert against SELECT-then-INSERT-or-UPDATE, with libpq beside. (default)",
        discussion: "Takes about half a minute with --quick, and about two without.")

    @OptionGroup var server: ServerOptions

    @Flag(help: "Ten repetitions instead of thirty.")
    var quick = false

    @Flag(help: "As little as possible, to see that everything works.")
    var smoke = false

    @Option(
        help: ArgumentHelp("Write the results to this file, an object for each scenario and arm.", valueName: "file"))
    var json: String?

    func validate() throws {
        if quick, smoke { throw ValidationError("--quick and --smoke exclude each other.") }
    }

    func run() throws {
        let repetitions: Repetitions = smoke ? .smoke : quick ? .quick : .full
        try runToEnd { [server, json] in
            try await BenchmarkServer.with(server) { server in
                let report = try await measure(server, repetitions)
                Progress.finish()
                print(report.text)
                if let json { try report.writeJSON(to: json) }
                if report.atomicErrors > 0 {
                    Progress.note("The atomic upsert failed \(report.atomicErrors) times.")
                    throw ExitCode.failure
                }
            }
        }
    }
}

private func measure(_ server: BenchmarkServer, _ repetitions: Repetitions) async throws -> RunReport {
    let makers: [(BenchmarkServer) async throws -> Scenario] = [
        Scenario.sequential,
        { try await Scenario.concurrent($0, workers: 10) },
        { try await Scenario.concurrent($0, workers: 2) },
        Scenario.pipelined,
        Scenario.batched,
    ]
    var results: [ScenarioResult] = []
    for make in makers {
        let scenario = try await make(server)
        results.append(ScenarioResult(scenario, try await repetitions.run(scenario)))
        Progress.note("\(scenario.name): done")
        for arm in scenario.arms {
            for connection in arm.connections { connection.close() }
        }
    }
    return RunReport(
        serverVersion: server.version, isPrivate: server.isPrivate, repetitions: repetitions, scenarios: results)
}
