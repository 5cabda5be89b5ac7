import Postgres
import PostgresTesting
import Synchronization
import Testing

/// Runs of one session, each under faults of its own, many at a time, and the judgement of what they claimed.
struct FaultRuns: Sendable {
    let session: FaultSession
    let server: FaultServer

    /// Each worker has a proxy.
    private static let concurrency = 32
    /// No run takes longer, whatever else the machine does; what hangs, hangs for ever.
    private static let limit = Duration.seconds(30)
    /// How long a connect may take that is going to be stalled.
    private static let stalledConnect = Duration.milliseconds(300)

    struct Run: Sendable {
        var faults: PostgresFaultProxy.Faults
        var key: Int64
        var connectError: PostgresError?
        var claims: [FaultClaim] = []
        var isHanging = false
    }

    struct Summary: Sendable {
        var runs: [Run] = []
        var cuts = 0

        var errors: [PostgresError] {
            runs.flatMap { run in [run.connectError].compactMap { $0 } + run.claims.compactMap(\.error) }
        }
    }

    // MARK: The bytes of a session

    /// The offsets of each direction at which a cut is within what the session is about.
    struct Recording: Sendable {
        var toServer: ClosedRange<Int>
        var toClient: ClosedRange<Int>

        func offsets(_ direction: PostgresFaultProxy.Direction) -> ClosedRange<Int> {
            direction == .toServer ? toServer : toClient
        }
    }

    func record() async throws -> Recording {
        let proxy = try PostgresFaultProxy(to: server.server)
        let db = try await PostgresConnection.connect(server.configuration(session, port: proxy.port))
        let connected = try await settled(proxy)
        guard let run = session.run else {
            db.close()
            await proxy.stop()
            return Recording(toServer: 0...connected.bytesToServer, toClient: 0...connected.bytesToClient)
        }
        let claims = await run(db, server.newKeys(session.keyCount))
        #expect(claims.allSatisfy { $0.error == nil })
        let done = try await settled(proxy)
        db.close()
        await proxy.stop()
        // Behind the last byte of the connecting, there would be no answer to it: that is for the sessions that connect.
        return Recording(
            toServer: (connected.bytesToServer + 1)...done.bytesToServer,
            toClient: connected.bytesToClient...done.bytesToClient)
    }

    /// The counts, once they do not grow any more.
    private func settled(_ proxy: PostgresFaultProxy) async throws -> PostgresFaultProxy.Connection {
        var last = try #require(proxy.lastConnection)
        while true {
            try await Task.sleep(for: .milliseconds(50))
            let next = try #require(proxy.lastConnection)
            if next == last { return next }
            last = next
        }
    }

    // MARK: Running

    /// The index in the plan of the next run, whichever worker takes it.
    private final class Next: Sendable {
        private let index = Atomic(0)

        func take() -> Int { index.add(1, ordering: .relaxed).oldValue }
    }

    func run(_ plan: [PostgresFaultProxy.Faults]) async throws -> Summary {
        let proxies = try (0..<min(Self.concurrency, plan.count)).map { _ in
            try PostgresFaultProxy(to: server.server)
        }
        let next = Next()
        var summary = Summary()
        try await withThrowingTaskGroup(of: [Run].self) { group in
            for proxy in proxies {
                group.addTask {
                    var runs: [Run] = []
                    while true {
                        let index = next.take()
                        guard index < plan.count else { return runs }
                        runs.append(try await run(plan[index], proxy))
                        // A hang is reported once for each worker, not once for each of thousands of runs.
                        if runs.last?.isHanging == true { return runs }
                    }
                }
            }
            for try await runs in group { summary.runs += runs }
        }
        for proxy in proxies {
            await proxy.stop()
            summary.cuts += proxy.connections.count { $0.wasCut }
        }
        let ports = Set(proxies.map(\.port))
        // A few broken connections may be those of other tests; a leak would be of hundreds.
        await eventually("descriptors are left over") { strandedSockets(toPorts: ports) <= 16 }
        return summary
    }

    private func run(_ faults: PostgresFaultProxy.Faults, _ proxy: PostgresFaultProxy) async throws -> Run {
        proxy.faults = faults
        let isStall = faults.cut?.ending == .stall
        var configuration = try server.configuration(session, port: proxy.port)
        if isStall, session.run == nil { configuration.connectTimeout = Self.stalledConnect }
        let run = Run(faults: faults, key: server.newKeys(session.keyCount))
        let result = await bounded(by: Self.limit) { [configuration] in
            await perform(run, configuration, closingWhenStalledAt: isStall ? proxy : nil)
        }
        guard let result else {
            Issue.record("hangs: \(session.name), \(String(describing: faults.cut)), seed \(faults.seed)")
            var run = run
            run.isHanging = true
            return run
        }
        return result
    }

    private func perform(
        _ run: Run, _ configuration: PostgresConfiguration, closingWhenStalledAt proxy: PostgresFaultProxy?
    ) async -> Run {
        var run = run
        let db: PostgresConnection
        do throws(PostgresError) {
            db = try await PostgresConnection.connect(configuration)
        } catch {
            run.connectError = error
            return run
        }
        guard let work = session.run else {
            db.close()
            return run
        }
        // Nothing bounds the wait for a reply that never comes, so the test does: it closes the connection.
        let closer = proxy.map { proxy in
            Task {
                while !Task.isCancelled, proxy.lastConnection?.wasCut != true {
                    try await Task.sleep(for: .milliseconds(5))
                }
                try await Task.sleep(for: .milliseconds(10))
                db.close()
            }
        }
        run.claims = await work(db, run.key)
        closer?.cancel()
        db.close()
        return run
    }

    // MARK: Judging

    /// That the errors are those of a link that failed, and that the database agrees with every claim.
    func judge(_ summary: Summary, _ recording: Recording? = nil) async throws {
        let db = try await server.connect()
        let first = summary.runs.map(\.key).min() ?? 0
        let last = (summary.runs.map(\.key).max() ?? 0) + session.keyCount
        let rows = try await db.query(
            "SELECT key FROM faults WHERE key >= \(first) AND key < \(last)", as: Int64.self
        ).all()
        let present = Set(rows)
        for run in summary.runs where !run.isHanging {
            if let error = run.connectError { judge(connectError: error, run) }
            for claim in run.claims { judge(claim, present, run) }
            let written = (run.key..<(run.key + session.keyCount)).count { present.contains($0) }
            if session.isAtomic, written != 0, written != session.keyCount {
                Issue.record("\(written) of \(session.keyCount) rows of one transaction: \(describe(run))")
            }
            if hadEverything(run, recording), run.connectError != nil || run.claims.contains(where: { $0.error != nil })
            {
                Issue.record("an error though nothing was missing: \(describe(run))")
            }
        }
        try await expectUsable(db)
        db.close()
    }

    /// Whether every byte of the server reached the client, which then has to believe it, whatever came behind.
    private func hadEverything(_ run: Run, _ recording: Recording?) -> Bool {
        guard let cut = run.faults.cut else { return true }
        return cut.direction == .toClient && cut.offset == recording?.toClient.upperBound && !session.usesTLS
            && (cut.ending == .close || cut.ending == .halfClose)
    }

    private func judge(connectError error: PostgresError, _ run: Run) {
        let isExpected =
            switch run.faults.cut?.ending {
            // Of a session of which only what follows the connecting is cut, the rest may arrive together with the cut.
            case .stall: error.code == .timedOut
            case .close, .halfClose, .reset:
                error.code == .connectionLost || error.code == .cannotConnect
                    || (session.usesTLS && error.code == .tls)
                    // What the server says when the client's side ends while it waits for the password.
                    || (session.usesSCRAM && error.code == .invalidPassword && run.faults.cut?.ending == .halfClose)
            case nil: false
            }
        if !isExpected || error.outcome != .notSent { Issue.record("\(error): \(describe(run))") }
    }

    private func judge(_ claim: FaultClaim, _ present: Set<Int64>, _ run: Run) {
        let written = claim.keys.count { present.contains($0) }
        let isTruth: Bool
        switch claim.error?.outcome {
        case nil, .succeeded: isTruth = written == claim.keys.count
        case .notSent, .rejected, .aborted: isTruth = written == 0
        case .unknown: isTruth = written == 0 || written == claim.keys.count
        }
        if !isTruth {
            let what = claim.error.map { "\($0)" } ?? "acknowledged"
            Issue.record("\(what), but \(written) of \(claim.keys.count) rows are there: \(describe(run))")
        }
        guard let error = claim.error else { return }
        let isExpected =
            switch run.faults.cut?.ending {
            case .stall: error.code == .connectionClosed
            case .close, .halfClose, .reset:
                error.code == .connectionLost
                    || (session.copiesIn && error.code == .protocolViolation && run.faults.cut?.ending == .halfClose)
            case nil: false
            }
        if !isExpected { Issue.record("\(error): \(describe(run))") }
    }

    private func describe(_ run: Run) -> String {
        guard let cut = run.faults.cut else { return "\(session.name), faults of seed \(run.faults.seed)" }
        return "\(session.name), \(cut.ending) after \(cut.offset) bytes \(cut.direction)"
    }
}
