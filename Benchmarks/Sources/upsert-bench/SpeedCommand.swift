import ArgumentParser
import Foundation
import Measurement
import Postgres

struct SpeedCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "speed",
        abstract: "This client's CPU time beside libpq's on the same work, against the limits set for it.")

    @OptionGroup var server: ServerOptions

    @Option(help: "Interleaved rounds of each comparison; 15 or more for a figure to rely on.")
    var rounds = 15

    @Flag(help: "As little as possible, to see that everything works.")
    var smoke = false

    func validate() throws {
        if rounds < 1 { throw ValidationError("--rounds must be at least 1.") }
    }

    func run() throws {
        let rounds = smoke ? 2 : rounds
        let size: RoundSize = smoke ? .smoke : RoundSize()
        // On a thread of Dispatch's, so that the main actor can serve as in any program.
        runToEndServingMainActor { [server] in
            try await BenchmarkServer.with(server) { server in
                let report = try await measure(server, rounds: rounds, size)
                Progress.finish()
                print(report)
            }
        } onError: { error in
            SpeedCommand.exit(withError: error)
        }
    }
}

private func measure(_ server: BenchmarkServer, rounds: Int, _ size: RoundSize) async throws -> String {
    var makers: [(BenchmarkServer, RoundSize) async throws -> Match] = [
        Match.selectOverUnixSocket, Match.selectFromOwnThread,
    ]
    if server.hasTCP { makers.append(Match.selectOverTCP) }
    makers += [Match.sequentialUpsert, Match.pipelinedUpserts, Match.streamedRows, Match.bulkUpsert]
    var report = SpeedReport()
    for make in makers {
        let match = try await make(server, size)
        report.add(match, try await match.run(rounds: rounds))
    }
    try await report.addCounts(server, size)
    return report.text(server: server.version, rounds: rounds)
}
