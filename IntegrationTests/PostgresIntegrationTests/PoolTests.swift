import Postgres
import PostgresTesting
import Synchronization
import TestTurns
import Testing

/// `PostgresClient` with a real server: how many connections, for whom, and what becomes of them.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct PoolTests {
    @Test func nothingIsConnectedBeforeTheFirstUseAndNoTaskRunsThePool() async throws {
        let client = try await makeClient()
        #expect(client.statistics.connections == 0)
        #expect(try await client.query("SELECT 1", as: Int.self).one() == 1)
        #expect(client.statistics.connects == 1)
        #expect(client.statistics.idle == 1)
        await client.shutdown()
    }

    @Test(arguments: PostgresEphemeralServer.Address.allCases, [1, 8])
    func noMoreConnectionsThanTheMaximumAreOpened(
        _ address: PostgresEphemeralServer.Address, _ sharing: Int
    ) async throws {
        let name = uniqueName("pool")
        let client = try await makeClient(over: address, name: name) {
            $0.maximumConnections = 4
            $0.sharedStatements = sharing
        }
        let most = Noted(0)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<64 {
                group.addTask {
                    for round in 0..<20 {
                        let token = task * 1000 + round
                        let (got, count) = try await client.query(
                            "SELECT \(token)::int8, (SELECT count(*) FROM pg_stat_activity WHERE application_name = \(name))",
                            as: (Int, Int).self
                        ).one()
                        #expect(got == token)
                        most.value.withLock { $0 = max($0, count) }
                        #expect(client.statistics.connections <= 4)
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(most.value.withLock { $0 } <= 4)
        #expect(most.value.withLock { $0 } > 1)
        let statistics = client.statistics
        #expect(statistics.acquires == 64 * 20)
        #expect(statistics.inUse == 0)
        #expect(statistics.resets == 0)
        // The last may still be on its way when those that are there have done all the work.
        await eventually("a connection neither comes nor is given up") {
            let statistics = client.statistics
            return statistics.connecting == 0 && statistics.idle == statistics.connects
        }
        try await expectSessions(name, client.statistics.idle)
        await client.shutdown()
        try await expectSessions(name, 0)
    }

    @Test func waitersAreServedInTheOrderInWhichTheyCame() async throws {
        let client = try await makeClient { $0.maximumConnections = 1 }
        let order = Noted<[Int]>([])
        try await withThrowingTaskGroup(of: Void.self) { group in
            try await client.withConnection { _ in
                for number in 0..<20 {
                    group.addTask {
                        try await client.withConnection { db in
                            order.value.withLock { $0.append(number) }
                            try await db.execute("SELECT 1")
                        }
                    }
                    await eventually("the caller does not wait") { client.statistics.waiting == number + 1 }
                }
            }
            try await group.waitForAll()
        }
        #expect(order.value.withLock { $0 } == Array(0..<20))
        #expect(client.statistics.longestAcquire > .zero)
    }

    @Test func aWrongPasswordFailsAHundredWaitersAtOnce() async throws {
        let role = uniqueName("locked")
        try await PostgresEphemeralServer.withServer(Self.passwordOptions(role)) { server in
            let client = try PostgresClient(url: server.connectionURL(user: role, password: "wrong"))
            let begin = ContinuousClock.now
            await withTaskGroup(of: PostgresError?.self) { group in
                for _ in 0..<100 { group.addTask { await failure { try await client.execute("SELECT 1") } } }
                for await error in group {
                    #expect(error?.code == .invalidPassword)
                    #expect(error?.outcome == .notSent)
                }
            }
            // And whoever comes next, without another attempt.
            let error = await failure { try await client.execute("SELECT 1") }
            #expect(error?.code == .invalidPassword)
            // Nobody waited for the end of acquireTimeout.
            #expect(ContinuousClock.now - begin < .seconds(30))
            #expect(client.statistics.acquireTimeouts == 0)
        }
    }

    private static func passwordOptions(_ role: String) -> PostgresEphemeralServer.Options {
        var options = PostgresEphemeralServer.Options()
        options.roles = [.init(role, password: "right")]
        options.hbaRules = PostgresEphemeralServer.HBARule.requireLocal("scram-sha-256")
        return options
    }

    @Test func aServerThatIsNotThereFailsFastAndServiceReturnsWithIt() async throws {
        try await PostgresEphemeralServer.withServer(PostgresEphemeralServer.Options()) { server in
            let client = try PostgresClient(url: server.connectionURL())
            try await client.execute("SELECT 1")
            try await server.stop(.fast)
            await eventually("the pool does not notice") {
                let error = await failure { try await client.execute("SELECT 1") }
                return error?.code == .cannotConnect
            }
            for _ in 0..<20 {
                let error = await failure { try await client.execute("SELECT 1") }
                #expect(error?.code == .cannotConnect)
                #expect(error?.outcome == .notSent)
            }
            #expect(client.statistics.acquireTimeouts == 0)
            try await server.restart()
            await eventually(within: .seconds(15), "no service") {
                (try? await client.execute("SELECT 1")) != nil
            }
        }
    }

    @Test func aRestartOfTheServerCostsNothingButItsTime() async throws {
        try await PostgresEphemeralServer.withServer(PostgresEphemeralServer.Options()) { server in
            var options = PostgresClient.Options()
            options.maximumConnections = 4
            let client = try PostgresClient(url: server.connectionURL(over: .unixSocket), pool: options)
            try await holdAtOnce(client, 4)
            try await server.restart()
            // Their end was told to the kernel; nobody may see it.
            for number in 0..<100 {
                #expect(try await client.query("SELECT \(number)::int8", as: Int.self).one() == number)
            }
            #expect(client.statistics.closes[.lost] == 4)
        }
    }

    @Test(arguments: PostgresEphemeralServer.Address.allCases)
    func anIdleConnectionThatTheServerEndedIsNeverHandedOut(_ address: PostgresEphemeralServer.Address) async throws {
        let server = try await PostgresEphemeralServer.shared()
        let client = try await makeClient(over: address)
        for round in 0..<5 {
            let pid = try await client.query("SELECT pg_backend_pid()", as: Int32.self).one()
            try await server.runSQL("SELECT pg_terminate_backend(\(pid), 10000)")
            for number in 0..<100 {
                let got = try await client.query("SELECT \(number)::int8", as: Int.self).one()
                #expect(got == number, "round \(round)")
            }
        }
        #expect(client.statistics.closes[.lost] == 5)
        #expect(client.statistics.connects == 6)
    }

    @Test func aCancelledWaiterLeavesNoPermit() async throws {
        let client = try await makeClient { $0.maximumConnections = 1 }
        try await client.withConnection { _ in
            let waiting = (0..<50).map { _ in Task { try await client.execute("SELECT 1") } }
            await eventually("not all wait") { client.statistics.waiting == 50 }
            for task in waiting { task.cancel() }
            for task in waiting {
                let error = await failure { try await task.value }
                #expect(error?.code == .cancelled)
                #expect(error?.outcome == .notSent)
            }
            #expect(client.statistics.waiting == 0)
        }
        try await client.execute("SELECT 1")
        #expect(client.statistics.idle == 1)
    }

    @Test func whoWaitsTooLongIsToldTheNumbers() async throws {
        let client = try await makeClient {
            $0.maximumConnections = 1
            // Long enough to be seen waiting on a machine with much to do.
            $0.acquireTimeout = .seconds(8)
            $0.maximumWaiters = 1
        }
        // Connecting may take longer than that.
        await eventually("no connection") { (try? await client.execute("SELECT 1")) != nil }
        try await client.withConnection { _ in
            let waiting = Task { await failure { try await client.execute("SELECT 1") } }
            await eventually("nobody waits") { client.statistics.waiting == 1 }
            let refused = await failure { try await client.execute("SELECT 1") }
            #expect(refused?.code == .tooManyWaiters || refused?.code == .timedOut)
            let error = await waiting.value
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .notSent)
            #expect(error?.message.contains("1 in use") == true, "\(error?.message ?? "")")
            #expect(error?.message.contains("maximum 1") == true)
        }
        #expect(client.statistics.acquireTimeouts >= 1)
    }

    @Test func shutdownLetsLeasesFinishAndRefusesTheRest() async throws {
        let name = uniqueName("pool")
        let client = try await makeClient(name: name) { $0.maximumConnections = 2 }
        let gate = AsyncStream<Void>.makeStream()
        let lease = Task {
            try await client.withConnection { db in
                for await _ in gate.stream { break }
                return try await db.query("SELECT 7", as: Int.self).one()
            }
        }
        await eventually("no lease") { client.statistics.inUse == 1 }
        try await client.execute("SELECT 1")
        let ending = Task { await client.shutdown() }
        await eventually("the idle one stays") { client.statistics.idle == 0 }
        let error = await failure { try await client.execute("SELECT 1") }
        #expect(error?.code == .clientShutDown)
        #expect(error?.outcome == .notSent)
        gate.continuation.yield()
        #expect(try await lease.value == 7)
        await ending.value
        #expect(client.statistics.connections == 0)
        try await expectSessions(name, 0)
    }

    @Test func shutdownEndsWhatDoesNotFinishInTime() async throws {
        let client = try await makeClient(over: .tcp) {
            $0.maximumConnections = 2
        }
        let sleeping = Task { await failure { try await client.execute("SELECT pg_sleep(60)") } }
        let leased = Task {
            await failure { try await client.withConnection { db in try await db.execute("SELECT pg_sleep(60)") } }
        }
        await eventually("not both run") { client.statistics.inUse == 2 && client.statistics.connecting == 0 }
        let waiting = (0..<1000).map { _ in Task { await failure { try await client.execute("SELECT 1") } } }
        await eventually("not all wait") { client.statistics.waiting == 1000 }
        let begin = ContinuousClock.now
        await client.shutdown(gracePeriod: .milliseconds(100))
        #expect(ContinuousClock.now - begin < .seconds(10))
        for task in waiting { #expect(await task.value?.code == .clientShutDown) }
        for task in [sleeping, leased] {
            let error = await task.value
            #expect(error?.code == .connectionClosed)
            #expect(error?.outcome == .unknown)
        }
        #expect(client.statistics.connections == 0)
    }

    @Test func theLastReferenceClosesEverything() async throws {
        let name = uniqueName("pool")
        do {
            let client = try await makeClient(name: name) { $0.maximumConnections = 3 }
            try await holdAtOnce(client, 3)
            try await expectSessions(name, 3)
        }
        try await expectSessions(name, 0)
    }

    @Test func idleConnectionsAreClosedInTime() async throws {
        let name = uniqueName("pool")
        let client = try await makeClient(name: name) {
            $0.maximumConnections = 3
            $0.minimumConnections = 1
            $0.idleTimeout = .milliseconds(100)
        }
        try await holdAtOnce(client, 3)
        await eventually("still there") { client.statistics.connections == 1 }
        #expect(client.statistics.closes == [.idle: 2])
        try await expectSessions(name, 1)
    }

    @Test func aLeakIsReported() async throws {
        let leaks = Noted<[PostgresClient.Leak]>([])
        let client = try await makeClient {
            $0.leakTime = .milliseconds(50)
            $0.onLeak = { leak in leaks.value.withLock { $0.append(leak) } }
        }
        try await client.withConnection { db in
            await eventually("no report") { leaks.value.withLock { $0.count } == 1 }
            #expect(leaks.value.withLock { $0.first?.backendProcessID } == db.backendProcessID)
        }
        #expect(client.statistics.leaks == 1)
    }

    @Test func aStreamHasItsConnectionUntilItIsLetGo() async throws {
        let client = try await makeClient {
            $0.maximumConnections = 1
            $0.cleanupTimeout = .seconds(30)
        }
        var sum = 0
        for try await number in try await client.stream("SELECT generate_series(1, 1000)::int8", as: Int.self) {
            sum += number
        }
        #expect(sum == 500_500)
        #expect(client.statistics.inUse == 0)
        for try await number in try await client.stream("SELECT generate_series(1, 10000)::int8", as: Int.self)
        where number == 5 { break }
        #expect(try await client.query("SELECT 1", as: Int.self).one() == 1)
        #expect(client.statistics.connects == 1)
    }

    /// Who joins others on a connection finds it reset, too.
    @Test func sharedStatementsMeetNoSessionOfALease() async throws {
        let client = try await makeClient {
            $0.maximumConnections = 1
            $0.sharedStatements = 8
            $0.cleanupTimeout = .seconds(30)
        }
        for _ in 0..<20 {
            try await client.withConnection { db in _ = try await db.execute("SET application_name = 'left behind'") }
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        try await client.query("SELECT current_setting('application_name')", as: String.self).one()
                    }
                }
                for try await name in group { #expect(name != "left behind") }
            }
        }
    }

    @Test func aDeadlineOfTheCallerEndsTheWaitForAConnection() async throws {
        let client = try await makeClient { $0.maximumConnections = 1 }
        try await client.withConnection { _ in
            let begin = ContinuousClock.now
            let error = await failure {
                try await withPostgresTimeout(.milliseconds(100)) { try await client.execute("SELECT 1") }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .notSent)
            #expect(ContinuousClock.now - begin < .seconds(20))
        }
    }

    @Test func pipelinesRunOnOneConnection() async throws {
        let client = try await makeClient()
        let (first, second) = try await client.pipeline(
            .atomic, PostgresQuery("SELECT pg_backend_pid()").as(Int32.self),
            PostgresQuery("SELECT pg_backend_pid()").as(Int32.self))
        #expect(try first.one() == second.one())
        #expect(client.statistics.inUse == 0)
    }

    @Test func theBodyMayUseItsActorAndReturnWhatIsNotSendable() async throws {
        final class Box { var value = 0 }
        actor Shop {
            var sold = 0
            func sell(_ client: PostgresClient) async throws -> Int {
                let box = try await client.withConnection { db in
                    sold += try await db.query("SELECT 3", as: Int.self).one()
                    let box = Box()
                    box.value = sold
                    return box
                }
                return box.value
            }
        }
        let shop = Shop()
        let sold = try await shop.sell(makeClient())
        #expect(sold == 3)
    }

    @Test func randomCancellationsLeaveThePoolInOrder() async throws {
        let name = uniqueName("pool")
        let client = try await makeClient(name: name) { $0.maximumConnections = 6 }
        let seed = UInt64.random(in: 0...UInt64.max)
        print("pool cancellations: seed \(seed)")
        var random = SplitMix(state: seed)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<2000 {
                let delay = Int(random.next() % 3000)
                let isCancelled = random.next() % 2 == 0
                let isLease = random.next() % 4 == 0
                group.addTask {
                    let task = Task { () async throws -> Int in
                        isLease
                            ? try await client.withConnection { db in
                                try await db.query("SELECT \(number)::int8", as: Int.self).one()
                            }
                            : try await client.query(
                                "SELECT \(number)::int8, pg_sleep(0.001)", as: (Int, String).self
                            ).one().0
                    }
                    if isCancelled {
                        try await Task.sleep(for: .microseconds(delay))
                        task.cancel()
                    }
                    do {
                        let got = try await task.value
                        #expect(got == number, "seed \(seed)")
                    } catch let error as PostgresError {
                        #expect(isCancelled && error.code == .cancelled, "seed \(seed): \(error)")
                    }
                }
                if number >= 64 { try await group.next() }
            }
            try await group.waitForAll()
        }
        await eventually("something is left over") {
            let statistics = client.statistics
            return statistics.inUse + statistics.waiting + statistics.connecting + statistics.cleaning == 0
        }
        try await expectSessions(name, client.statistics.idle)
    }
}

/// What tasks write down.
private final class Noted<Value: Sendable>: Sendable {
    let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
}

func makeClient(
    over address: PostgresEphemeralServer.Address = .unixSocket, name: String? = nil,
    _ change: (inout PostgresClient.Options) -> Void = { _ in }
) async throws -> PostgresClient {
    let server = try await PostgresEphemeralServer.shared()
    var configuration = try PostgresConfiguration(url: server.connectionURL(over: address))
    configuration.applicationName = name
    var options = PostgresClient.Options()
    // A busy machine is no reason to give up.
    options.cleanupTimeout = .seconds(30)
    change(&options)
    return PostgresClient(configuration, pool: options)
}

/// So many connections in use at the same time.
func holdAtOnce(_ client: PostgresClient, _ count: Int) async throws {
    if count == 0 { return }
    try await client.withConnection { db in
        try await db.execute("SELECT 1")
        try await holdAtOnce(client, count - 1)
    }
}

/// How many sessions the server has under this name.
func expectSessions(
    _ name: String, _ count: @autoclosure () -> Int, _ sourceLocation: SourceLocation = #_sourceLocation
) async throws {
    let server = try await PostgresEphemeralServer.shared()
    try await eventually("not as many sessions", sourceLocation) {
        try await server.runSQL("SELECT count(*) FROM pg_stat_activity WHERE application_name = '\(name)'")
            == "\(count())"
    }
}
