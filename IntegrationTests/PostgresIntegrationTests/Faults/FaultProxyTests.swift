import Postgres
import PostgresTesting
import TestTurns
import Testing

extension FaultTests {
    /// Every way to use a connection, while the link to the server fails at every byte.
    ///
    /// Run after run a session goes through a proxy that ends it behind one byte of one direction: in order, by a RST, one way only, or
    /// by silence. Whatever happens, each statement has its result or an error within bounds; what the error says of the statement's
    /// effect is compared with the table; no descriptor stays open; the next connection works. A sample of each session by default, of
    /// all together at least 5,000 cuts; `POSTGRES_FAULTS=all` takes every offset.
    @Suite(
        .inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"),
        .timeLimit(.minutes(FaultPlan.isComplete ? 60 : 5)))
    struct FaultProxyTests {
        private static let cutsOfASession = 450

        @Test(arguments: FaultSession.all)
        func aCutAtAnyByteIsATruthfulError(_ session: FaultSession) async throws {
            let runs = FaultRuns(session: session, server: try await FaultServer.shared.value)
            let recording = try await runs.record()
            var plan: [PostgresFaultProxy.Faults] = []
            var last: [PostgresFaultProxy.Faults] = []
            for direction in PostgresFaultProxy.Direction.allCases {
                for offset in recording.offsets(direction) {
                    for ending in PostgresFaultProxy.Ending.allCases {
                        let faults = PostgresFaultProxy.Faults(cut: .init(ending, after: offset, of: direction))
                        if offset == recording.offsets(direction).upperBound {
                            last.append(faults)
                        } else {
                            plan.append(faults)
                        }
                    }
                }
            }
            let every = plan.count + last.count
            // Shuffled also when complete: no two neighbours at a time, and the order differs from run to run.
            var generator = SplitMix(state: FaultPlan.seed)
            plan.shuffle(using: &generator)
            if !FaultPlan.isComplete { plan = Array(plan.prefix(Self.cutsOfASession)) }
            // Behind the last byte nothing is missing: always tried.
            plan += last

            let begin = ContinuousClock.now
            let summary = try await runs.run(plan)
            report(session, summary, "\(plan.count) of \(every) cuts", begin)
            try await runs.judge(summary, recording)
            #expect(summary.runs.count == plan.count)
            // The length of a TLS session differs by a few bytes from one to the next; and on a busy machine the time for a connect
            // or a request to cancel that is to be stalled may be over before that.
            let lengths = session.usesTLS ? plan.count / 50 + 4 : 0
            let isTimed = session.coversConnecting || session.cancels
            let stalls = isTimed ? plan.count { $0.cut?.ending == .stall } : 0
            #expect(summary.cuts >= plan.count - lengths - stalls)
            #expect(!summary.errors.isEmpty)
        }

        @Test(arguments: FaultSession.all)
        func aSessionInSingleBytesIsTheSame(_ session: FaultSession) async throws {
            let runs = FaultRuns(session: session, server: try await FaultServer.shared.value)
            var faults = PostgresFaultProxy.Faults()
            faults.toServer = .byteByByte
            faults.toClient = .byteByByte
            var slow = faults
            // Now and then a pause that lets the receiver read what has come so far.
            slow.toClient.pause = .zero ... .microseconds(50)
            slow.seed = FaultPlan.seed
            let summary = try await runs.run([faults, slow, faults, slow])
            try await runs.judge(summary)
            #expect(summary.runs.count == 4)
        }

        @Test func aSlowLinkOnlyTakesLonger() async throws {
            for session in FaultSession.all where !session.usesTLS {
                let runs = FaultRuns(session: session, server: try await FaultServer.shared.value)
                var faults = PostgresFaultProxy.Faults()
                faults.toServer.bytesPerSecond = 10_000
                faults.toClient.bytesPerSecond = 10_000
                let begin = ContinuousClock.now
                try await runs.judge(runs.run([faults]))
                #expect(ContinuousClock.now - begin > .milliseconds(20))
            }
        }

        @Test(arguments: FaultSession.all)
        func delaysSplitsAndCoalescingChangeNothing(_ session: FaultSession) async throws {
            let runs = FaultRuns(session: session, server: try await FaultServer.shared.value)
            let count: UInt64 = FaultPlan.isComplete ? 1000 : 20
            let plan = (0..<count).map { PostgresFaultProxy.Faults.random(seed: FaultPlan.seed &+ $0) }
            let begin = ContinuousClock.now
            let summary = try await runs.run(plan)
            report(session, summary, "\(plan.count) random paces", begin)
            try await runs.judge(summary)
            #expect(summary.runs.count == plan.count)
        }

        private func report(
            _ session: FaultSession, _ summary: FaultRuns.Summary, _ what: String, _ begin: ContinuousClock.Instant
        ) {
            let claims = summary.runs.flatMap(\.claims)
            let counts = [PostgresError.Outcome.notSent, .rejected, .aborted, .unknown].map { outcome in
                "\(outcome) \(claims.count { $0.error?.outcome == outcome })"
            }
            let seconds = (ContinuousClock.now - begin) / .seconds(1)
            print(
                "faults: \(session.name): \(what), seed \(FaultPlan.seed): acknowledged"
                    + " \(claims.count { $0.error == nil }), \(counts.joined(separator: ", ")), failed connects"
                    + " \(summary.runs.count { $0.connectError != nil }), \((seconds * 10).rounded() / 10) s")
        }
    }
}
