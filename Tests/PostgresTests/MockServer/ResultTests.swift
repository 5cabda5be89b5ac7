import PostgresTesting
import PostgresTransport
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresProtocol

/// Results that are no success, and connections that stay usable.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockResultTests {
    static let described: [Message] = [.parseComplete, .parameterDescription([]), .rowDescription([.int4])]

    @Test(arguments: [[1], [2, 3], [4, 1, 5], [1_000_000]])
    func `how the bytes are cut does not matter`(sizes: [Int]) async throws {
        let reply = Message.reply(
            columns: [.int4, .init("t")], rows: (1...50).map { [Int32($0).bytes, Array("row \($0)".utf8)] })
        let server = try PostgresMockServer(script: [
            .expect(.startup), .send(Message.startupComplete(), split: sizes),
            .expect(firstExecution), .send(reply, split: sizes),
        ])
        let db = try await PostgresConnection.connect(server.configuration())
        let rows = try await db.query("SELECT n, t", as: (Int32, String).self).all()
        #expect(rows.map(\.0) == Array(1...50))
        #expect(rows.last?.1 == "row 50")
        db.close()
        try await server.finish()
    }

    @Test func `an error and ReadyForQuery leave the connection usable`() async throws {
        let error = Message.errorResponse("42703", "column \"x\" does not exist", fields: ["P": "8", "t": "users"])
        let steps: [Step] = [.expect(firstExecution), .send(error, .readyForQuery()), .answer(1)]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.number() }
            #expect(error?.code == .undefinedColumn)
            #expect(error?.outcome == .rejected)
            #expect(error?.position == 8)
            #expect(error?.table == "users")
            #expect(error?.sql == "SELECT 1 AS n")
            try await expectNumber(1, db)
        }
    }

    @Test func `an error after some rows gives none of them`() async throws {
        let steps: [Step] = [
            .expect(firstExecution),
            .send(
                Self.described + [.bindComplete, .dataRow([Int32(1).bytes]), .errorResponse("22012"), .readyForQuery()]),
            .answerAgain(2),
        ]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.number() }
            #expect(error?.code == .divisionByZero)
            try await expectNumber(2, db)
        }
    }

    @Test func `an error at Sync after CommandComplete is no success`() async throws {
        let messages: [Message] = [
            .parseComplete, .parameterDescription([]), .noData, .bindComplete, .commandComplete("INSERT 0 1"),
            .errorResponse("23505", "duplicate key", fields: ["n": "t_key"]), .readyForQuery(),
        ]
        try await withMock([.expect(firstExecution), .send(messages), .answer(3)]) { db, _ in
            let error = await failure { try await db.execute("INSERT INTO t VALUES (1)") }
            #expect(error?.code == .uniqueViolation)
            #expect(error?.constraint == "t_key")
            #expect(error?.outcome == .rejected)
            try await expectNumber(3, db)
        }
    }

    @Test func `an error at Sync fails every statement of an atomic pipeline`() async throws {
        let one: [Message] = [
            .parseComplete, .parameterDescription([]), .noData, .bindComplete, .commandComplete("INSERT 0 1"),
        ]
        let messages = one + one + [.errorResponse("23503"), .readyForQuery()]
        try await withMock([.receive(until: .sync), .send(messages)]) { db, _ in
            var pipeline = PostgresPipeline(.atomic)
            pipeline.add("INSERT INTO a VALUES (1)")
            pipeline.add("INSERT INTO b VALUES (1)")
            let results = try await db.run(pipeline)
            #expect(results.errors.compactMap { $0 }.count == 2)
            #expect(results.errors.allSatisfy { $0?.outcome == .aborted || $0?.outcome == .rejected })
        }
    }

    @Test func `an error in the middle of an atomic pipeline aborts the rest`() async throws {
        let good: [Message] = [
            .parseComplete, .parameterDescription([]), .noData, .bindComplete, .commandComplete("INSERT 0 1"),
        ]
        try await withMock([
            .receive(until: .sync), .send(good + [.errorResponse("23505"), .readyForQuery()]), .answer(9),
        ]) { db, _ in
            var pipeline = PostgresPipeline(.atomic)
            pipeline.add("INSERT INTO a VALUES (1)")
            pipeline.add("INSERT INTO b VALUES (1)")
            pipeline.add("INSERT INTO c VALUES (1)")
            let results = try await db.run(pipeline)
            #expect(results.errors.map(\.?.outcome) == [.aborted, .rejected, .aborted])
            #expect(results.errors[1]?.code == .uniqueViolation)
            try await expectNumber(9, db)
        }
    }

    @Test func `asynchronous messages may come between rows`() async throws {
        let messages: [Message] =
            Self.described + [
                .noticeResponse("a"), .bindComplete, .notificationResponse(channel: "c", payload: "p"),
                .dataRow([Int32(1).bytes]), .parameterStatus("TimeZone", "UTC"), .noticeResponse("b"),
                .dataRow([Int32(2).bytes]), .parameterStatus("client_encoding", "UTF8"), .commandComplete("SELECT 2"),
                .noticeResponse("c"), .readyForQuery(), .noticeResponse("d"),
            ]
        try await withMock([.expect(firstExecution), .send(messages), .answerAgain(3)]) { db, _ in
            let rows = try await db.query("SELECT 1 AS n", as: Int32.self).all()
            #expect(rows == [1, 2])
            #expect(db.parameter("TimeZone") == "UTC")
            try await expectNumber(3, db)
        }
    }

    @Test func `a thousand notices and parameters take no room`() async throws {
        let noise = (0..<1000).flatMap { [Message.noticeResponse("n"), .parameterStatus("p\($0)", "v")] }
        let reply = Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])
        try await withMock([.expect(firstExecution), .send(noise + reply)]) { db, _ in
            try await expectNumber(1, db)
            #expect(db.core.state.withLock { $0.parameters.values.count } <= 256)
        }
    }

    // MARK: COPY

    @Test func `COPY FROM STDIN in place of rows is refused, and the connection goes on`() async throws {
        let steps: [Step] = [
            .expect(firstExecution),
            .send(.parseComplete, .parameterDescription([]), .noData, .bindComplete, .copyInResponse()),
            .expect([.copyFail, .sync]), .send(.errorResponse("57014", "COPY from stdin failed"), .readyForQuery()),
            .answer(4),
        ]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.execute("COPY t FROM STDIN") }
            #expect(error?.code == .unsupported)
            #expect(error?.outcome == .rejected)
            try await expectNumber(4, db)
        }
    }

    @Test func `COPY FROM STDIN in a script is refused, and the connection goes on`() async throws {
        let steps: [Step] = [
            .expect(.query), .send(.copyInResponse()), .expect(.copyFail),
            .send(.errorResponse("57014", "COPY from stdin failed"), .readyForQuery()), .answer(4),
        ]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.script("COPY t FROM STDIN") }
            #expect(error?.code == .unsupported)
            try await expectNumber(4, db)
        }
    }

    @Test func `COPY TO STDOUT is read to its end and is an error`() async throws {
        let steps: [Step] = [
            .expect(firstExecution),
            .send(
                .parseComplete, .parameterDescription([]), .noData, .bindComplete, .copyOutResponse(),
                .copyData([1, 2, 3]), .copyData([]), .copyDone, .commandComplete("COPY 2"), .readyForQuery()),
            .answer(5),
        ]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.execute("COPY t TO STDOUT") }
            #expect(error?.code == .unsupported)
            // A COPY of INSERT ... RETURNING has an effect.
            #expect(error?.outcome == .succeeded)
            try await expectNumber(5, db)
        }
    }

    // MARK: Bounds

    @Test func `a result over the bound is an error, and the connection goes on`() async throws {
        let row: [[UInt8]?] = [Array(repeating: UInt8(ascii: "x"), count: 1000)]
        let steps: [Step] = [
            .expect(firstExecution),
            .send(Message.reply(columns: [.init("t")], rows: Array(repeating: row, count: 200))),
            .answer(6),
        ]
        try await withMock(steps) {
            $0.maximumResultBytes = 100_000
        } _: { db, _ in
            let error = await failure { try await db.query("SELECT t", as: String.self) }
            #expect(error?.code == .resultTooLarge)
            #expect(error?.outcome == .succeeded)
            try await expectNumber(6, db)
        }
    }

    // MARK: Values

    @Test func `NULL in a column read as non-optional is a typed error that names it`() async throws {
        let steps: [Step] = [
            .expect(firstExecution), .send(Message.reply(columns: [.int4], rows: [[nil]])), .answerAgain(1),
        ]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.number() }
            #expect(error?.code == .unexpectedNull)
            #expect(error?.message.contains("\"n\"") == true || error?.column == "n")
            try await expectNumber(1, db)
        }
    }

    @Test func `an integer that does not fit is a typed error`() async throws {
        let bytes = withUnsafeBytes(of: Int64(1 << 40).bigEndian, Array.init)
        let steps: [Step] = [
            .expect(firstExecution), .send(Message.reply(columns: [.init("n", type: 20)], rows: [[bytes]])),
            .answerAgain(1),
        ]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.number() }
            #expect(error?.code == .cannotDecode || error?.code == .typeMismatch)
            let next = await failure { try await db.number() }
            #expect(next != nil)
            #expect(!db.isClosed)
        }
    }

    @Test func `a statement with another number of columns than the type is a typed error`() async throws {
        let steps: [Step] = [
            .expect(firstExecution),
            .send(Message.reply(columns: [.int4, .int4], rows: [[Int32(1).bytes, Int32(2).bytes]])),
        ]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.number() }
            #expect(error?.code == .columnCount)
        }
    }

    // MARK: Arguments

    @Test func `65,536 parameters are refused before anything is sent`() async throws {
        try await withMock([.answer(1)]) { db, server in
            let many = Array(repeating: Int32(1), count: 65_536)
            let error = await failure { try await db.execute("SELECT ARRAY[\(list: many)]") }
            #expect(error?.code == .invalidArgument)
            #expect(error?.outcome == .notSent)
            try await expectNumber(1, db)
            #expect(server.messages().map(\.kind) == [.startup] + firstExecution)
        }
    }

    @Test func `a NUL in a text, a name or a parameter is refused before anything is sent`() async throws {
        try await withMock([.answer(1)]) { db, server in
            let queries: [PostgresQuery] = [
                "SELECT '\0'", "SELECT \(unsafeSQL: "'a\0b'")", "SELECT \(identifier: "a\0b")", "SELECT \("a\0b")",
            ]
            for query in queries {
                let error = await failure { try await db.execute(query) }
                #expect(error?.code == .invalidArgument)
                #expect(error?.outcome == .notSent)
            }
            let error = await failure { try await db.script("SELECT \(unsafeSQL: "'a\0b'")") }
            #expect(error?.code == .invalidArgument)
            try await expectNumber(1, db)
            #expect(server.messages().map(\.kind) == [.startup] + firstExecution)
        }
    }

    // MARK: Scripts

    @Test func `a script gives one result a statement`() async throws {
        let steps: [Step] = [
            .expect(.query),
            .send(
                .commandComplete("CREATE TABLE"), .rowDescription([.int4]), .dataRow(["1"]), .dataRow(["2"]),
                .commandComplete("SELECT 2"), .emptyQueryResponse, .readyForQuery()),
        ]
        try await withMock(steps) { db, _ in
            let results = try await db.script("CREATE TABLE t (); SELECT n FROM u")
            #expect(results.count == 2)
            let numbers = try results[1].all().map { row throws(PostgresError) -> Int in try row.decode("n") }
            #expect(numbers == [1, 2])
        }
    }

    @Test func `a script that fails says which statement it was`() async throws {
        let steps: [Step] = [
            .expect(.query),
            .send(.commandComplete("CREATE TABLE"), .errorResponse("42P01", "no such table"), .readyForQuery()),
            .answer(1),
        ]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.script("CREATE TABLE t (); SELECT n FROM u") }
            #expect(error?.code == .undefinedTable)
            #expect(error?.message.contains("statement 2") == true)
            try await expectNumber(1, db)
        }
    }

    @Test(arguments: [
        [Message.dataRow(["1"])], [.bindComplete], [.parseComplete], [.noData],
        [.rowDescription([.int4]), .readyForQuery()],
        [.rowDescription([.int4]), .rowDescription([.int4])], [.rowDescription([.int4]), .dataRow(["1", "2"])],
        [.copyData([1])], [.portalSuspended], [.copyBothResponse()], [.authenticationOk],
    ])
    func `a breach of the simple protocol closes the connection`(messages: [Message]) async throws {
        try await withMock([.expect(.query), .send(messages)]) { db, _ in
            let error = await failure { try await db.script("SELECT 1") }
            #expect(error?.code == .brokenProtocol)
            #expect(db.isClosed)
        }
    }
}
