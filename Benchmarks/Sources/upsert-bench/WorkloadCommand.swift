import ArgumentParser
import Foundation
import Measurement
import Postgres

struct WorkloadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "workload",
        abstract: "One kind of work, alone in the process: for callgrind, strace and malloc counters.",
        discussion: """
            Environment: PGSOCKDIR, the folder of the server's Unix socket, and PGPORT. The server trusts the user "bench" \
            and has a database "bench" with the table stats, as one of "upsert-bench serve". Prints one line of JSON.
            """)

    enum Name: String, ExpressibleByArgument, CaseIterable {
        /// SELECT $1::int4: Unix socket, TCP, blocking API, from an actor, from the main actor, child tasks on the global
        /// executor, child tasks on the loop, always suspending.
        case w1u, w1t, w1b, w1a, w1m, w1g, w1l, w1s
        /// Upsert; naive upsert; naive upsert on ten connections at once.
        case w2, w3, w3b
        /// Upserts in one pipeline, a Sync each or one for all.
        case w4sync, w4one
        /// Rows of five columns, streamed; rows upserted in one statement.
        case w5, w7
        /// Rows copied in from an array of tuples, in binary form.
        case w6
        /// SELECT and upsert on a connection with an observer that does nothing: what it adds to w1u and w2.
        case w1o, w2o
        /// Rows copied out as tuples, in binary form.
        case w8
        /// Increments of five counters by 64 tasks that share a writer, which merges equal keys.
        case w10
        /// Queries made of values; rows of five columns read from a buffered result. No connection is used meanwhile.
        case encode, decode
        /// Messages alone: Bind, Execute and Sync of an upsert; its reply; a SELECT's reply, of one row; DataRows of five columns, by
        /// row.
        case requests, replies, replies1, datarows
    }

    @Flag(help: "Do the work with libpq.")
    var libpq = false

    @Option(help: "How often w6 and w7 send their rows, and w8 reads them.")
    var statements = 5

    @Argument(help: "What to do.")
    var name: Name

    @Argument(help: "How many operations, rows, or rounds (w3b).")
    var count: Int

    func validate() throws {
        if !(1...100_000_000).contains(count) || !(1...1000).contains(statements) {
            throw ValidationError("The number of operations is out of range.")
        }
    }

    func run() throws {
        let server = try WorkloadServer()
        if libpq { return try printLine(name, try LibPQWorkload(server, statements: statements).run(name, count)) }
        switch name {
        case .w1b: try printLine(name, try Workload(server, statements: statements).selectBlocking(count))
        case .w1m:
            runToEndServingMainActor { [name, count, statements] in
                try printLine(name, try await Workload(server, statements: statements).run(name, count))
            } onError: { error in
                WorkloadCommand.exit(withError: error)
            }
        default:
            try runToEnd { [name, count, statements] in
                try printLine(name, try await Workload(server, statements: statements).run(name, count))
            }
        }
    }
}

/// Where the workloads find their server.
struct WorkloadServer: Sendable {
    let url: String
    let tcpURL: String

    init() throws {
        let environment = ProcessInfo.processInfo.environment
        guard let folder = environment["PGSOCKDIR"], let port = environment["PGPORT"].flatMap(Int.init),
            let host = folder.addingPercentEncoding(withAllowedCharacters: .alphanumerics)
        else { throw ValidationError("Set PGSOCKDIR and PGPORT.") }
        url = "postgresql://bench@/bench?host=\(host)&port=\(port)"
        tcpURL = "postgresql://bench@127.0.0.1:\(port)/bench?sslmode=disable"
    }
}

private func printLine(_ name: WorkloadCommand.Name, _ finished: Workload.Finished) throws {
    struct Line: Encodable {
        var w: String
        var ops: Int
        var secs: Double
        var opsPerSecond: Double
        var cpuMicroseconds: Double
        var p50: Double?
        var p99: Double?
        var duplicateKeyErrors: Int?

        enum CodingKeys: String, CodingKey {
            case w
            case ops
            case secs
            case opsPerSecond = "ops_s"
            case cpuMicroseconds = "cpu_us"
            case p50
            case p99
            case duplicateKeyErrors = "dup_errors"
        }
    }
    var latencies = Latencies()
    latencies.record(sample(finished.latencies))
    let operations = Double(finished.operations)
    let line = Line(
        w: name.rawValue, ops: finished.operations, secs: finished.cost.seconds,
        opsPerSecond: operations / finished.cost.seconds, cpuMicroseconds: finished.cost.cpuSeconds / operations * 1e6,
        p50: latencies.count == 0 ? nil : latencies.median, p99: latencies.count == 0 ? nil : latencies.percentile(99),
        duplicateKeyErrors: finished.duplicateKeyErrors)
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    print(String(decoding: try encoder.encode(line), as: UTF8.self))
}

/// A thousand of them, evenly spread: recording all would cost instructions and allocations for each operation, and be
/// counted as part of it.
private func sample(_ latencies: [UInt64]) -> [UInt64] {
    let size = 1000
    return latencies.count <= size ? latencies : (0..<size).map { latencies[$0 * latencies.count / size] }
}
