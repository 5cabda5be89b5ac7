import Postgres
import PostgresTesting
import TestTurns
import Testing

/// The blocking API on threads of its own.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct BlockingTests {
    private func blocking<Value: Sendable>(
        over address: PostgresEphemeralServer.Address = .unixSocket,
        _ body: @escaping @Sendable (PostgresBlockingConnection) throws -> Value
    ) async throws -> Value {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: address)
        return try await onThread {
            let db = try PostgresBlockingConnection.connect(url)
            defer { db.close() }
            return try body(db)
        }
    }

    @Test(arguments: PostgresEphemeralServer.Address.allCases)
    func severalThreadsShareOneConnection(_ address: PostgresEphemeralServer.Address) async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: address)
        let db = try await onThread { try PostgresBlockingConnection.connect(url) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for thread in 0..<8 {
                group.addTask {
                    try await onThread {
                        for round in 0..<300 {
                            let token = thread * 1000 + round
                            let got = try db.query("SELECT \(token)::int8", as: Int.self).one()
                            #expect(got == token)
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        db.close()
    }

    @Test func severalThreadsMixEverything() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        let db = try await onThread { try PostgresBlockingConnection.connect(url) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for thread in 0..<8 {
                group.addTask {
                    try await onThread {
                        for round in 0..<40 {
                            let token = thread * 1000 + round
                            switch thread % 4 {
                            case 0:
                                let results = try db.script("SELECT \(unsafeSQL: "\(token)"); SELECT 'x'")
                                #expect(try results[0].one().decode(0, as: Int.self) == token)
                            case 1:
                                var pipeline = PostgresPipeline(round.isMultiple(of: 2) ? .isolated : .atomic)
                                let tickets = (0..<50).map {
                                    pipeline.add(PostgresQuery("SELECT \(token * 100 + $0)::int8").as(Int.self))
                                }
                                let results = try db.run(pipeline)
                                for (index, ticket) in tickets.enumerated() {
                                    #expect(try results[ticket].one() == token * 100 + index)
                                }
                            case 2:
                                var rows = try db.stream(
                                    PostgresQuery("SELECT \(token)::int8 FROM generate_series(1, 100)").as(Int.self))
                                var count = 0
                                while let row = try rows.next() {
                                    count += 1
                                    #expect(row == token)
                                }
                                #expect(count == 100)
                            default:
                                do throws(PostgresError) {
                                    try db.execute("SELECT 1 / \(0), \(token)")
                                    Issue.record("no error")
                                } catch {
                                    #expect(error.code == .divisionByZero)
                                }
                            }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let last = try await onThread { try db.query("SELECT 7", as: Int.self).one() }
        #expect(last == 7)
        db.close()
    }

    @Test func errorsAreTypedAndLeaveTheConnectionUsable() async throws {
        try await blocking { db throws in
            do throws(PostgresError) {
                try db.execute("SELEKT")
                Issue.record("no error")
            } catch {
                #expect(error.code == .syntaxError)
                #expect(error.outcome == .rejected)
            }
            #expect(throws: PostgresError.self) { try db.script("SELECT 1; SELECT 1/0") }
            #expect(throws: PostgresError.self) { try db.script("COPY pg_class TO STDOUT") }
            #expect(throws: PostgresError.self) { try db.prepare("SELEKT") }
            #expect(try db.prepare("SELECT \(1)").parameterTypes.map(\.oid) == [20])
            #expect(try db.query("SELECT 1", as: Int.self).one() == 1)
        }
    }

    @Test func aLargePipelineFinishes() async throws {
        try await blocking(over: .tcp) { db in
            let text = String(repeating: "b", count: 10_000)
            for sync in [PostgresPipeline.Sync.isolated, .atomic] {
                var pipeline = PostgresPipeline(sync)
                let tickets = (0..<2000).map {
                    pipeline.add(PostgresQuery("SELECT \($0), \(text)").as((Int, String).self))
                }
                let results = try db.run(pipeline)
                #expect(try results[tickets[1999]].one().0 == 1999)
                try results.check()
            }
        }
    }

    @Test func aStreamThatIsLeftAndAQueryInsideTheLoop() async throws {
        try await blocking { db throws in
            var sum = 0
            do {
                var rows = try db.stream(PostgresQuery("SELECT generate_series(1, 100000)::int8").as(Int.self))
                while let row = try rows.next(), row <= 100 {
                    sum += try db.query("SELECT \(row)::int8", as: Int.self).one()
                }
            }
            #expect(sum == 5050)
            #expect(try db.query("SELECT 1", as: Int.self).one() == 1)
        }
    }

    @Test func closingFromAnotherThreadEndsTheWait() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        let db = try await onThread { try PostgresBlockingConnection.connect(url) }
        try await withThrowingTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<4 {
                group.addTask { await failure { try await onThread { try db.execute("SELECT pg_sleep(60)") } } }
            }
            await eventually("sent") { db.statistics.bytesSent > 0 }
            try await Task.sleep(for: .milliseconds(50))
            let begin = ContinuousClock.now
            db.close()
            for try await error in group { #expect(error?.code == .connectionClosed) }
            #expect(ContinuousClock.now - begin < .seconds(10))
        }
    }

    @Test func aTerminatedSessionIsATypedError() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let url = server.connectionURL(over: .tcp)
        let (db, pid) = try await onThread {
            let db = try PostgresBlockingConnection.connect(url)
            return (db, try db.query("SELECT pg_backend_pid()", as: Int32.self).one())
        }
        try await server.runSQL("SELECT pg_terminate_backend(\(pid), 10000)")
        let error = await failure { try await onThread { try db.execute("SELECT 1") } }
        #expect(error?.code == .adminShutdown)
        #expect(db.isClosed)
    }

    @Test func onTheLoopsThreadABlockingCallIsRefused() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        let async = try await connect()
        let error = await Task(executorPreference: async.executor) {
            await failure { try PostgresBlockingConnection.connect(url).close() }
        }.value
        #expect(error?.code == .unsupported)
    }
}
