import Glibc
import PostgresProtocol
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Connecting to what is not a good PostgreSQL server.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockConnectTests {
    private func refusal(
        _ steps: [Step], password: String? = nil, sslmode: PostgresConfiguration.SSLMode = .disable,
        configure: (inout PostgresConfiguration) -> Void = { _ in },
        _ sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> (error: PostgresError?, server: PostgresMockServer) {
        let server = try PostgresMockServer(script: steps)
        let configuration = server.configuration(password: password) {
            $0.sslmode = sslmode
            configure(&$0)
        }
        let error = await failure(sourceLocation) { try await PostgresConnection.connect(configuration) }
        try await server.finish()
        if let error, let password {
            #expect(!error.debugDescription.contains(password), sourceLocation: sourceLocation)
        }
        return (error, server)
    }

    @Test func `a port that nobody listens on is a typed error`() async throws {
        let server = try PostgresMockServer(script: [])
        let configuration = server.configuration()
        await server.stop()
        // The listener closes with the last reference; until then the port is taken and answers to nobody.
        let port = try closedPort()
        var refused = configuration
        refused.port = port
        let error = await failure { try await PostgresConnection.connect(refused) }
        #expect(error?.code == .cannotConnect)
        #expect(error?.outcome == .notSent)
        #expect(error?.description.contains("\(port)") == true)
    }

    @Test func `a socket folder without a socket is a typed error`() async throws {
        let configuration = PostgresConfiguration(host: "/nonexistent", port: 5432, user: "mock")
        let error = await failure { try await PostgresConnection.connect(configuration) }
        #expect(error?.code == .cannotConnect)
    }

    @Test(arguments: [
        "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n", "SSH-2.0-OpenSSH_9.2p1\r\n", "220 mail ESMTP\r\n",
        "J\u{0}\u{0}\u{0}\u{a}8.0.36\u{0}", "-ERR unknown command\r\n",
    ])
    func `another protocol's greeting is told from PostgreSQL`(greeting: String) async throws {
        // Some speak first, the others after what they take for nonsense.
        for steps: [Step] in [
            [.send(bytes: Array(greeting.utf8)), .expect(.startup)],
            [.expect(.startup), .send(bytes: Array(greeting.utf8))],
        ] {
            let (error, _) = try await refusal(steps)
            #expect(error?.code == .brokenProtocol)
            #expect(error?.message.contains("not a PostgreSQL server") == true)
        }
    }

    @Test func `a server that closes at once is a typed error`() async throws {
        let (error, _) = try await refusal([.expect(.startup), .close])
        #expect(error?.code == .connectionLost)
    }

    @Test func `a server that resets the connection is a typed error`() async throws {
        let (error, _) = try await refusal([.expect(.startup), .reset])
        #expect(error?.code == .connectionLost || error?.code == .cannotConnect)
    }

    @Test func `a server that says nothing ends at the deadline`() async throws {
        let (error, _) = try await refusal([.expect(.startup), .expectClose]) { $0.connectTimeout = .milliseconds(50) }
        #expect(error?.code == .timedOut)
    }

    @Test func `the server's own refusal keeps its SQLSTATE`() async throws {
        let (error, _) = try await refusal([
            .expect(.startup),
            .send(.errorResponse("3D000", "database \"mock\" does not exist", severity: "FATAL")), .close,
        ])
        #expect(error?.code == .invalidCatalogName)
        #expect(error?.message.contains("does not exist") == true)
        #expect(error?.outcome == .notSent)
    }

    // MARK: TLS

    @Test(arguments: [[0], Array("R\u{0}\u{0}\u{0}\u{8}\u{0}\u{0}\u{0}\u{0}".utf8), .init(repeating: 65, count: 8192)])
    func `bytes behind the answer S are refused before the handshake`(extra: [UInt8]) async throws {
        let (error, server) = try await refusal([.answerSSLRequest("S", extra: extra)], sslmode: .require)
        #expect(error?.code == .brokenProtocol)
        #expect(server.bytes().count == 8)
    }

    @Test func `an error in answer to SSLRequest shows none of its text`() async throws {
        let text = Message.errorResponse("XX000", "call 555-0100 for help").bytes
        let server = try PostgresMockServer(script: [.expect(.sslRequest), .send(bytes: text)])
        let error = await failure {
            try await PostgresConnection.connect(server.configuration { $0.sslmode = .prefer })
        }
        #expect(error?.code == .tls)
        #expect(error?.debugDescription.contains("555") == false)
        try await server.finish()
        #expect(server.connectionCount == 1)
    }

    @Test(arguments: [PostgresConfiguration.SSLMode.require, .verifyFull])
    func `a server without TLS is refused when it is required`(mode: PostgresConfiguration.SSLMode) async throws {
        let (error, server) = try await refusal([.answerSSLRequest("N")], password: "s3cret-word", sslmode: mode)
        #expect(error?.code == .tls)
        #expect(error?.message.contains(mode.rawValue) == true)
        #expect(server.bytes().count == 8)
    }

    @Test func `a server without TLS is taken when TLS is only preferred`() async throws {
        let server = try PostgresMockServer(script: [.answerSSLRequest("N"), .acceptTrust(), .answer(7)])
        let db = try await PostgresConnection.connect(server.configuration { $0.sslmode = .prefer })
        try await expectNumber(7, db)
        #expect(db.tls == nil)
        db.close()
        try await server.finish()
    }

    @Test func `an answer that is no TLS record is a TLS error`() async throws {
        let steps: [Step] = [.answerSSLRequest("S"), .receiveSome, .send(bytes: Array("HTTP/1.1 400\r\n\r\n".utf8))]
        let server = try PostgresMockServer(script: steps)
        let error = await failure {
            try await PostgresConnection.connect(server.configuration { $0.sslmode = .require })
        }
        #expect(error?.code == .tls)
        await server.stop()
    }

    // MARK: Authentication

    @Test func `no byte of a password is sent in the clear without leave`() async throws {
        let (error, server) = try await refusal(
            [.expect(.startup), .send(.authenticationCleartextPassword)], password: "s3cret-word")
        #expect(error?.code == .authentication)
        #expect(server.messages().map(\.kind) == [.startup])
        let sent = String(decoding: server.bytes(), as: UTF8.self)
        #expect(!sent.contains("s3cret"))
    }

    @Test func `a cleartext password is sent when that is allowed`() async throws {
        let server = try PostgresMockServer(script: [
            .expect(.startup), .send(.authenticationCleartextPassword), .expect(.password),
            .send(Message.startupComplete()),
        ])
        let db = try await PostgresConnection.connect(
            server.configuration(password: "s3cret-word") { $0.allowsCleartextPassword = true })
        db.close()
        try await server.finish()
        #expect(server.messages()[1].strings == ["s3cret-word"])
    }

    @Test(arguments: [
        Message.authenticationCleartextPassword, .authenticationMD5Password(salt: [1, 2, 3, 4]),
        .authenticationSASL(mechanisms: ["SCRAM-SHA-256"]),
    ])
    func `a missing password is told before anything is sent`(request: Message) async throws {
        let (error, server) = try await refusal([.expect(.startup), .send(request)]) {
            $0.allowsCleartextPassword = true
        }
        #expect(error?.code == .authentication)
        #expect(server.messages().map(\.kind) == [.startup])
    }

    @Test func `AuthenticationOk in the middle of SCRAM is refused`() async throws {
        let (error, _) = try await refusal(
            [
                .expect(.startup), .send(.authenticationSASL(mechanisms: ["SCRAM-SHA-256"])), .expect(.password),
                .send(Message.startupComplete()),
            ], password: "s3cret-word")
        #expect(error?.code == .authentication || error?.code == .brokenProtocol)
    }

    @Test(arguments: [
        [Message.readyForQuery()], [.parameterStatus("a", "b")], [.backendKeyData()],
        [.rowDescription([])], [.commandComplete("SELECT 1")],
        [.authenticationOk, .authenticationOk], [.authenticationOk, .authenticationCleartextPassword],
        [.authenticationOk, .backendKeyData(), .backendKeyData()],
        [.authenticationOk, .backendKeyData(secretKey: [1, 2, 3, 4, 5])],
        [.authenticationOk, .dataRow([String?]())], [.authenticationOk, .readyForQuery("?")],
        [.authenticationOk, .parameterStatus("client_encoding", "LATIN1")],
        [.authenticationOk, .negotiateProtocolVersion(newest: 3 << 16)],
        [.negotiateProtocolVersion(newest: 3 << 16 | 2)], [.negotiateProtocolVersion(newest: 4 << 16)],
        [Message(type: "R", length: 0)], [Message(type: "R", length: 3)], [Message(type: "R", length: -1)],
        [Message(type: "R", length: .max)], [Message(type: "R", length: 30_001)],
        [.authenticationOk, Message(type: "S", length: 2)], [.authenticationOk, Message(type: "?", body: [0])],
        [Message(type: "E", length: .max)], [.authentication(99)],
    ])
    func `an illegal message during start-up is a typed error`(messages: [Message]) async throws {
        let (error, _) = try await refusal([.expect(.startup), .send(messages)])
        #expect(error?.code == .brokenProtocol || error?.code == .authentication)
    }

    @Test func `256 reported parameters are the bound at start-up`() async throws {
        let parameters = (0..<300).map { Message.parameterStatus("p\($0)", "v") }
        let (error, _) = try await refusal([.expect(.startup), .send([.authenticationOk] + parameters)])
        #expect(error?.code == .brokenProtocol)
    }

    @Test func `a connection without a cancellation key works`() async throws {
        let server = try PostgresMockServer(script: [
            .expect(.startup), .send(.authenticationOk, .parameterStatus("server_version", "banana"), .readyForQuery()),
            .answer(5),
        ])
        let db = try await PostgresConnection.connect(server.configuration())
        try await expectNumber(5, db)
        #expect(db.backendProcessID == nil)
        #expect(db.parameter("server_version") == "banana")
        db.close()
        try await server.finish()
    }

    @Test func `a process ID beyond Int32 is taken as a bit pattern`() async throws {
        let server = try PostgresMockServer(script: [
            .expect(.startup), .send(.authenticationOk, .backendKeyData(processID: 0xE3F1_0001), .readyForQuery()),
        ])
        let db = try await PostgresConnection.connect(server.configuration())
        #expect(db.backendProcessID == Int32(bitPattern: 0xE3F1_0001))
        db.close()
        try await server.finish()
    }

    @Test func `a failed connect leaves no descriptor open`() async throws {
        let server = try PostgresMockServer(scripts: Array(repeating: [.expect(.startup), .close], count: 20))
        let configuration = server.configuration()
        _ = await failure { try await PostgresConnection.connect(configuration) }
        let before = openSockets(toPort: server.port)
        for _ in 1..<20 { _ = await failure { try await PostgresConnection.connect(configuration) } }
        #expect(before == 0)
        #expect(openSockets(toPort: server.port) == 0)
        try await server.finish()
    }
}

extension Step {
    /// Takes what comes without looking at it: a TLS ClientHello is no message of PostgreSQL's.
    static let receiveSome = Step.expect(bytes: [0x16, 0x03])
}

/// A port of 127.0.0.1 that was free a moment ago.
private func closedPort() throws -> Int {
    let listener = try MockListener(.tcp)
    listener.close()
    return listener.port
}
