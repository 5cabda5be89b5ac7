import ArgumentParser
import Foundation
import Measurement
import Postgres
import PostgresUpsert

struct EngineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "engine",
        abstract: "Pipelines, many tasks, the pool, transactions and COPY, beside libpq; and how costs grow.")

    @OptionGroup var server: ServerOptions

    @Option(help: "Interleaved rounds of each comparison; 15 or more for a figure to rely on.")
    var rounds = 15

    @Flag(help: "As little as possible, to see that everything works.")
    var smoke = false

    @Flag(help: "Without the comparisons of growth: 10^6 operations, 200 connections, 10^7 rows.")
    var skipGrowth = false

    func validate() throws {
        if rounds < 1 { throw ValidationError("--rounds must be at least 1.") }
    }

    func run() throws {
        let rounds = smoke ? 2 : rounds
        let size: EngineSize = smoke ? .smoke : EngineSize()
        let growth = skipGrowth ? nil : smoke ? GrowthSize.smoke : GrowthSize()
        runToEndServingMainActor { [server] in
            try await BenchmarkServer.with(server) { server in
                var report = SpeedReport()
                let makers: [(BenchmarkServer, EngineSize) async throws -> Match] = [
                    { try await Match.pipelines($0, $1, .isolated) }, { try await Match.pipelines($0, $1, .atomic) },
                    Match.manyTasks, Match.copyIn, Match.copyOut,
                ]
                for make in makers {
                    let match = try await make(server, size)
                    report.add(match, try await match.run(rounds: rounds))
                }
                try await report.addTransactions(server)
                try await report.addCheckout(server, size)
                if let growth { try await report.addGrowth(server, growth) }
                Progress.finish()
                print(report.text(server: server.version, rounds: rounds))
            }
        } onError: { error in
            EngineCommand.exit(withError: error)
        }
    }
}

/// How far the comparisons of growth go.
struct GrowthSize {
    var few = 1000
    var many = 1_000_000
    var connections = 200
    var streamed = 10_000_000

    static let smoke = Self(few: 100, many: 1000, connections: 10, streamed: 10_000)
}

extension SpeedReport {
    /// Round trips of BEGIN, three statements and COMMIT, which are five when each goes by itself.
    mutating func addTransactions(_ server: BenchmarkServer) async throws {
        let db = try await server.connect()
        let row = StatsRow.rows(1, keys: 1)[0]
        try await db.upsert(row)

        func trips(_ body: () async throws -> Void) async throws -> Int {
            try await body()
            let before = db.statistics.roundTrips
            try await body()
            return db.statistics.roundTrips - before
        }
        let naive = try await trips {
            try await db.execute("BEGIN")
            for _ in 0..<3 { try await db.upsert(row) }
            try await db.execute("COMMIT")
        }
        let closure = try await trips {
            try await db.transaction { tx in
                for _ in 0..<3 { try await tx.upsert(row) }
            }
        }
        let flight = try await trips {
            var pipeline = PostgresPipeline(.atomic)
            for _ in 0..<3 { pipeline.add(StatsRow.upsert(row).query) }
            try await db.transaction { tx in try await tx.run(pipeline).check() }
        }
        add("round trips, BEGIN + 3 statements + COMMIT by hand", "\(naive)", "5", naive == 5)
        add("  as a transaction of three statements", "\(closure)", "at most 4", closure <= 4)
        add("  as a transaction of one pipeline", "\(flight)", "1 to 2", flight <= 2)
    }

    /// CPU of taking a connection from the pool and giving it back: untouched, and with a statement, with which the reset of the
    /// session then goes.
    mutating func addCheckout(_ server: BenchmarkServer, _ size: EngineSize) async throws {
        for (name, reset) in [("no reset", PostgresClient.Options.Reset.never), ("reset by default", .afterLeases)] {
            var options = PostgresClient.Options()
            options.reset = reset
            let pool = PostgresClient(try server.configuration(), pool: options)
            let empty = try await cost(of: size.checkouts) { try await pool.withConnection { _ in } }
            add("CPU us of acquire and release, uncontended, \(name)", empty.formatted(3), "below 1", empty < 1)
            let selecting = try await cost(of: size.checkouts / 20) {
                try await pool.withConnection { db in try await Selecting.asynchronously(db, 1) }
            }
            add("  with a SELECT between them", selecting.formatted(3))
            await pool.shutdown()
        }
        let db = try await server.connect()
        let alone = try await cost(of: size.checkouts / 20) { try await Selecting.asynchronously(db, 1) }
        add("  the SELECT on a connection of its own", alone.formatted(3))
    }

    /// The median of five rounds of so many.
    private func cost(of count: Int, _ work: () async throws -> Void) async throws -> Double {
        try await work()
        var costs: [Double] = []
        for _ in 0..<5 {
            let meter = Meter()
            for _ in 0..<count { try await work() }
            costs.append(meter.cost.cpuMicroseconds / Double(count))
        }
        return median(costs)
    }

    /// Costs that must not depend on how much has been done, or on how many connections there are.
    mutating func addGrowth(_ server: BenchmarkServer, _ size: GrowthSize) async throws {
        let db = try await server.connect()
        func cost(_ count: Int) async throws -> Double {
            let meter = Meter()
            try await Selecting.asynchronously(db, count)
            return meter.cost.cpuMicroseconds / Double(count)
        }
        _ = try await cost(size.few)
        Progress.step("growth: \(size.many) operations")
        // The first thousand, and each thousand among the last: the machine's own phases weigh on both.
        var early: [Double] = []
        for _ in 0..<20 { early.append(try await cost(size.few)) }
        _ = try await cost(size.many)
        var late: [Double] = []
        for _ in 0..<20 { late.append(try await cost(size.few)) }
        addGrowth("CPU per SELECT after \(size.many) operations / before", early, late)

        Progress.step("growth: \(size.connections) connections")
        // Before and after, so that a slow phase of the machine does not look like a cost of connections.
        var alone: [Double] = []
        for _ in 0..<10 { alone.append(try await cost(size.few)) }
        var connections: [PostgresConnection] = []
        for _ in 0..<size.connections { connections.append(try await server.connect()) }
        var crowded: [Double] = []
        for _ in 0..<20 { crowded.append(try await cost(size.few)) }
        // Each of them twice before: its statement is prepared, and it knows how fast its server answers.
        for _ in 0..<2 { try await Selecting.inTurn(connections, connections.count) }
        var inTurn: [Double] = []
        for _ in 0..<20 {
            let meter = Meter()
            try await Selecting.inTurn(connections, size.few)
            inTurn.append(meter.cost.cpuMicroseconds / Double(size.few))
        }
        for connection in connections { connection.close() }
        for _ in 0..<10 { alone.append(try await cost(size.few)) }
        addGrowth("CPU per SELECT beside \(size.connections) idle connections / alone", alone, crowded)
        addGrowth("CPU per SELECT on \(size.connections) connections in turn / on one", alone, inTurn)

        Progress.step("growth: \(size.streamed) rows")
        forgetPeak()
        let before = status("VmRSS:")
        try await Reading.rows(db, size.streamed)
        let added = status("VmHWM:") - before
        add(
            "MB resident added at the peak of \(size.streamed) streamed rows (\(before.formatted(0)) before)",
            added.formatted(1), "below 64", added < 64)
    }

    private mutating func addGrowth(_ name: String, _ base: [Double], _ other: [Double]) {
        let ratio = median(other) / median(base)
        add(name, ratio.formatted(3), "0.9 to 1.1", abs(ratio - 1) <= 0.1)
    }
}

private func status(_ field: String) -> Double {
    guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
        let line = text.split(separator: "\n").first(where: { $0.hasPrefix(field) }),
        let kilobytes = line.split(separator: " ").dropLast().last.flatMap({ Double($0) })
    else { return .nan }
    return kilobytes / 1024
}

/// From here on, VmHWM is the peak from here on (manual page proc(5), clear_refs).
private func forgetPeak() {
    try? Data("5".utf8).write(to: URL(fileURLWithPath: "/proc/self/clear_refs"))
}
