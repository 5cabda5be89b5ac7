import PostgresProtocol
import Testing

@testable import Postgres
@testable import PostgresTesting

/// What is peculiar to a connection over TLS.
@Suite(.timeLimit(.minutes(1)))
struct MockTLSTests {
    private let certificate: PostgresTestCertificate

    init() throws { certificate = try PostgresTestCertificate.selfSigned() }

    private func start(_ steps: [Step]) throws -> PostgresMockServer {
        try PostgresMockServer(script: [.acceptTLS(certificate), .acceptTrust()] + steps)
    }

    private func configuration(_ server: PostgresMockServer, callersMayRead: Bool) -> PostgresConfiguration {
        server.configuration {
            $0.sslmode = .require
            $0.callersMayRead = callersMayRead
        }
    }

    private static let text = Message.Column("t", type: 25)

    /// A reply with one long text, and as many replies to the same statement with a short one as are asked for: so many bytes
    /// more than the receive buffer of a new connection takes that they end in what the TLS engine still holds. The first hundred
    /// bytes come in a record of their own, the rest in one, which the client decrypts in two steps; then the socket is silent.
    private static func send(repliesAfterTheFirst count: Int) -> (step: Step, length: Int) {
        var buffer = ReceiveBuffer()
        let capacity = buffer.space().count
        let others = (0..<count).flatMap { _ in Message.boundReply(rows: [[[UInt8(ascii: "y")]]]) }.flatMap(\.bytes)
        func bytes(_ length: Int) -> [UInt8] {
            let row = [UInt8](repeating: UInt8(ascii: "x"), count: length)
            return Message.reply(columns: [text], rows: [[row]]).flatMap(\.bytes) + others
        }
        let length = capacity + 3 - bytes(0).count
        let all = bytes(length)
        return (.steps([.send(bytes: Array(all[..<100])), .send(bytes: Array(all[100...]))]), length)
    }

    private static let statement: PostgresQuery = "SELECT t FROM texts"

    @Test(arguments: [true, false])
    func `one reply in more bytes than the buffer takes at once`(callersMayRead: Bool) async throws {
        let (send, length) = Self.send(repliesAfterTheFirst: 0)
        let server = try start([.expect(firstExecution), send, .expect(.terminate), .expectClose])
        let db = try await PostgresConnection.connect(configuration(server, callersMayRead: callersMayRead))
        let text = try await db.query(Self.statement, as: String.self).one()
        #expect(text.utf8.count == length)
        db.close()
        try await server.finish()
    }

    @Test func `one reply in more bytes than the buffer takes at once, read by a thread that waits without bound`()
        async throws
    {
        let (send, length) = Self.send(repliesAfterTheFirst: 0)
        let server = try start([.expect(firstExecution), send])
        let configuration = configuration(server, callersMayRead: true)
        let text = try await onOwnThread { () throws(PostgresError) in
            let db = try PostgresBlockingConnection.connect(configuration)
            defer { db.close() }
            return try db.query(Self.statement, as: String.self).one()
        }
        #expect(text.utf8.count == length)
        try await server.finish()
    }

    @Test func `a reply at hand in the engine, when its reader leaves with the one before, is read by the loop`()
        async throws
    {
        let isReading = Gate()
        let (send, length) = Self.send(repliesAfterTheFirst: 1)
        let server = try start([.expect(firstExecution), .open(isReading), .expect(nextExecution), send])
        let configuration = configuration(server, callersMayRead: true)
        let db = try await onOwnThread { () throws(PostgresError) in
            try PostgresBlockingConnection.connect(configuration)
        }
        // This thread reads, for it was alone.
        async let first = onOwnThread { () throws(PostgresError) in try db.query(Self.statement, as: String.self).one()
        }
        await isReading.opened()
        async let second = onOwnThread { () throws(PostgresError) in try db.query(Self.statement, as: String.self).one()
        }
        let texts = try await (first, second)
        #expect(texts.0.utf8.count == length)
        #expect(texts.1 == "y")
        db.close()
        try await server.finish()
    }

    @Test func `records that come byte by byte are put together`() async throws {
        let server = try start([
            .expect(firstExecution), .send(Message.reply(columns: [.int4], rows: [[Int32(7).bytes]]), split: [1]),
        ])
        let db = try await PostgresConnection.connect(configuration(server, callersMayRead: true))
        try await expectNumber(7, db)
        db.close()
        try await server.finish()
    }

    @Test(arguments: [true, false])
    func `close sends Terminate behind the statements in flight, and close_notify`(callersMayRead: Bool) async throws {
        let received = Gate()
        let server = try start([
            .expect(firstExecution), .expect(nextExecution), .open(received), .expect(.terminate), .expectClose,
        ])
        let db = try await PostgresConnection.connect(configuration(server, callersMayRead: callersMayRead))
        await withTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<2 { group.addTask { await failure { try await db.number() } } }
            await received.opened()
            db.close()
            for await error in group {
                #expect(error?.code == .connectionClosed)
                #expect(error?.outcome == .unknown)
            }
        }
        try await server.finish()
    }
}
