import PostgresProtocol
import PostgresTesting
import PostgresTransport
import TestTurns
import Testing

@testable import Postgres

/// A pool and a server that misbehaves, or does what a real one does only now and then.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct PoolMockTests {
    /// A client of one connection. Each script is of one connection, after its start-up.
    private func withClient(
        _ scripts: [Step]..., options: PostgresClient.Options = oneConnection(),
        _ body: (PostgresClient) async throws -> Void
    ) async throws {
        let server = try PostgresMockServer(scripts: scripts.map { [.acceptTrust()] + $0 })
        try await run(server, options, body)
    }

    private static func oneConnection(
        _ change: (inout PostgresClient.Options) -> Void = { _ in }
    ) -> PostgresClient.Options {
        var options = PostgresClient.Options()
        options.maximumConnections = 1
        // A busy machine is no reason to give up, or to send a reset by itself.
        options.cleanupTimeout = .seconds(50)
        options.resetDelay = .seconds(50)
        change(&options)
        return options
    }

    private func run(
        _ server: PostgresMockServer, _ options: PostgresClient.Options = oneConnection(),
        _ body: (PostgresClient) async throws -> Void
    ) async throws {
        do {
            let client = PostgresClient(server.configuration(), pool: options)
            try await body(client)
            await client.shutdown()
        } catch {
            await server.stop()
            throw error
        }
        try await server.finish()
    }

    private func expect(
        _ number: Int32, _ client: PostgresClient, _ sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let got = try await client.query("SELECT 1 AS n", as: Int32.self).one()
        #expect(got == number, sourceLocation: sourceLocation)
    }

    @Test func lastWordsWithoutAnEndMakeAConnectionDead() async throws {
        let ask = Gate()
        let said = Gate()
        let farewell = Message.errorResponse(
            "57P01", "terminating connection due to administrator command", severity: "FATAL")
        try await withClient(
            [.answer(1), .wait(for: ask), .send(farewell), .open(said), .expectClose], [.answer(2), .expectClose]
        ) { client in
            try await expect(1, client)
            ask.open()
            await said.opened()
            try await expect(2, client)
            #expect(client.statistics.closes == [.lost: 1])
        }
    }

    @Test func whatAServerTellsAnIdleConnectionIsReadAndIsNoEnd() async throws {
        let ask = Gate()
        let said = Gate()
        try await withClient(
            [
                .answer(1), .wait(for: ask),
                .send(.parameterStatus("TimeZone", "Asia/Tokyo"), .noticeResponse("hello")),
                .open(said), .answerAgain(2), .expectClose,
            ]
        ) { client in
            try await expect(1, client)
            ask.open()
            await said.opened()
            try await expect(2, client)
            let zone = try await client.withConnection { $0.parameter("TimeZone") }
            #expect(zone == "Asia/Tokyo")
        }
    }

    @Test func aResetAndTheNextRequestLeaveTogether() async throws {
        let resetAnswer: [Message] =
            ["SET", "RESET", "CLOSE CURSOR ALL", "UNLISTEN", "SELECT 1", "DISCARD SEQUENCES", "DISCARD TEMP"].map {
                .commandComplete($0)
            } + [.readyForQuery()]
        try await withClient(
            // Nothing is answered before all of it is there.
            [
                .answer(1), .expect([.query] + nextExecution),
                .send(resetAnswer + Message.boundReply(rows: [[Int32(2).bytes]])), .expectClose,
            ]
        ) { client in
            try await client.withConnection { db in try await expectNumber(1, db) }
            try await expect(2, client)
            #expect(client.statistics.resets == 1)
        }
    }

    @Test func aResetThatFailsClosesTheConnection() async throws {
        try await withClient(
            [
                .answer(1), .expect([.query] + nextExecution),
                .send(
                    [Message.errorResponse("42501", "not allowed"), .readyForQuery()]
                        + Message.boundReply(rows: [[Int32(2).bytes]])), .expectClose,
            ],
            [.answer(3), .expectClose]
        ) { client in
            try await client.withConnection { db in try await expectNumber(1, db) }
            // The request behind it was on its way: it may have been answered.
            _ = try? await client.query("SELECT 1 AS n", as: Int32.self)
            try await expect(3, client)
            #expect(client.statistics.closes == [.lost: 1])
            #expect(client.statistics.resets == 0)
        }
    }

    @Test func aConnectionThatDoesNotComeIntoOrderInTimeIsClosed() async throws {
        try await withClient(
            [
                .expect(firstExecution),
                .send(Message.reply(columns: [.int4], rows: [[Int32(1).bytes]]).dropLast() + [.readyForQuery("T")]),
                .expect(.query), .expectClose,
            ],
            [.answer(2), .expectClose],
            options: Self.oneConnection { $0.cleanupTimeout = .seconds(5) }
        ) { client in
            try await expect(1, client)
            try await expect(2, client)
            #expect(client.statistics.closes == [.dirty: 1])
        }
    }

    @Test func whoHasGivenAConnectionBackDoesNotKeepIt() async throws {
        // The next one may have had it and be done with it before the one before has returned.
        try await withClient([.expectClose]) { client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<16 {
                    group.addTask { for _ in 0..<1000 { try await client.withConnection { _ in } } }
                }
                try await group.waitForAll()
            }
            #expect(client.statistics.acquires == 16_000)
            #expect(client.statistics.connects == 1)
            #expect(client.statistics.closes.isEmpty)
        }
    }

    // MARK: What is left behind

    private static func committed(_ gate: Gate? = nil) -> Step {
        .steps(
            [.receive(until: .sync)] + (gate.map { [.wait(for: $0)] } ?? [])
                + [.send(SilentServerTests.first("COMMIT") + [.readyForQuery()])])
    }

    /// What the pool asks when something is in flight.
    private static let isAsked = Step.steps([.expect(.query), .send(.emptyQueryResponse, .readyForQuery())])

    @Test func aCursorThatIsLeftDoesNotKeepItsConnection() async throws {
        let returned = Gate()
        try await withClient(
            [
                .expect(.sync), .send(.readyForQuery()), .receive(until: .sync), .send(FarewellTests.opened),
                Self.committed(returned), Self.isAsked, .answer(2), .expectClose,
            ],
            options: Self.oneConnection { $0.reset = .never }
        ) { client in
            try await client.withConnection { db in
                for try await _ in try await db.cursor("SELECT 1 AS n", as: Int32.self, fetching: 3) { break }
            }
            // Its COMMIT was not answered before the connection came back.
            returned.open()
            try await expect(2, client)
            #expect(client.statistics.closes.isEmpty)
        }
    }

    @Test func aCommitOfALeftCursorThatFailsIsFollowedByRollback() async throws {
        let returned = Gate()
        try await withClient(
            [
                .expect(.sync), .send(.readyForQuery()), .receive(until: .sync), .send(FarewellTests.opened),
                .receive(until: .sync), .wait(for: returned),
                .send(
                    .parseComplete, .parameterDescription([]), .noData, .bindComplete,
                    .errorResponse("57014", "canceling statement due to user request"), .readyForQuery("E")),
                .expect(.query), .send(.commandComplete("ROLLBACK"), .readyForQuery()), Self.isAsked, .answer(2),
                .expectClose,
            ],
            options: Self.oneConnection { $0.reset = .never }
        ) { client in
            try await client.withConnection { db in
                for try await _ in try await db.cursor("SELECT 1 AS n", as: Int32.self, fetching: 3) { break }
            }
            returned.open()
            try await expect(2, client)
            #expect(client.statistics.closes.isEmpty)
        }
    }

    @Test func aTaskMadeInATransactionDoesNotKeepItsConnection() async throws {
        let (end, ends) = AsyncStream<Void>.makeStream()
        try await withClient(
            [SilentServerTests.begun, Self.committed(), .answerAgain(2), .expectClose],
            options: Self.oneConnection { $0.reset = .never }
        ) { client in
            let task = try await client.transaction { tx in
                _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one()
                return Task { for await _ in end {} }
            }
            try await expect(2, client)
            #expect(client.statistics.closes.isEmpty)
            ends.finish()
            await task.value
        }
    }

    @Test func aLockWhoseWaitWasCancelledIsGivenBackBeforeThePoolSendsAnything() async throws {
        let locking = Gate()
        let returned = Gate()
        func done(_ name: String) -> Step { .send(Message.reply(columns: [.int4], rows: [[nil]], tag: name)) }
        try await withClient(
            [
                .receive(until: .sync), .open(locking), .wait(for: returned), done("SELECT 1"),
                .receive(until: .sync), done("SELECT 1"), Self.isAsked, .answer(2), .expectClose,
            ],
            options: Self.oneConnection { $0.reset = .never }
        ) { client in
            let task = Task {
                try await client.withConnection { db in
                    do { try await db.withAdvisoryLock(7) { Issue.record("the body ran") } } catch {
                        return db.core.state.withLock { $0.queue.count }
                    }
                    return 0
                }
            }
            await locking.opened()
            task.cancel()
            // It is in the queue already.
            let count = try await task.value
            #expect(count == 2)
            returned.open()
            try await expect(2, client)
            #expect(client.statistics.closes.isEmpty)
        }
    }

    @Test func aFailedTransactionIsRolledBackBeforeTheReset() async throws {
        try await withClient(
            [
                .expect(firstExecution),
                .send([.errorResponse("22012", "division by zero"), .readyForQuery("E")]),
                .expect(.query), .send([.commandComplete("ROLLBACK"), .commandComplete("RESET"), .readyForQuery()]),
                .answer(2), .expectClose,
            ]
        ) { client in
            let error = await failure { try await client.execute("SELECT 1 AS n") }
            #expect(error?.code == .divisionByZero)
            try await expect(2, client)
            #expect(client.statistics.connects == 1)
        }
    }

    @Test func aServerThatIsFullIsAskedAgain() async throws {
        let full: [Step] = [
            .expect(.startup), .send(.errorResponse("53300", "too many clients", severity: "FATAL")),
            .close,
        ]
        let server = try PostgresMockServer(scripts: [full, full, [.acceptTrust(), .answer(1), .expectClose]])
        try await run(server) { client in
            try await expect(1, client)
            #expect(client.statistics.connectFailures == 2)
        }
    }

    @Test func anAttemptThatFailsIsNotRepeatedByEachWaiter() async throws {
        let gate = Gate()
        let server = try PostgresMockServer(
            scripts: [
                [
                    .expect(.startup), .wait(for: gate),
                    .send(.errorResponse("3D000", "no such database", severity: "FATAL")),
                    .close,
                ]
            ])
        try await run(server, Self.oneConnection { $0.maximumConnections = 20 }) { client in
            await withTaskGroup(of: PostgresError?.self) { group in
                for _ in 0..<100 { group.addTask { await failure { try await client.execute("SELECT 1") } } }
                // Who comes later may try again.
                await eventually { client.statistics.waiting == 100 }
                gate.open()
                for await error in group { #expect(error?.code == .invalidCatalogName) }
            }
            #expect(client.statistics.connectFailures == 1)
        }
    }

    @Test func aCallersOwnDeadlineEndsItsWaitWhereverItStands() async throws {
        try await withClient([.answer(1), .expectClose], options: Self.oneConnection { $0.reset = .never }) { client in
            let patient = try await client.withConnection { _ in
                let patient = Task { try await client.query("SELECT 1 AS n", as: Int32.self).one() }
                await eventually { client.statistics.waiting == 1 }
                let error = await failure {
                    try await withPostgresTimeout(.milliseconds(20)) { try await client.execute("SELECT 2") }
                }
                #expect(error?.code == .timedOut)
                #expect(error?.outcome == .notSent)
                #expect(error?.message.contains("the deadline that the caller set") == true)
                #expect(error?.hint?.contains("acquireTimeout") == false)
                #expect(client.statistics.waiting == 1)
                return patient
            }
            #expect(try await patient.value == 1)
        }
    }

    @Test func theTimeoutOfThePoolIsNamed() async throws {
        let asked = Gate()
        // It never answers, so there never is a connection.
        let server = try PostgresMockServer(scripts: [[.expect(.startup), .open(asked), .expectClose]])
        try await run(server, Self.oneConnection { $0.acquireTimeout = .milliseconds(20) }) { client in
            let error = await failure {
                try await withPostgresTimeout(.seconds(50)) { try await client.execute("SELECT 1") }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.message.contains("within the acquireTimeout of 0.02 seconds") == true)
            #expect(error?.hint?.contains("acquireTimeout") == true)
            await asked.opened()
        }
    }

    @Test func whoeverIsHandedADeadConnectionKeepsTheTurn() async throws {
        let ask = Gate()
        let said = Gate()
        let farewell = Message.errorResponse(
            "57P01", "terminating connection due to administrator command", severity: "FATAL")
        try await withClient(
            [.answer(1), .wait(for: ask), .send(farewell), .open(said), .expectClose],
            [.answer(10), .answerAgain(20), .expectClose]
        ) { client in
            let waiters = try await client.withConnection { db in
                try await expectNumber(1, db)
                var waiters: [Task<Int32, any Error>] = []
                for count in 1...2 {
                    waiters.append(Task { try await client.query("SELECT 1 AS n", as: Int32.self).one() })
                    await eventually { client.statistics.waiting == count }
                }
                ask.open()
                await said.opened()
                return waiters
            }
            #expect(try await waiters[0].value == 10)
            #expect(try await waiters[1].value == 20)
            #expect(client.statistics.closes == [.lost: 1])
        }
    }

    @Test func nobodyIsTakenForOneWhoKeepsAConnection() async throws {
        var options = PostgresClient.Options()
        options.reset = .never
        options.minimumConnections = 2
        options.maximumConnections = 2
        let server = try PostgresMockServer(
            scripts: Array(repeating: [.acceptTrust(), .expect(.terminate), .expectClose], count: 2))
        try await run(server, options) { client in
            // From user to user without a pause, while the one before is on its way out.
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<16 {
                    group.addTask { for _ in 0..<500 { try await client.withConnection { _ in } } }
                }
                try await group.waitForAll()
            }
            await eventually { client.statistics.idle == 2 }
            #expect(client.statistics.closes.isEmpty)
        }
    }

    @Test func statementsShareAConnection() async throws {
        let together = Gate()
        try await withClient(
            [
                .answer(1),
                // All four are there before the first is answered.
                .expect(nextExecution + nextExecution + nextExecution + nextExecution), .open(together),
                .send((2...5).flatMap { Message.boundReply(rows: [[Int32($0).bytes]]) }), .expectClose,
            ],
            options: Self.oneConnection { $0.sharedStatements = 4 }
        ) { client in
            try await expect(1, client)
            let sum = try await withThrowingTaskGroup(of: Int32.self) { group in
                for _ in 0..<4 {
                    group.addTask { try await client.query("SELECT 1 AS n", as: Int32.self).one() }
                }
                return try await group.reduce(0, +)
            }
            #expect(sum == 14)
            #expect(together.isOpen)
            #expect(client.statistics.closes.isEmpty)
            #expect(client.statistics.cleaning == 0)
        }
    }

    @Test func whoDropsTheClientClosesItsSessions() async throws {
        let server = try PostgresMockServer(script: [.acceptTrust(), .answer(1), .expect(.terminate), .expectClose])
        do {
            let client = PostgresClient(server.configuration())
            try await expect(1, client)
        }
        try await server.finish()
    }

    /// A client's first request on a connection whose reset fails, and an answer that would be a success.
    private struct Use: Sendable, CustomTestStringConvertible {
        let name: String
        var request: Step
        var answer: [Message]
        let run: @Sendable (PostgresClient) async throws -> Void
        var testDescription: String { name }
    }

    private static let bound = Message.boundReply(rows: [[Int32(2).bytes]])
    private static let number = PostgresQuery("SELECT 1 AS n").as(Int32.self)

    private static let uses: [Use] = [
        Use(name: "a query", request: .expect(nextExecution), answer: bound) { client in
            _ = try await client.query(number)
        },
        Use(name: "a stream", request: .expect(nextExecution), answer: bound) { client in
            for try await number in try await client.stream(number) { Issue.record("a row: \(number)") }
        },
        Use(name: "an isolated pipeline", request: .expect(nextExecution + nextExecution), answer: bound + bound) {
            client in
            _ = try await client.pipeline(number, number).0.one()
        },
        Use(
            name: "an atomic pipeline", request: .receive(until: .sync),
            answer: bound.dropLast() + [.bindComplete, .commandComplete("SELECT 0"), .readyForQuery()]
        ) { client in
            _ = try await client.pipeline(.atomic, number, number).0.one()
        },
        Use(
            name: "a transaction", request: .receive(until: .sync),
            answer: [
                .parseComplete, .parameterDescription([]), .noData, .bindComplete, .commandComplete("BEGIN"),
            ] + bound.dropLast() + [.readyForQuery("T")]
        ) { client in
            try await client.transaction { tx in _ = try await tx.query(number).one() }
        },
        Use(
            name: "a script", request: .expect(.query),
            answer: [.rowDescription([.int4]), .dataRow(["2"]), .commandComplete("SELECT 1"), .readyForQuery()]
        ) { client in
            try await client.withConnection { db in _ = try await db.script("SELECT 2") }
        },
        Use(name: "a COPY in", request: .expect(.query), answer: [.copyInResponse()]) { client in
            try await client.withConnection { db in
                _ = try await db.copy(into: "t") { _ in Issue.record("the COPY has begun") }
            }
        },
        Use(
            name: "a COPY out", request: .expect(.query),
            answer: [.copyOutResponse(), .copyData([10]), .copyDone, .commandComplete("COPY 1"), .readyForQuery()]
        ) { client in
            try await client.withConnection { db in
                for try await bytes in try await db.copy(from: "t") { Issue.record("\(bytes.count) bytes") }
            }
        },
    ]

    /// Together in one piece, and the answer only once the connection may know of the failure.
    @Test(arguments: uses.indices, [true, false])
    func whatCameBehindAResetThatFailedReachesNobody(_ index: Int, _ isTogether: Bool) async throws {
        let use = Self.uses[index]
        let failed: [Message] = [.errorResponse("42501", "not allowed"), .readyForQuery()]
        try await withClient(
            [.answer(1), .expect(.query), use.request]
                + (isTogether ? [.send(failed + use.answer)] : [.send(failed), .send(use.answer)]) + [.expectClose],
            [.answer(3), .expectClose]
        ) { client in
            try await client.withConnection { db in try await expectNumber(1, db) }
            let error = await failure { try await use.run(client) }
            #expect(error?.code == .insufficientPrivilege, "\(use.name)")
            #expect(error?.message.contains("resetting the session failed") == true)
            // It was sent, and the session it ran in is not the one it was meant for.
            #expect(error?.outcome == .unknown)
            try await expect(3, client)
            #expect(client.statistics.closes == [.lost: 1])
            #expect(client.statistics.resets == 0)
        }
    }
}
