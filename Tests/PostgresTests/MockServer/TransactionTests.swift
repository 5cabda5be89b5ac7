import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Ends of transactions that a real server seldom has.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockTransactionTests {
    /// The answers to a statement without rows, and to the one of `number()`, on their first execution and without Sync.
    private static func first(_ tag: String) -> [Message] {
        [.parseComplete, .parameterDescription([]), .noData, .bindComplete, .commandComplete(tag)]
    }

    private static let firstNumber: [Message] = [
        .parseComplete, .parameterDescription([]), .rowDescription([.int4]), .bindComplete,
        .dataRow([Int32(1).bytes]), .commandComplete("SELECT 1"),
    ]

    /// BEGIN and a statement.
    private static let begun = Step.steps([
        .receive(until: .sync), .send(first("BEGIN") + firstNumber + [.readyForQuery("T")]),
    ])

    private static let rolledBack = Step.steps([
        .expect(.query), .send(.commandComplete("ROLLBACK"), .readyForQuery("I")),
    ])

    enum Loss: Sendable, CaseIterable {
        case close, reset, halfAnswer

        var steps: [Step] {
            switch self {
            case .close: [.close]
            case .reset: [.reset]
            case .halfAnswer: [.send(Array(MockTransactionTests.first("COMMIT").dropLast())), .close]
            }
        }
    }

    @Test(arguments: Loss.allCases, [true, false])
    func `a connection lost behind COMMIT leaves the outcome unknown and retries nothing`(
        loss: Loss, callersMayRead: Bool
    ) async throws {
        let configure: (inout PostgresConfiguration) -> Void = { $0.callersMayRead = callersMayRead }
        try await withMock([Self.begun, .receive(until: .sync)] + loss.steps, configure: configure) { db, _ in
            var runs = 0
            let error = await failure {
                try await db.transaction(retry: .upTo(5)) { tx in
                    runs += 1
                    _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one()
                }
            }
            #expect(error?.code == .connectionLost)
            #expect(error?.outcome == .unknown)
            #expect(error?.message.contains("COMMIT") == true)
            #expect(runs == 1)
            #expect(db.isClosed)
        }
    }

    @Test func `the tag of COMMIT is its acknowledgement`() async throws {
        try await withMock([Self.begun, .receive(until: .sync), .send(Self.first("COMMIT")), .close]) { db, _ in
            let number = try await db.transaction { tx in
                try await tx.query("SELECT 1 AS n", as: Int32.self).one()
            }
            #expect(number == 1)
        }
    }

    @Test func `a connection lost in one flight with COMMIT leaves all of it unknown`() async throws {
        for sync in [PostgresPipeline.Sync.atomic, .savepoints] {
            try await withMock([.receive(until: .sync), .close]) { db, _ in
                var pipeline = PostgresPipeline(sync)
                for _ in 0..<2 { pipeline.add("SELECT 1 AS n") }
                let toSend = pipeline
                let error = await failure { try await db.transaction(toSend, retry: .upTo(5)) }
                #expect(error?.code == .connectionLost)
                #expect(error?.outcome == .unknown)
            }
        }
        try await withMock([.receive(until: .sync), .close]) { db, _ in
            var pipeline = PostgresPipeline(.savepoints)
            for _ in 0..<2 { pipeline.add("SELECT 1 AS n") }
            let results = try await db.run(pipeline)
            #expect(results.errors.map { $0?.outcome } == [.unknown, .unknown])
        }
    }

    @Test func `a COMMIT that is answered by ROLLBACK is an error`() async throws {
        try await withMock(
            [
                Self.begun, .receive(until: .sync), .send(Self.first("ROLLBACK") + [.readyForQuery("I")]),
                .answerAgain(2),
            ]
        ) { db, _ in
            let error = await failure {
                try await db.transaction(retry: .upTo(5)) { tx in
                    _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one()
                }
            }
            #expect(error?.code == .inFailedSqlTransaction)
            #expect(error?.outcome == .aborted)
            // The lease has ended, and the connection goes on.
            try await expectNumber(2, db)
        }
    }

    @Test func `a COMMIT on its way is waited for though its task is cancelled`() async throws {
        let gate = Gate()
        let received = Gate()
        try await withMock([
            Self.begun, .receive(until: .sync), .open(received), .wait(for: gate),
            .send(Self.first("COMMIT") + [.readyForQuery("I")]),
        ]) { db, _ in
            let task = Task {
                try await db.transaction { tx in try await tx.query("SELECT 1 AS n", as: Int32.self).one() }
            }
            await received.opened()
            task.cancel()
            gate.open()
            let number = try await task.value
            #expect(number == 1)
        }
    }

    @Test func `a BEGIN that is refused lets nothing run`() async throws {
        try await withMock([
            .receive(until: .sync), .send(.errorResponse("0A000", "no transactions today"), .readyForQuery("I")),
            .answer(2),
        ]) { db, server in
            let error = await failure {
                try await db.transaction { tx in
                    let refused = await failure { try await tx.query("SELECT 1 AS n", as: Int32.self) }
                    #expect(refused?.code == .featureNotSupported || refused?.code == .inFailedSqlTransaction)
                    let next = await failure { try await tx.execute("SELECT 2") }
                    #expect(next?.code == .inFailedSqlTransaction)
                    #expect(next?.outcome == .notSent)
                }
            }
            #expect(error?.code == .featureNotSupported)
            try await expectNumber(2, db)
            #expect(server.messages().filter { $0.kind == .query }.isEmpty)
        }
    }

    @Test(arguments: ["40001", "40P01"])
    func `a body is run again after ROLLBACK was answered`(sqlState: String) async throws {
        let refused: [Message] = [.errorResponse(sqlState, "try again"), .readyForQuery("E")]
        try await withMock([
            .receive(until: .sync), .send(Self.first("BEGIN") + refused), Self.rolledBack,
            .receive(until: .sync), .send([.bindComplete, .commandComplete("BEGIN")] + refused), Self.rolledBack,
            .receive(until: .sync),
            .send([.bindComplete, .commandComplete("BEGIN")] + Self.firstNumber + [.readyForQuery("T")]),
            .receive(until: .sync), .send(Self.first("COMMIT") + [.readyForQuery("I")]),
        ]) { db, _ in
            var runs = 0
            let number = try await db.transaction(retry: .upTo(5, base: .zero)) { tx in
                runs += 1
                return try await tx.query("SELECT 1 AS n", as: Int32.self).one()
            }
            #expect(number == 1)
            #expect(runs == 3)
        }
    }

    @Test func `a ROLLBACK that fails closes the connection`() async throws {
        struct Own: Error {}
        for steps in [
            [Step.expect(.query), .send(.errorResponse("XX000", "cannot"), .readyForQuery("E")), .expectClose],
            [.expect(.query), .close],
        ] {
            try await withMock([Self.begun] + steps) { db, _ in
                await #expect(throws: Own.self) {
                    try await db.transaction(retry: .upTo(5)) { tx in
                        _ = try await tx.query("SELECT 1 AS n", as: Int32.self)
                        throw Own()
                    }
                }
                #expect(db.isClosed)
            }
        }
    }
}

struct TransactionRetryTests {
    @Test(arguments: [
        (2, 10), (3, 20), (4, 40), (5, 50), (6, 50), (60, 50), (Int.max, 50),
    ])
    func `a pause is random below a bound that doubles up to the cap`(attempt: Int, milliseconds: Int) {
        let retry = PostgresTransaction.Retry.upTo(9, base: .milliseconds(10), cap: .milliseconds(50))
        var generator = SystemRandomNumberGenerator()
        let pauses = (0..<300).map { _ in retry.pause(beforeAttempt: attempt, using: &generator) }
        #expect(pauses.allSatisfy { $0 >= .zero && $0 <= .milliseconds(milliseconds) })
        #expect(pauses.contains { $0 > .milliseconds(milliseconds) / 2 })
        #expect(pauses.contains { $0 < .milliseconds(milliseconds) / 2 })
    }

    @Test func `the largest durations do not overflow`() {
        let retry = PostgresTransaction.Retry.upTo(.max, base: .seconds(Int64.max), cap: .seconds(Int64.max))
        var generator = SystemRandomNumberGenerator()
        #expect(retry.pause(beforeAttempt: .max, using: &generator) <= .seconds(3600))
    }
}
