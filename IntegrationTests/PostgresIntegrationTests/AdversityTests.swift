import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Sessions and servers that end.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct AdversityTests {
    private func terminate(_ db: PostgresConnection) async throws {
        let pid = try #require(db.backendProcessID)
        let server = try await PostgresEphemeralServer.shared()
        try await server.runSQL("SELECT pg_terminate_backend(\(pid), 10000)")
    }

    // MARK: Sessions that end

    @Test(arguments: PostgresEphemeralServer.Address.allCases, [0, 1, 20])
    func anIdleSessionThatIsTerminatedSaysWhy(
        _ address: PostgresEphemeralServer.Address, _ queriesBefore: Int
    ) async throws {
        let db = try await connect(over: address)
        for _ in 0..<queriesBefore { try await expectUsable(db) }
        try await terminate(db)
        let error = await failure { try await db.execute("SELECT 1") }
        #expect(error?.code == .adminShutdown)
        #expect(error?.server?.severity == "FATAL")
        #expect(error?.outcome == .notSent || error?.outcome == .unknown)
        #expect(db.isClosed)
        let next = await failure { try await db.execute("SELECT 1") }
        #expect(next?.code == .adminShutdown)
        #expect(next?.outcome == .notSent)
    }

    @Test(arguments: PostgresEphemeralServer.Address.allCases)
    func aBusySessionThatIsTerminatedAnswersEverybody(_ address: PostgresEphemeralServer.Address) async throws {
        let db = try await connect(over: address)
        try await withThrowingTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<20 { group.addTask { await failure { try await db.execute("SELECT pg_sleep(60)") } } }
            try await waitUntilAsleep(db, PostgresEphemeralServer.shared())
            try await terminate(db)
            var count = 0
            var sent = 0
            for try await error in group {
                count += 1
                if error?.outcome != .notSent { sent += 1 }
                #expect(error?.code == .adminShutdown)
                // Not all may have been sent when the first sleeps.
                #expect(error.map { [.unknown, .rejected, .notSent].contains($0.outcome) } == true)
            }
            #expect(count == 20)
            #expect(sent > 0)
        }
        #expect(db.isClosed)
    }

    @Test func aTransactionThatIsTerminatedIsNoSuccess() async throws {
        let db = try await connect()
        let table = uniqueName("terminated")
        try await db.execute("CREATE TABLE \(identifier: table) (n int)")
        var pipeline = PostgresPipeline(.atomic)
        pipeline.add("INSERT INTO \(identifier: table) VALUES (1)")
        pipeline.add("SELECT pg_terminate_backend(pg_backend_pid())")
        pipeline.add("INSERT INTO \(identifier: table) VALUES (2)")
        let results = try await db.run(pipeline)
        #expect(results.errors[1]?.code == .adminShutdown)
        #expect(results.errors.allSatisfy { $0?.outcome != .succeeded && $0?.outcome != .notSent })
        let other = try await connect()
        #expect(try await other.query("SELECT count(*) FROM \(identifier: table)", as: Int.self).one() == 0)
    }

    private func waitUntilAsleep(_ db: PostgresConnection, _ server: PostgresEphemeralServer) async throws {
        let pid = try #require(db.backendProcessID)
        try await eventually("asleep") {
            try await server.runSQL("SELECT wait_event FROM pg_stat_activity WHERE pid = \(pid)") == "PgSleep"
        }
    }

    // MARK: Servers that end

    enum ServerEnd: Sendable, CaseIterable {
        case kill, immediate, fast
    }

    @Test(arguments: ServerEnd.allCases)
    func everyWaiterIsAnsweredWhenTheServerEnds(_ end: ServerEnd) async throws {
        try await PostgresEphemeralServer.withServer { server in
            let configuration = try PostgresConfiguration(url: server.connectionURL())
            let db = try await PostgresConnection.connect(configuration)
            let idle = try await PostgresConnection.connect(configuration)
            let streaming = try await PostgresConnection.connect(configuration)
            var rows = try await streaming.stream(
                "SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000) i", as: (Int, String).self
            ).makeAsyncIterator()
            _ = try await rows.next()
            let blocked = Task {
                try await onThread {
                    let db = try PostgresBlockingConnection.connect(configuration)
                    try db.execute("SELECT pg_sleep(60)")
                }
            }
            await withTaskGroup(of: PostgresError?.self) { group in
                for _ in 0..<50 { group.addTask { await failure { try await db.execute("SELECT pg_sleep(60)") } } }
                await eventually("asleep") {
                    let asleep = try? await server.runSQL(
                        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
                    return asleep == "2"
                }
                let begin = ContinuousClock.now
                await #expect(throws: Never.self) {
                    switch end {
                    case .kill: try await server.kill()
                    case .immediate: try await server.stop(.immediate)
                    case .fast: try await server.stop(.fast)
                    }
                }
                var sent = 0
                for await error in group {
                    if error?.outcome != .notSent { sent += 1 }
                    #expect(error.map { [.unknown, .rejected, .notSent].contains($0.outcome) } == true)
                    #expect(
                        error?.code == .connectionLost || error?.code == .adminShutdown
                            || error?.code == .crashShutdown)
                }
                #expect(sent > 0)
                let blockedError = await failure { try await blocked.value }
                #expect(blockedError?.outcome == .unknown || blockedError?.outcome == .rejected)
                let idleError = await failure { try await idle.execute("SELECT 1") }
                #expect(idleError?.outcome == .unknown || idleError?.outcome == .notSent)
                let streamError = await failure { while try await rows.next() != nil {} }
                #expect(streamError != nil)
                #expect(ContinuousClock.now - begin < .seconds(30))
            }
            #expect(db.isClosed)
            let refused = await failure { try await PostgresConnection.connect(configuration) }
            #expect(refused?.code == .cannotConnect)
            try await server.restart()
            try await expectUsable(PostgresConnection.connect(configuration))
            await eventually("descriptors are left over") { openSockets(toPort: server.port) <= 1 }
        }
    }

    // MARK: The end on this side

    @Test func closeAnswersEverybodyAndFreesTheSession() async throws {
        let db = try await connect(over: .tcp) {
            // Else the server would sleep to the end before it looks.
            $0.parameters = ["client_connection_check_interval": "100"]
        }
        let pid = try #require(db.backendProcessID)
        let server = try await PostgresEphemeralServer.shared()
        try await withThrowingTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<20 { group.addTask { await failure { try await db.execute("SELECT pg_sleep(60)") } } }
            try await waitUntilAsleep(db, server)
            let begin = ContinuousClock.now
            db.close()
            for try await error in group {
                #expect(error?.code == .connectionClosed)
                #expect(error?.outcome == .unknown || error?.outcome == .notSent)
            }
            #expect(ContinuousClock.now - begin < .seconds(10))
        }
        try await eventually("the session goes on") {
            try await server.runSQL("SELECT count(*) FROM pg_stat_activity WHERE pid = \(pid)") == "0"
        }
    }

    @Test(arguments: PostgresEphemeralServer.Address.allCases, [true, false])
    func aDroppedConnectionEndsItsSession(
        _ address: PostgresEphemeralServer.Address, _ inTransaction: Bool
    ) async throws {
        let server = try await PostgresEphemeralServer.shared()
        let pid: Int32
        do {
            let db = try await connect(over: address)
            try await expectUsable(db)
            if inTransaction { try await db.execute("BEGIN") }
            pid = try #require(db.backendProcessID)
        }
        try await eventually("the session goes on") {
            try await server.runSQL("SELECT count(*) FROM pg_stat_activity WHERE pid = \(pid)") == "0"
        }
    }

    @Test func aConnectionDroppedInTheMiddleOfAStreamEndsItsSession() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let pid: Int32
        do {
            let db = try await connect()
            pid = try #require(db.backendProcessID)
            for try await number in try await db.stream("SELECT generate_series(1, 10000000)::int8", as: Int.self)
            where number == 10 { break }
        }
        try await eventually("the session goes on") {
            try await server.runSQL("SELECT count(*) FROM pg_stat_activity WHERE pid = \(pid)") == "0"
        }
    }

    @Test func manyConnectionsComeAndGo() async throws {
        let options = PostgresEphemeralServer.Options()
        try await PostgresEphemeralServer.withServer(options) { server in
            let url = server.connectionURL()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        let db = try await PostgresConnection.connect(url)
                        try await expectUsable(db)
                        if number.isMultiple(of: 2) { db.close() }
                    }
                    if number >= 16 { try await group.next() }
                }
                try await group.waitForAll()
            }
            await eventually("descriptors are left over") { openSockets(toPort: server.port) == 0 }
            try await eventually("sessions are left over") {
                try await server.runSQL(
                    "SELECT count(*) FROM pg_stat_activity WHERE client_port > 0") == "0"
            }
            #expect(!(await server.serverLog).contains("unexpected EOF on client connection"))
        }
    }
}
