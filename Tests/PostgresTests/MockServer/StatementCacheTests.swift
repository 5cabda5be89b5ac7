import Synchronization
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Prepared statements that the server refuses, loses, or that are pushed out.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockStatementCacheTests {
    /// What the extended protocol's answer to a group is when its Parse fails; without a Parse the statement does not exist.
    private static func refuse(_ sqlState: String) -> @Sendable ([FrontendMessage]) -> [Step] {
        { group in
            let parses = group.contains { $0.kind == .parse }
            return [.send(.errorResponse(parses ? sqlState : "26000"), .readyForQuery())]
        }
    }

    @Test func `all who wait for a statement whose Parse fails get the Parse's error`() async throws {
        let gate = Gate()
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .wait(for: gate), .serve(Self.refuse("42601")),
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = false })
        await withTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<20 { group.addTask { await failure { try await db.number() } } }
            gate.open()
            for await error in group {
                #expect(error?.code == .syntaxError)
                #expect(error?.outcome == .rejected)
            }
        }
        db.close()
        try await server.finish()
    }

    @Test func `a statement that the server lost is prepared anew, once`() async throws {
        let steps: [Step] = [
            .answer(1), .expect(nextExecution), .send(.errorResponse("26000"), .readyForQuery()), .answer(2),
            .answer(3),
            .answerAgain(4),
        ]
        try await withMock(steps) { db, server in
            try await expectNumber(1, db)
            try await expectNumber(2, db)
            // The repeated one had no name; the next takes a new one.
            try await expectNumber(3, db)
            try await expectNumber(4, db)
            let names = server.messages().filter { $0.kind == .parse }.map { $0.strings[0] }
            #expect(names == ["s1", "", "s2"])
        }
    }

    @Test func `a plan that no longer fits is made anew, once, and its statement closed`() async throws {
        let stale = Message.errorResponse(
            "0A000", "cached plan must not change result type", fields: ["R": "RevalidateCachedQuery"])
        let steps: [Step] = [
            .answer(1), .expect(nextExecution), .send(stale, .readyForQuery()),
            // The unnamed one, with the Close of the old one before it.
            .expect([.close, .parse, .describe, .bind, .execute, .sync]),
            .send([.closeComplete] + Message.reply(columns: [.int4], rows: [[Int32(2).bytes]])),
            .answer(3),
        ]
        try await withMock(steps) { db, server in
            try await expectNumber(1, db)
            try await expectNumber(2, db)
            try await expectNumber(3, db)
            #expect(server.messages().first { $0.kind == .close }?.strings == ["s1"])
        }
    }

    @Test func `a feature that is not supported is not tried again`() async throws {
        let steps: [Step] = [
            .answer(1), .expect(nextExecution),
            .send(.errorResponse("0A000", fields: ["R": "exec_x"]), .readyForQuery()),
        ]
        try await withMock(steps) { db, _ in
            try await expectNumber(1, db)
            let error = await failure { try await db.number() }
            #expect(error?.code == .featureNotSupported)
        }
    }

    @Test func `what fails a second time is not tried a third time`() async throws {
        let lost: [Message] = [.errorResponse("26000"), .readyForQuery()]
        let steps: [Step] = [.answer(1), .expect(nextExecution), .send(lost), .expect(firstExecution), .send(lost)]
        try await withMock(steps) { db, _ in
            try await expectNumber(1, db)
            let error = await failure { try await db.number() }
            #expect(error?.code == .invalidSqlStatementName)
        }
    }

    @Test(arguments: ["26000", "0A000"])
    func `inside a transaction nothing is tried again`(sqlState: String) async throws {
        let error = Message.errorResponse(sqlState, fields: ["R": "RevalidateCachedQuery"])
        let steps: [Step] = [.answer(1), .expect(nextExecution), .send(error, .readyForQuery("E"))]
        try await withMock(steps) { db, _ in
            try await expectNumber(1, db)
            let error = await failure { try await db.number() }
            #expect(error?.code.rawValue == sqlState)
        }
    }

    @Test func `a string whose type the server cannot infer is sent as text`() async throws {
        let steps: [Step] = [
            .expect(firstExecution), .send(.errorResponse("42P18"), .readyForQuery()),
            .answerQuery(parameters: [25], columns: [.init("t")], rows: [[Array("a".utf8)]]),
            .expect(nextExecution), .send(Message.boundReply(rows: [[Array("b".utf8)]])),
        ]
        try await withMock(steps) { db, server in
            for text in ["a", "b"] {
                let found = try await db.query("SELECT \(text) AS t", as: String.self).one()
                #expect(found == text)
            }
            let parses = server.messages().filter { $0.kind == .parse }.map { Array($0.body.suffix(6)) }
            #expect(parses == [[0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 25]])
        }
    }

    @Test func `without a string parameter 42P18 is the caller's`() async throws {
        let steps: [Step] = [.expect(firstExecution), .send(.errorResponse("42P18"), .readyForQuery())]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.number() }
            #expect(error?.code == .indeterminateDatatype)
        }
    }

    @Test func `the statement used longest ago is closed with the next Parse`() async throws {
        let answer = Step.serve { group in
            let closes = group.filter { $0.kind == .close }.map { _ in Message.closeComplete }
            let reply =
                group.contains { $0.kind == .parse }
                ? Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])
                : Message.boundReply(rows: [[Int32(1).bytes]])
            return [.send(closes + reply)]
        }
        try await withMock([answer]) {
            $0.statementCacheCapacity = 2
        } _: { db, server in
            let (a, b, c): (PostgresQuery, PostgresQuery, PostgresQuery) = ("SELECT 'a'", "SELECT 'b'", "SELECT 'c'")
            for query in [a, b, a, c, a, b] { try await db.execute(query) }
            #expect(server.messages().filter { $0.kind == .close }.map(\.strings) == [["s2"], ["s3"]])
            #expect(server.messages().filter { $0.kind == .parse }.map { $0.strings[0] } == ["s1", "s2", "s3", "s4"])
        }
    }

    @Test func `a statement that cannot be bound leaves nothing behind`() async throws {
        let answer = Step.serve { group in
            let closes = group.filter { $0.kind == .close }.map { _ in Message.closeComplete }
            return [.send(closes + Message.reply(columns: [.int4], rows: [[Int32(1).bytes]]))]
        }
        try await withMock([answer]) {
            $0.statementCacheCapacity = 1
        } _: { db, server in
            try await db.execute("SELECT 'a'")
            let many = Array(repeating: Int32(1), count: 65_536)
            let error = await failure { try await db.execute("SELECT ARRAY[\(list: many)]") }
            #expect(error?.code == .invalidArgument)
            try await db.execute("SELECT 'b'")
            // The eviction that the failed one caused is not forgotten.
            #expect(server.messages().filter { $0.kind == .close }.map(\.strings) == [["s1"]])
        }
    }

    @Test func `without a cache every execution parses under no name`() async throws {
        try await withMock([.answer(1), .answer(2)]) {
            $0.statementCacheCapacity = 0
        } _: { db, server in
            try await expectNumber(1, db)
            try await expectNumber(2, db)
            #expect(server.messages().filter { $0.kind == .parse }.map { $0.strings[0] } == ["", ""])
        }
    }

    @Test func `preparing ahead of use sends no second Parse`() async throws {
        let steps: [Step] = [
            .expect([.parse, .describe, .sync]),
            .send(.parseComplete, .parameterDescription([]), .rowDescription([.int4]), .readyForQuery()),
            .answerAgain(1),
        ]
        try await withMock(steps) { db, _ in
            let statement = try await db.prepare("SELECT 1 AS n")
            #expect(statement.columns.map(\.name) == ["n"])
            try await expectNumber(1, db)
        }
    }

    @Test func `a Parse that fails when preparing is its error`() async throws {
        let steps: [Step] = [
            .expect([.parse, .describe, .sync]), .send(.errorResponse("42601"), .readyForQuery()), .answer(1),
        ]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.prepare("SELECT 1 AS n") }
            #expect(error?.code == .syntaxError)
            try await expectNumber(1, db)
        }
    }
}
