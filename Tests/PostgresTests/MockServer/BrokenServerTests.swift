import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// A server that breaks the protocol while a query runs: a typed error, and a connection that is closed for good.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockBrokenServerTests {
    /// A way to break the protocol, by the messages sent in answer to a first execution of a query with one int4 column.
    struct Breach: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let messages: [Message]

        init(_ name: String, _ messages: [Message]) {
            testDescription = name
            self.messages = messages
        }

        init(_ name: String, rows messages: Message...) {
            self.init(name, Breach.described + [.bindComplete] + messages)
        }

        static let described: [Message] = [.parseComplete, .parameterDescription([]), .rowDescription([.int4])]
    }

    static let breaches: [Breach] = [
        Breach("length 0", rows: Message(type: "D", length: 0)),
        Breach("length 1", rows: Message(type: "D", length: 1)),
        Breach("length 2", rows: Message(type: "D", length: 2)),
        Breach("length 3", rows: Message(type: "C", length: 3)),
        Breach("length -1", rows: Message(type: "D", length: -1)),
        Breach("the smallest length", rows: Message(type: "Z", length: .min)),
        Breach("length 2^31-1", rows: Message(type: "D", length: .max)),
        Breach("a long CommandComplete", rows: Message(type: "C", length: 30_001)),
        Breach("a long ReadyForQuery", [.parseComplete, Message(type: "Z", length: 0x00FF_FFFF)]),
        Breach("an unknown type", rows: Message(type: "?", body: [1, 2, 3])),
        Breach("an unknown type with a body that never comes", rows: Message(type: "!", length: 1_000_000)),
        Breach("type 0", rows: Message(bytes: [0, 0, 0, 0, 4])),
        Breach("a frontend's message", rows: Message(type: "Q", body: Array("SELECT 1\0".utf8))),
        Breach("a row before its description", [.parseComplete, .parameterDescription([]), .dataRow([[0, 0, 0, 1]])]),
        Breach("a row before BindComplete", Breach.described + [.dataRow([[0, 0, 0, 1]])]),
        Breach(
            "a row of a statement without rows",
            [.parseComplete, .parameterDescription([]), .noData, .bindComplete, .dataRow([[0, 0, 0, 1]])]),
        Breach("two descriptions", Breach.described + [.rowDescription([.int4])]),
        Breach("a description without ParameterDescription", [.parseComplete, .rowDescription([.int4])]),
        Breach("CommandComplete without BindComplete", Breach.described + [.commandComplete("SELECT 0")]),
        Breach("CommandComplete twice", rows: .commandComplete("SELECT 0"), .commandComplete("SELECT 0")),
        Breach("BindComplete twice", rows: .bindComplete),
        Breach("ParseComplete twice", [.parseComplete, .parseComplete]),
        Breach("CloseComplete without Close", [.closeComplete]),
        Breach("too few columns", rows: .dataRow([[UInt8]?]())),
        Breach("too many columns", rows: .dataRow([[0, 0, 0, 1], [0, 0, 0, 2]])),
        Breach("65,535 columns in 8 bytes", rows: Message(type: "D", body: [0xFF, 0xFF, 0, 0, 0, 0, 0, 0])),
        Breach(
            "65,535 described columns in 8 bytes",
            [.parseComplete, .parameterDescription([]), Message(type: "T", body: [0xFF, 0xFF, 0, 0, 0, 0, 0, 0])]),
        Breach("field length -2", rows: Message(type: "D", body: [0, 1, 0xFF, 0xFF, 0xFF, 0xFE])),
        Breach("the smallest field length", rows: Message(type: "D", body: [0, 1, 0x80, 0, 0, 0])),
        Breach("a field beyond the message", rows: Message(type: "D", body: [0, 1, 0, 0, 0, 9, 1])),
        Breach("bytes behind the last field", rows: Message(type: "D", body: [0, 1, 0, 0, 0, 1, 1, 1])),
        Breach("a row of no bytes", rows: Message(type: "D")),
        Breach("a tag without its end", rows: Message(type: "C", body: Array("SELECT 1".utf8))),
        Breach("an empty CommandComplete", rows: Message(type: "C")),
        Breach("a body of BindComplete", Breach.described + [Message(type: "2", body: [0])]),
        Breach("a body of ParseComplete", [Message(type: "1", body: [0])]),
        Breach("ReadyForQuery with a status of ?", rows: .commandComplete("SELECT 0"), .readyForQuery("?")),
        Breach("ReadyForQuery without a status", rows: .commandComplete("SELECT 0"), Message(type: "Z")),
        Breach("ReadyForQuery in place of the reply", [.readyForQuery()]),
        Breach("ReadyForQuery before CommandComplete", rows: .readyForQuery()),
        Breach("a truncated reply", [.parseComplete, .readyForQuery()]),
        Breach("ReadyForQuery in place of rows' end", rows: .dataRow([[0, 0, 0, 1]]), .readyForQuery()),
        Breach(
            "PortalSuspended, which was not asked for", rows: .dataRow([[0, 0, 0, 1]]), .portalSuspended,
            .readyForQuery()),
        Breach("CopyInResponse before BindComplete", [.copyInResponse()]),
        Breach("CopyBothResponse", rows: .copyBothResponse()),
        Breach("CopyData without COPY", rows: .copyData([1])),
        Breach("CopyDone without COPY", rows: .copyDone),
        Breach("a function's result", rows: .functionCallResponse(nil)),
        Breach("NegotiateProtocolVersion", [.negotiateProtocolVersion(newest: 3 << 16)]),
        Breach("a second key", rows: .backendKeyData()),
        Breach("AuthenticationOk", [.authenticationOk]),
        Breach("a request for a password", rows: .authenticationCleartextPassword),
        Breach("EmptyQueryResponse behind a row's end", rows: .commandComplete("SELECT 0"), .emptyQueryResponse),
        Breach("two errors", [.errorResponse("42601"), .errorResponse("42601")]),
        Breach("CommandComplete behind an error", [.errorResponse("42601"), .commandComplete("SELECT 0")]),
        Breach("an error without its end", [Message(type: "E", body: Array("SERROR\0C42601\0".utf8))]),
        Breach("a parameter's name without an end", [Message(type: "S", body: [65])]),
        Breach("a notification without its end", [Message(type: "A", body: [0, 0, 0, 1, 65, 0])]),
        Breach("client_encoding changed", rows: .parameterStatus("client_encoding", "SQL_ASCII")),
        Breach(
            "a column name that is no UTF-8",
            [
                .parseComplete, .parameterDescription([]),
                Message(type: "T", body: [0, 1, 0xFF, 0] + Array(repeating: 0, count: 18)),
            ]),
    ]

    @Test(arguments: breaches)
    func `a breach of the protocol closes the connection`(breach: Breach) async throws {
        for split in [[1_000_000], [1], [3, 1, 7]] {
            try await withMock(
                [.expect(firstExecution), .send(breach.messages, split: split)], mayEndEarly: true
            ) { db, _ in
                let error = await failure { try await db.number() }
                #expect(error?.code == .brokenProtocol)
                #expect(error?.outcome == .unknown)
                #expect(db.isClosed)
                let next = await failure { try await db.number() }
                #expect(next?.outcome == .notSent)
                #expect(next?.code == .brokenProtocol)
            }
        }
    }

    @Test(arguments: breaches)
    func `a breach of the protocol fails the requests behind it as well`(breach: Breach) async throws {
        let gate = Gate()
        let steps: [Step] = [.receive(until: .sync), .wait(for: gate), .send(breach.messages), .close]
        let server = try PostgresMockServer(script: [.acceptTrust()] + steps)
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = false })
        await withTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<5 { group.addTask { await failure { try await db.number() } } }
            gate.open()
            for await error in group {
                #expect(error?.code == .brokenProtocol || error?.code == .connectionLost)
            }
        }
        #expect(db.isClosed)
        await server.stop()
    }

    @Test(arguments: [[Message.readyForQuery()], [.commandComplete("SELECT 1")], [.dataRow([[0, 0, 0, 1]])]])
    func `a message that nobody asked for is no reply to the next query`(unasked: [Message]) async throws {
        // Behind the reply, in the same piece: the reply itself is good.
        let reply = Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .expect(firstExecution), .send(reply + unasked), .receive(until: .terminate),
        ])
        let db = try await PostgresConnection.connect(server.configuration())
        if let number = try? await db.number() { #expect(number == 1) }
        let error = await failure { try await db.number() }
        #expect(error?.code == .brokenProtocol)
        #expect(db.isClosed)
        await server.stop()
    }

    @Test func `a message over the configured bound is refused by its header`() async throws {
        let steps: [Step] = [
            .expect(firstExecution), .send(Breach.described + [.bindComplete, Message(type: "D", length: 100_001)]),
        ]
        try await withMock(steps) {
            $0.maximumMessageBytes = 100_000
        } _: { db, _ in
            let error = await failure { try await db.number() }
            #expect(error?.code == .resultTooLarge)
            #expect(error?.message.contains("100000") == true)
        }
    }

    @Test func `a row at the configured bound is taken`() async throws {
        let text = [UInt8](repeating: UInt8(ascii: "x"), count: 100_000 - 10)
        let steps: [Step] = [
            .expect(firstExecution), .send(Message.reply(columns: [.init("t")], rows: [[text]])),
        ]
        try await withMock(steps) {
            $0.maximumMessageBytes = 100_000
        } _: { db, _ in
            let value = try await db.query("SELECT t", as: String.self).one()
            #expect(value.utf8.count == text.count)
        }
    }

    /// The loop reads: it learns what may come only from the request, which it turns to at the header.
    @Test(arguments: [Int32(1_000_000), 0x3FFF_FFF0], [true, false])
    func `a first message that cannot be legal is not waited for`(length: Int32, callersMayRead: Bool) async throws {
        let header = Message(type: "D", body: Array(repeating: 0, count: 10), length: length)
        try await withMock([.expect(firstExecution), .send([header]), .expectClose], mayEndEarly: true) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            let error = await failure { try await db.number() }
            #expect(error?.code == .brokenProtocol)
            #expect(error?.outcome == .unknown)
            #expect(db.isClosed)
        }
    }

    @Test func `a gigabyte that is announced and does not come costs no memory`() async throws {
        let header = Message(type: "D", body: Array(repeating: 0, count: 10), length: 0x3FFF_FFF0)
        let steps: [Step] = [.expect(firstExecution), .send(Breach.described + [.bindComplete, header]), .close]
        try await withMock(steps) { db, _ in
            let error = await failure { try await db.number() }
            #expect(error?.code == .connectionLost)
            #expect(error?.outcome == .unknown)
        }
    }
}
