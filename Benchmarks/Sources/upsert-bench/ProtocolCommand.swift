import ArgumentParser
import Foundation
import Measurement
import Postgres
import Reporting

struct ProtocolCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "protocol",
        abstract: "One statement in every way the protocol has, beside libpq; any statement, on any server.",
        discussion: """
            Over a Unix socket, TCP and TLS of a private server, or as the URL says. With --rate the statement is due at fixed \
            times, and latency counts from when it was due: what waits behind a slow one is not left out of the figures.
            """)

    @Option(help: "A server of yours, as postgresql://user:password@host:port/dbname. Default: a private one.")
    var url: String?

    @Option(help: "The statement, with $1, $2 ... for its parameters.")
    var sql = ProtocolStatement.defaultSQL

    @Option(
        name: .customLong("parameter"),
        help: ArgumentHelp(
            "A parameter, once for each in their order, as TYPE:VALUE; the type is int4, int8, float8, bool or text.",
            valueName: "type:value"))
    var parameters: [StatementParameter] = []

    @Option(help: "Connections at once: for the open loop, and the most for the closed one.")
    var connections = 4

    @Option(help: "Statements a second, over all connections, due at fixed times.")
    var rate: Double?

    @Option(help: "Seconds for each comparison.")
    var seconds = 8.0

    @Flag(help: "As little as possible, to see that everything works.")
    var smoke = false

    @Option(help: ArgumentHelp("Write an object for each comparison and arm to this file.", valueName: "file"))
    var json: String?

    func validate() throws {
        if !(1...1000).contains(connections) { throw ValidationError("--connections must be 1 to 1000.") }
        if let rate, !(rate > 0 && rate <= 1e6) {
            throw ValidationError("--rate must be above 0, and at most 1000000.")
        }
        if !(seconds > 0 && seconds <= 3600) { throw ValidationError("--seconds must be above 0, and at most 3600.") }
    }

    func run() throws {
        let statement = ProtocolStatement(sql, parameters)
        let limits = ProtocolRun(
            statement: statement, connections: smoke ? min(connections, 2) : connections,
            rate: rate ?? (smoke ? 200 : nil), seconds: smoke ? 0.3 : seconds,
            repetitions: smoke ? .smoke : Repetitions(repetitions: 30, iterations: 10, warmUpIterations: 5))
        try runToEnd { [url, json] in
            try await ProtocolServer.with(url) { server in
                let report = try await limits.measure(server)
                Progress.finish()
                print(report.text)
                if let json { try report.json().write(to: URL(filePath: json)) }
            }
        }
    }
}

/// What is measured of the protocol, and how long.
struct ProtocolRun: Sendable {
    let statement: ProtocolStatement
    let connections: Int
    let rate: Double?
    let seconds: Double
    let repetitions: Repetitions

    func measure(_ server: ProtocolServer) async throws -> ProtocolReport {
        var report = ProtocolReport(server: server.version, statement: statement)
        for route in server.routes {
            report.ways.append(try await run(try await Scenario.ways(route, statement)))
        }
        guard let route = server.routes.first else { return report }
        report.rows = try await run(try await Scenario.formats(route))
        for count in Set([1, 2, 4, 8, 16, 32, 64, connections]).sorted() where count <= connections {
            report.crowds.append(try await run(try await Scenario.crowd(route, statement, connections: count)))
        }
        Progress.step("values and messages alone")
        report.codecs = try await CodecCost.measure(route, rounds: repetitions.repetitions)
        if let rate {
            Progress.step("open loop")
            report.openLoops = try await OpenLoop(
                route: route, statement: statement, connections: connections, rate: rate, seconds: seconds
            ).measure()
        }
        return report
    }

    private func run(_ scenario: Scenario) async throws -> ScenarioResult {
        let result = ScenarioResult(scenario, try await repetitions.run(scenario, within: seconds))
        for arm in scenario.arms {
            for connection in arm.connections { connection.close() }
        }
        return result
    }
}
