import Postgres
import PostgresTesting
import Synchronization
import TestTurns
import Testing

/// Runs of one session, each under faults of its own, many at a time. What they claimed is judged in `FaultJudgement.swift`.
struct FaultRuns: Sendable {
    let session: FaultSession
    let server: FaultServer

    /// Each worker has a proxy.
    private static let concurrency = 32
    /// No run takes longer, whatever else the machine does; what hangs, hangs for ever.
    private static let limit = Duration.seconds(30)
    /// How long a connect may take that is going to be stalled.
    private static let stalledConnect = Duration.milliseconds(300)
    /// How long a request to cancel may have no effect where something is stalled.
    private static let stalledCancel = Duration.milliseconds(250)

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
        let link = FaultLink(proxy: proxy, number: session.harmedConnection)
        let configuration = try server.configuration(session, port: proxy.port)
        var connected: PostgresFaultProxy.Connection?
        // Before the connection is closed: whether Terminate is still forwarded then, nobody waits for.
        let done: PostgresFaultProxy.Connection
        let claims: [FaultClaim]
        let key = server.newKeys(session.keyCount)
        switch session.use {
        case .connect:
            let db = try await PostgresConnection.connect(configuration)
            claims = []
            done = try await link.settled()
            db.close()
        case .connection(let work):
            let db = try await PostgresConnection.connect(configuration)
            // The connection that cancels is there only later, and all of it is covered.
            if session.harmedConnection == 0 { connected = try await link.settled() }
            claims = await work(db, key)
            done = try await link.settled()
            db.close()
        case .blocking(let work):
            let db = try await onThread { try PostgresBlockingConnection.connect(configuration) }
            connected = try await link.settled()
            claims = try await onThread { work(db, key) }
            done = try await link.settled()
            db.close()
        case .pool(let work):
            let client = PostgresClient(configuration, pool: Self.poolOptions)
            claims = await work(client, key)
            done = try await link.settled()
            await client.shutdown()
        }
        #expect(isWhole(claims))
        await proxy.stop()
        // Behind the last byte of the connecting, there would be no answer to it: that is for the sessions that connect.
        return Recording(
            toServer: (connected.map { $0.bytesToServer + 1 } ?? 0)...done.bytesToServer,
            toClient: (connected?.bytesToClient ?? 0)...done.bytesToClient)
    }

    /// Whether everything was acknowledged, but for what was to be stopped.
    func isWhole(_ claims: [FaultClaim]) -> Bool {
        claims.indices.allSatisfy { index in
            claims[index].error?.outcome == (session.cancels && index == 0 ? .rejected : nil)
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
        let isStall = faults.cut?.ending == .stall
        var configuration = try server.configuration(session, port: proxy.port)
        if isStall, session.coversConnecting { configuration.connectTimeout = Self.stalledConnect }
        configuration.cancelTimeout = isStall ? Self.stalledCancel : Self.limit / 2
        let run = Run(faults: faults, key: server.newKeys(session.keyCount))
        let link = FaultLink(proxy: proxy, number: proxy.connections.count + session.harmedConnection)
        proxy.nextFaults = Array(repeating: PostgresFaultProxy.Faults(), count: session.harmedConnection) + [faults]
        let result = await bounded(by: Self.limit) { [configuration] in
            await perform(run, configuration, link, isStall: isStall)
        }
        guard let result else {
            Issue.record("hangs: \(session.name), \(String(describing: faults.cut)), seed \(faults.seed)")
            var run = run
            run.isHanging = true
            return run
        }
        return result
    }

    /// Nothing bounds the wait for a reply that never comes, so when the cut was a stall, the test ends the connection.
    private func perform(
        _ run: Run, _ configuration: PostgresConfiguration, _ link: FaultLink, isStall: Bool
    ) async -> Run {
        var run = run
        // Where there is something of ours that ends the wait, it is given the time.
        let patience = session.cancels ? Self.stalledCancel * 3 : .milliseconds(10)
        do {
            switch session.use {
            case .connect: try await PostgresConnection.connect(configuration).close()
            case .connection(let work):
                let db = try await PostgresConnection.connect(configuration)
                let closer = isStall ? link.whenCut(after: patience) { db.close() } : nil
                run.claims = await work(db, run.key)
                closer?.cancel()
                db.close()
            case .blocking(let work):
                let db = try await onThread { try PostgresBlockingConnection.connect(configuration) }
                let closer = isStall ? link.whenCut(after: patience) { db.close() } : nil
                run.claims = try await onThread { [key = run.key] in work(db, key) }
                closer?.cancel()
                db.close()
            case .pool(let work):
                let client = PostgresClient(configuration, pool: Self.poolOptions)
                // The pool is to go on: so it is the link that ends.
                let closer = isStall ? link.whenCut(after: patience) { link.proxy.endConnections(.reset) } : nil
                run.claims = await work(client, run.key)
                closer?.cancel()
                if isStall { await link.end() }
                await expectRestored(client, run)
                await client.shutdown()
            }
        } catch let error as PostgresError {
            run.connectError = error
        } catch {
            Issue.record("an error of another type: \(error)")
        }
        return run
    }

    // MARK: The pool

    private static var poolOptions: PostgresClient.Options {
        var options = PostgresClient.Options()
        options.maximumConnections = 1
        options.acquireTimeout = limit / 2
        return options
    }

    /// That everybody who had the connection gave it back, or what was broken of it, and that the next one gets a connection.
    private func expectRestored(_ client: PostgresClient, _ run: Run) async {
        await eventually("the pool gives no connection, or is not at rest: \(describe(run))") {
            guard (try? await client.query("SELECT \(run.key)", as: Int64.self).one()) == run.key else { return false }
            // The end of the connection may come behind the answer that it still gave.
            let statistics = client.statistics
            return statistics.idle == 1 && statistics.connections == 1 && statistics.waiting == 0
        }
    }
}

/// The connection of a run that the faults are in.
struct FaultLink: Sendable {
    let proxy: PostgresFaultProxy
    /// Its place among the connections of the proxy.
    let number: Int

    private var connection: PostgresFaultProxy.Connection? {
        let connections = proxy.connections
        return connections.indices.contains(number) ? connections[number] : nil
    }

    /// The counts, once they do not grow any more.
    func settled() async throws -> PostgresFaultProxy.Connection {
        var last = try #require(connection)
        var equal = 0
        while equal < 3 {
            try await Task.sleep(for: .milliseconds(30))
            let next = try #require(connection)
            equal = next == last ? equal + 1 : 0
            last = next
        }
        return last
    }

    func whenCut(after patience: Duration, _ action: @escaping @Sendable () -> Void) -> Task<Void, any Error> {
        Task {
            while connection?.wasCut != true { try await Task.sleep(for: .milliseconds(5)) }
            try await Task.sleep(for: patience)
            action()
        }
    }

    /// Ends whatever the proxy has open, and waits for it.
    func end() async {
        await eventually("the proxy does not end its connections") {
            proxy.endConnections(.reset)
            return proxy.openConnectionCount == 0
        }
    }
}
