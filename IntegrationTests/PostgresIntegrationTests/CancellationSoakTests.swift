import Foundation
import Postgres
import PostgresTesting
import Synchronization
import TestTurns
import Testing

/// Ten thousand cancellations at random moments, by both policies and by deadlines, each query with a token of its own; a hundred
/// thousand with `POSTGRES_SOAK=all`.
///
/// What must hold: a query that succeeds has its own token; 57014 comes to nobody as such, and to nobody who did not ask for an
/// end; every call returns; no connection is lost.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(10)))
struct CancellationSoakTests {
    /// What happened, by kind.
    final class Tally: Sendable {
        private let counts = Mutex<[String: Int]>([:])
        /// Cancellations of statements that were sent: of tasks that have a connection alone, and of others.
        let alone = Atomic<Int>(0)
        let shared = Atomic<Int>(0)

        func note(_ what: String) { counts.withLock { $0[what, default: 0] += 1 } }
        var description: String {
            counts.withLock { $0.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ") }
        }
        subscript(what: String) -> Int { counts.withLock { $0[what] ?? 0 } }
    }

    enum Way: Sendable, CaseIterable {
        case none, task, deadline
    }

    static func run(_ db: PostgresConnection, _ token: Int, _ way: Way, after delay: Int, sleep: Int, _ tally: Tally)
        async -> Bool
    {
        let query = { @Sendable () async throws(PostgresError) -> Int in
            let (token, _) = try await db.query(
                "SELECT \(token)::int8, pg_sleep(\(Double(sleep) / 1_000_000))::text", as: (Int, String).self
            ).one()
            return token
        }
        let start = ContinuousClock.now
        let isSent: Bool
        do throws(PostgresError) {
            let got: Int
            switch way {
            case .none: got = try await query()
            case .deadline: got = try await withPostgresTimeout(.microseconds(delay), query)
            case .task:
                let task = Task { () async -> Result<Int, PostgresError> in
                    do throws(PostgresError) { return .success(try await query()) } catch { return .failure(error) }
                }
                try? await Task.sleep(for: .microseconds(delay))
                task.cancel()
                got = try await task.value.get()
            }
            #expect(got == token, "a foreign token")
            tally.note(way == .none ? "whole" : "in time")
            isSent = true
        } catch {
            let expected: PostgresError.Code? =
                switch way {
                case .none: nil
                case .task: .cancelled
                case .deadline: .timedOut
                }
            #expect(error.code == expected, "\(way): \(error)")
            tally.note("\(error.code.rawValue) \(error.outcome)")
            isSent = error.outcome != .notSent
        }
        #expect(start.duration(to: .now) < .seconds(60), "\(way) took too long")
        return isSent
    }

    @Test func noCancellationEverHitsAnother() async throws {
        let isLong = ProcessInfo.processInfo.environment["POSTGRES_SOAK"] == "all"
        let goal = isLong ? 100_000 : 10_000
        let seed = UInt64.random(in: 0...UInt64.max)
        let server = try await TLSTests.start { root in try root.issue() }
        // Ten connections have one task each, so that requests to cancel are sent; six have four, so that mostly they must not be.
        var connections: [PostgresConnection] = []
        for number in 0..<16 {
            let isEncrypted = number % 3 == 0
            var configuration = try PostgresConfiguration(
                url: server.connectionURL(over: isEncrypted ? .tcp : .unixSocket))
            if isEncrypted { configuration.sslmode = .require }
            configuration.cancellation = number >= 10 && number % 2 == 0 ? .finish : .cancelRequest
            configuration.cancelTimeout = .seconds(30)
            connections.append(try await PostgresConnection.connect(configuration))
        }
        let tally = Tally()
        let start = ContinuousClock.now
        await withTaskGroup(of: Void.self) { group in
            for (number, db) in connections.enumerated() {
                let isAlone = number < 10
                for task in 0..<(isAlone ? 1 : 4) {
                    let base = number * 10 + task
                    group.addTask {
                        var random = SplitMix(state: seed &+ UInt64(base))
                        var token = base * 1_000_000_000
                        while true {
                            token += 1
                            let way: Way = [.none, .task, .task, .deadline, .deadline][Int(random.next() % 5)]
                            let count =
                                isAlone ? tally.alone.load(ordering: .relaxed) : tally.shared.load(ordering: .relaxed)
                            if count >= goal / 2 { return }
                            // Long enough for most requests to arrive, or so short that they come about when it ends.
                            let longest: UInt64 = isAlone && random.next() % 2 == 0 ? 50_000 : 5000
                            let isSent = await Self.run(
                                db, token, way, after: Int(random.next() % 6000), sleep: Int(random.next() % longest),
                                tally)
                            guard way != .none, isSent else { continue }
                            if isAlone {
                                tally.alone.wrappingAdd(1, ordering: .relaxed)
                            } else {
                                tally.shared.wrappingAdd(1, ordering: .relaxed)
                            }
                        }
                    }
                }
            }
        }
        print("cancellation soak: seed \(seed), \(start.duration(to: .now)): \(tally.description)")
        // All ways were gone.
        #expect(tally["client.cancelled rejected"] > 0)
        #expect(tally["client.timedOut rejected"] > 0)
        #expect(tally["client.cancelled unknown"] > 0)
        #expect(tally["whole"] > 0)
        for db in connections {
            #expect(!db.isClosed)
            try await expectUsable(db)
        }
        // Nothing is left running at the server.
        let active = try await connections[0].query(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()", as: Int.self
        ).one()
        #expect(active == 0)
        for db in connections { db.close() }
        try await server.stop()
    }
}
