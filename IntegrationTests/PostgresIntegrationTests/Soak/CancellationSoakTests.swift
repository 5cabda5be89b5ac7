import Foundation
import Postgres
import PostgresTesting
import TestTurns
import Testing

private enum SoakPlan {
    static let isLong = ProcessInfo.processInfo.environment["POSTGRES_SOAK"] == "all"
    static let cancellations = isLong ? 100_000 : 10_000
}

/// Cancellations at random moments, of tasks, by deadlines and by `cancel()`, of everything that a connection or a pool can be asked
/// for, each with a token of its own: ten thousand on connections, as many on a pool; ten times that with `POSTGRES_SOAK=all`. Only
/// those count that ended what was sent; what came to its own end before is counted beside them.
///
/// What must hold: what succeeds has its own token; 57014 comes to nobody as such, and to nobody who did not ask for an end; every
/// call returns; no connection is lost, and none stays in use.
@Suite(
    .inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"),
    .timeLimit(.minutes(SoakPlan.isLong ? 30 : 10)))
struct CancellationSoakTests {
    enum Way: Sendable, CaseIterable {
        case none, task, deadline, request

        /// What tells that it had its effect.
        var code: PostgresError.Code? {
            switch self {
            case .none: nil
            case .task: .cancelled
            case .deadline: .timedOut
            case .request: .queryCanceled
            }
        }
    }

    /// Asks for a token, and cancels that after so many microseconds.
    ///
    /// - Parameter cancel: sends a request to cancel whatever the connection runs.
    /// - Returns: whether it was sent, and ended for that.
    private static func run(
        _ use: SoakUse, _ way: Way, after delay: Int, _ tally: SoakTally, _ cancel: Cancel?,
        _ ask: @escaping @Sendable () async throws -> Void
    ) async -> Bool {
        let start = ContinuousClock.now
        defer { #expect(start.duration(to: .now) < .seconds(60), "\(use) \(way) took too long") }
        do {
            switch way {
            case .none: try await ask()
            case .deadline: try await withPostgresTimeout(.microseconds(delay)) { try await ask() }
            case .task, .request:
                let task = Task { try await ask() }
                try? await Task.sleep(for: .microseconds(delay))
                if way == .task { task.cancel() } else { await cancel?() }
                try await task.value
            }
            tally.note("\(use) \(way == .none ? "whole" : "in time")")
            return false
        } catch let error as PostgresError {
            // What stops BEGIN, stops the statement behind it.
            let isBehindBegin = way != .none && use == .transaction && error.code == .inFailedSqlTransaction
            #expect(error.code == way.code || isBehindBegin, "\(use) \(way): \(error)")
            tally.note("\(use) \(way) \(error.outcome)")
            return error.outcome != .notSent
        } catch {
            Issue.record("\(use) \(way): an error of another type: \(error)")
            return true
        }
    }

    typealias Cancel = @Sendable () async -> Void

    /// Draws what to ask for, and how, until enough of what was sent was cancelled.
    ///
    /// - Parameters:
    ///   - isAlone: whether others' statements are never in flight on the same connection.
    ///   - cancel: nil if there is no connection to ask it of.
    private static func ask(
        _ base: Int, seed: UInt64, _ tally: SoakTally, isAlone: Bool, upTo goal: Int, cancel: Cancel? = nil,
        _ work: @escaping @Sendable (SoakUse, SoakUse.Token) async throws -> Void
    ) async {
        var random = SplitMix(state: seed &+ UInt64(base))
        var number = base * 1_000_000_000
        while tally.cancellations(isAlone: isAlone) < goal {
            // A pipeline has three.
            number += 3
            let ways: [Way] = [.none, .task, .task, .deadline, .deadline, .request]
            let way = ways[Int(random.next() % (cancel == nil ? 5 : 6))]
            // Every other one is a query.
            let use = SoakUse(rawValue: Int(random.next() % UInt64(2 * SoakUse.allCases.count))) ?? .query
            // Long enough for most requests to arrive, or so short that they come about when it ends.
            let isLong = isAlone && way != .none && random.next() % 8 != 0
            let longest: UInt64 = isLong ? 200_000 : 5000
            let token = SoakUse.Token(number: number, sleep: Double(random.next() % longest) / 1_000_000)
            let delay = Int(random.next() % (isLong ? 20_000 : 6000))
            let isCancelled = await run(use, way, after: delay, tally, cancel) {
                try await work(use, token)
            }
            if isCancelled { tally.cancelled(isAlone: isAlone) }
        }
    }

    private static func cancelling(_ db: PostgresConnection) -> Cancel {
        {
            do throws(PostgresError) {
                try await db.cancel()
            } catch {
                // The end of a cursor that was left may be in flight before the statement.
                #expect(error.code == .unsupported, "\(error)")
            }
        }
    }

    private static func start() async throws -> PostgresEphemeralServer {
        let server = try await TLSTests.start { root in try root.issue() }
        try await server.runSQL("CREATE UNLOGGED TABLE soak (token int8 NOT NULL)")
        return server
    }

    private static func configuration(
        _ server: PostgresEphemeralServer, isEncrypted: Bool, _ cancellation: PostgresConfiguration.Cancellation
    ) throws -> PostgresConfiguration {
        var configuration = try PostgresConfiguration(
            url: server.connectionURL(over: isEncrypted ? .tcp : .unixSocket))
        if isEncrypted { configuration.sslmode = .require }
        configuration.cancellation = cancellation
        // A busy machine is no reason to give up.
        configuration.cancelTimeout = .seconds(30)
        return configuration
    }

    /// That all ways were gone, and nothing is left running at the server.
    private static func expectRest(_ tally: SoakTally, _ db: PostgresConnection) async throws {
        for use in SoakUse.allCases {
            #expect(tally.count("\(use) whole") > 0)
            #expect(tally.count("\(use) task") > 0)
        }
        for use in [SoakUse.query, .pipeline, .stream, .cursor, .transaction] {
            #expect(tally.count("\(use) task rejected") > 0)
            #expect(tally.count("\(use) deadline rejected") > 0)
        }
        try await tally.expectCopies(db)
        try await eventually("something is still running") {
            try await db.query(
                "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()", as: Int.self
            ).one() == 0
        }
    }

    @Test func noCancellationOnAConnectionEverHitsAnother() async throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        let server = try await Self.start()
        // Ten connections have one task each, so that requests to cancel are sent; six have four, so that mostly they must not be.
        var connections: [PostgresConnection] = []
        for number in 0..<16 {
            connections.append(
                try await PostgresConnection.connect(
                    Self.configuration(
                        server, isEncrypted: number % 3 == 0, number >= 10 && number % 2 == 0 ? .finish : .cancelRequest
                    )))
        }
        let tally = SoakTally()
        let start = ContinuousClock.now
        await withTaskGroup(of: Void.self) { group in
            for (number, db) in connections.enumerated() {
                let isAlone = number < 10
                var canceller: Cancel?
                if isAlone { canceller = Self.cancelling(db) }
                let cancel = canceller
                for task in 0..<(isAlone ? 1 : 4) {
                    group.addTask {
                        await Self.ask(
                            number * 10 + task + 1, seed: seed, tally, isAlone: isAlone,
                            upTo: SoakPlan.cancellations / 2, cancel: cancel
                        ) { use, token in try await use.run(token, on: db, tally) }
                    }
                }
            }
        }
        print("cancellation soak, connections: seed \(seed), \(start.duration(to: .now)), \(tally.summary)")
        for db in connections {
            #expect(!db.isClosed)
            try await expectUsable(db)
        }
        for use in [SoakUse.query, .copyIn, .transaction] { #expect(tally.count("\(use) request rejected") > 0) }
        try await Self.expectRest(tally, connections[1])
        for db in connections { db.close() }
        try await server.stop()
    }

    @Test func noCancellationOnAPoolEverHitsAnotherAndItComesToRest() async throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        let server = try await Self.start()
        var configuration = try Self.configuration(server, isEncrypted: false, .cancelRequest)
        configuration.applicationName = "soak"
        var options = PostgresClient.Options()
        options.maximumConnections = 16
        options.acquireTimeout = nil
        options.cleanupTimeout = .seconds(30)
        let client = PostgresClient(configuration, pool: options)
        let tally = SoakTally()
        let start = ContinuousClock.now
        await withTaskGroup(of: Void.self) { group in
            // A few more than there are connections: somebody always waits for one.
            for task in 0..<20 {
                group.addTask {
                    await Self.ask(
                        task + 1, seed: seed, tally, isAlone: true, upTo: SoakPlan.cancellations
                    ) { use, token in
                        #expect(client.statistics.connections <= 16)
                        try await use.run(token, on: client, tally)
                    }
                }
            }
        }
        print(
            "cancellation soak, pool: seed \(seed), \(start.duration(to: .now)), \(tally.summary);"
                + " connects \(client.statistics.connects), closes \(client.statistics.closes)")
        // Back to where it was: nobody waits, nothing is in use, and nothing was lost.
        await eventually("the pool does not come to rest") {
            let now = client.statistics
            return now.inUse == 0 && now.waiting == 0 && now.cleaning == 0 && now.connecting == 0
        }
        #expect(client.statistics.connectFailures == 0)
        #expect(client.statistics.closes.isEmpty)
        #expect(client.statistics.idle == client.statistics.connects)
        let db = try await PostgresConnection.connect(Self.configuration(server, isEncrypted: false, .finish))
        let sessions = try await db.query(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'soak'", as: Int.self
        ).one()
        #expect(sessions == client.statistics.idle)
        try await Self.expectRest(tally, db)
        // As many as ever at the same time: no permit is lost.
        try await holdAtOnce(client, 16)
        db.close()
        await client.shutdown()
        try await server.stop()
    }
}
