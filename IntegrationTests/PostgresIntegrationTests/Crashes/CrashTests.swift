import Foundation
import Glibc
import Postgres
import PostgresTesting
import Synchronization
import TestTurns
import Testing

/// What the environment says of the extent of these tests.
private enum CrashPlan {
    static let isComplete = ProcessInfo.processInfo.environment["POSTGRES_CRASHES"] == "all"
    static let seed =
        ProcessInfo.processInfo.environment["POSTGRES_CRASHES_SEED"].flatMap { UInt64($0) }
        ?? UInt64.random(in: 0...UInt64(UInt32.max))
}

extension FaultTests {
    /// Writers, while processes of the server are killed and the server is restarted under them; afterwards every claim of theirs is
    /// compared with what the server has.
    ///
    /// 20 killed sessions, 10 terminated ones and 10 immediate restarts by default; `POSTGRES_CRASHES=all` has 300, 100 and 100, and
    /// kills the whole server 50 times. `POSTGRES_CRASHES_SEED` repeats the order of the crashes, as far as time lets it.
    @Suite(
        .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"),
        .timeLimit(.minutes(CrashPlan.isComplete ? 60 : 5)))
    struct CrashTests {
        private enum Crash {
            /// SIGKILL to the process of one session: the postmaster ends all others too, and recovers.
            case killedSession
            /// `pg_terminate_backend`: one session ends, with FATAL 57P01.
            case terminatedSession
            /// Every process ends at once; recovery at the start.
            case immediateRestart
            /// SIGKILL to all processes, the postmaster first.
            case killedServer
        }

        @Test func noAcknowledgedWriteIsLostAndNoRejectedOneIsThere() async throws {
            var options = PostgresEphemeralServer.Options()
            // A commit is in the file before it is acknowledged. That the file is on the disk matters when the system crashes, which
            // it does not here: fsync would only make everything slower.
            options.settings["synchronous_commit"] = "on"
            try await PostgresEphemeralServer.withServer(options) { server in
                try await server.runSQL(CrashLedger.schema)
                var configuration = try PostgresConfiguration(url: server.connectionURL())
                configuration.connectTimeout = .seconds(10)
                let scene = CrashWriter.Scene(configuration)
                let begin = ContinuousClock.now

                var ledger = CrashLedger()
                try await withThrowingTaskGroup(of: [CrashEntry].self) { group in
                    for number in Int64(0)..<(CrashPlan.isComplete ? 16 : 8) {
                        group.addTask {
                            await CrashWriter(number: number, scene: scene).run(seed: CrashPlan.seed &+ UInt64(number))
                        }
                    }
                    // The writers end also when a crash could not be made.
                    let crashes = await Result { try await crash(server, scene) }
                    scene.isOver.store(true, ordering: .relaxed)
                    for try await entries in group { ledger.entries += entries }
                    try crashes.get()
                }

                // A session that was killed last may not have been noticed before the writers were told to end.
                var connection: PostgresConnection?
                await eventually("the server is not back after the last crash") {
                    connection = try? await PostgresConnection.connect(configuration)
                    return connection != nil
                }
                let db = try #require(connection)
                try await ledger.check(db)
                db.close()
                let outcomes = [nil, PostgresError.Outcome.notSent, .rejected, .aborted, .unknown].map { outcome in
                    "\(outcome.map { "\($0)" } ?? "acknowledged") \(ledger.entries.count { $0.outcome == outcome })"
                }
                print(
                    "crashes: seed \(CrashPlan.seed), transactions: \(outcomes.joined(separator: ", ")),"
                        + " \(((ContinuousClock.now - begin) / .seconds(1)).rounded()) s")
                // There was something to lose, and something was in doubt.
                #expect(ledger.entries.count { $0.outcome == nil } > 500)
                #expect(ledger.entries.contains { $0.outcome == .unknown })
            }
        }

        private func crash(_ server: PostgresEphemeralServer, _ scene: CrashWriter.Scene) async throws {
            var generator = SplitMix(state: CrashPlan.seed)
            var crashes = Array(repeating: Crash.killedSession, count: CrashPlan.isComplete ? 300 : 20)
            crashes += Array(repeating: Crash.terminatedSession, count: CrashPlan.isComplete ? 100 : 10)
            crashes += Array(repeating: Crash.immediateRestart, count: CrashPlan.isComplete ? 100 : 10)
            if CrashPlan.isComplete { crashes += Array(repeating: Crash.killedServer, count: 50) }
            for crash in crashes.shuffled(using: &generator) {
                await progress(Int.random(in: 20...200, using: &generator), scene)
                try await Task.sleep(for: .microseconds(Int.random(in: 0...20_000, using: &generator)))
                switch crash {
                case .killedSession:
                    try await eventually("no session to kill") { try await killSession(server, scene, &generator) }
                case .terminatedSession:
                    let process = scene.processes.withLock { $0.values.randomElement(using: &generator) }
                    if let process { try await terminate(process, server) }
                case .immediateRestart: try await server.restart(.immediate)
                case .killedServer:
                    try await server.kill()
                    try await server.restart(.immediate)
                }
            }
            await progress(20, scene)
        }

        /// Until the writers are at work again, and then a while.
        private func progress(_ count: Int, _ scene: CrashWriter.Scene) async {
            let wanted = scene.acknowledged.load(ordering: .relaxed) + count
            await eventually("the writers do not get on after a crash") {
                scene.acknowledged.load(ordering: .relaxed) >= wanted
            }
        }

        private func terminate(_ process: Int32, _ server: PostgresEphemeralServer) async throws {
            // Of a server that is recovering from an earlier crash, psql gets no answer but a refusal.
            await eventually("pg_terminate_backend cannot be asked for") {
                do {
                    try await server.runSQL("SELECT pg_terminate_backend(\(process))")
                    return true
                } catch {
                    return false
                }
            }
        }

        /// Whether there was one; only a child of this very server is killed, whatever has the number by now.
        private func killSession(
            _ server: PostgresEphemeralServer, _ scene: CrashWriter.Scene, _ generator: inout SplitMix
        ) async throws -> Bool {
            let process = scene.processes.withLock { $0.values.randomElement(using: &generator) }
            guard let process, let postmaster = await server.processID, parent(of: process) == postmaster else {
                return false
            }
            return kill(process, SIGKILL) == 0
        }

        private func parent(of process: Int32) -> Int32? {
            guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return nil }
            // number (name) state parent ...; the name may hold anything.
            guard let end = text.lastIndex(of: ")") else { return nil }
            let fields = text[text.index(after: end)...].split(separator: " ")
            return fields.count > 1 ? Int32(fields[1]) : nil
        }
    }
}
