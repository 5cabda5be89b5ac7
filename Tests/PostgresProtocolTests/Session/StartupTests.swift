import Testing

@testable import PostgresProtocol

/// A startup machine and what it would have sent, fed with a server's bytes in pieces of any size.
final class StartupDialogue {
    var startup: Startup
    var writer = ByteWriter()
    var pieceSize = Int.max
    private(set) var notices: [String] = []
    private(set) var session: ServerSession?
    private var pending: [UInt8] = []

    init(_ options: Startup.Options) throws(StartupError) {
        startup = Startup(options)
        try startup.begin(into: &writer)
    }

    /// What was sent since the last call.
    func sent() -> [UInt8] {
        let bytes = writer.written
        writer.removeAll()
        return bytes
    }

    /// Feeds the server's bytes; derivations are run at once.
    func receive(_ bytes: [UInt8]) throws(StartupError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            pending += rest.prefix(pieceSize)
            rest = rest.dropFirst(pieceSize)
            while let message = try nextMessage() { try take(message) }
        }
    }

    private func nextMessage() throws(StartupError) -> [UInt8]? {
        let copy = pending
        let outcome = copy.withUnsafeBytes { bytes in
            Result { () throws(StartupError) in try startup.frame(bytes) }
        }
        guard let size = try outcome.get(), size <= copy.count else { return nil }
        pending.removeFirst(size)
        return Array(copy[..<size])
    }

    private func take(_ message: [UInt8]) throws(StartupError) {
        let body = Array(message[5...])
        let outcome = body.withUnsafeBytes { bytes in
            Result { () throws(StartupError) in try startup.receive(tag: message[0], body: bytes, into: &writer) }
        }
        switch try outcome.get() {
        case .needMore, .send: break
        case .notice(let report): notices.append(report.message)
        case .ready(let session): self.session = session
        case .derive(let derivation):
            let saltedPassword: SCRAM.SaltedPassword
            do { saltedPassword = try derivation.run() } catch { throw .scram(error) }
            try self.startup.provide(saltedPassword, into: &writer)
        }
    }
}

/// The server's side of the wire.
enum Server {
    static func message(_ tag: Character, _ body: [UInt8]) -> [UInt8] {
        let length = UInt32(body.count + 4)
        return [tag.asciiValue ?? 0] + (0..<4).map { UInt8(truncatingIfNeeded: length >> UInt32(24 - 8 * $0)) } + body
    }

    static func authentication(_ code: UInt8, _ rest: [UInt8] = []) -> [UInt8] {
        message("R", [0, 0, 0, code] + rest)
    }

    static let ok = authentication(0)
    static let cleartext = authentication(3)
    static let md5 = authentication(5, [1, 2, 3, 4])

    static func sasl(_ mechanisms: String...) -> [UInt8] {
        authentication(10, mechanisms.flatMap { Array($0.utf8) + [0] } + [0])
    }

    static func parameter(_ name: String, _ value: String) -> [UInt8] {
        message("S", Array("\(name)\0\(value)\0".utf8))
    }

    static let key = message("K", [0xE3, 0xF1, 0xC2, 0xA1, 1, 2, 3, 4])
    static let ready = message("Z", [0x49])
    static let settled = parameter("client_encoding", "UTF8") + key + ready

    static func report(_ tag: Character, _ severity: String, _ sqlState: String, _ text: String) -> [UInt8] {
        message(tag, Array("S\(severity)\0V\(severity)\0C\(sqlState)\0M\(text)\0".utf8) + [0])
    }

    static func negotiate(_ version: UInt32, _ options: String...) -> [UInt8] {
        message(
            "v",
            (0..<4).map { UInt8(truncatingIfNeeded: version >> UInt32(24 - 8 * $0)) }
                + [0, 0, 0, UInt8(options.count)] + options.flatMap { Array($0.utf8) + [0] })
    }
}

private let none = Startup.Options(user: "joe")

private var secret: Startup.Options {
    Startup.Options(user: "joe", database: "shop", password: Password("secret"))
}

private func with(_ options: Startup.Options, _ change: (inout Startup.Options) -> Void) -> Startup.Options {
    var options = options
    change(&options)
    return options
}

/// The fields of a SASLInitialResponse.
private func initialResponse(_ bytes: [UInt8]) -> (mechanism: String, data: [UInt8]) {
    let mechanism = bytes.dropFirst(5).prefix { $0 != 0 }
    return (String(decoding: mechanism, as: UTF8.self), Array(bytes[(mechanism.endIndex + 5)...]))
}

@Suite struct StartupTests {
    @Test func theStartupMessageNamesUserDatabaseAndEncoding() throws {
        var options = with(secret) { $0.parameters = [("application_name", "test")] }
        var dialogue = try StartupDialogue(options)
        let body = "user\0joe\0database\0shop\0client_encoding\0UTF8\0application_name\0test\0\0"
        let length = UInt8(8 + body.utf8.count)
        #expect(dialogue.sent() == [0, 0, 0, length, 0, 3, 0, 0] + Array(body.utf8))

        options = with(none) {
            $0.version = .v32
            $0.parameters = [("client_encoding", "UTF8")]
        }
        dialogue = try StartupDialogue(options)
        let short = "user\0joe\0client_encoding\0UTF8\0\0"
        #expect(dialogue.sent() == [0, 0, 0, UInt8(8 + short.utf8.count), 0, 3, 0, 2] + Array(short.utf8))
    }

    @Test(arguments: [
        ("user", "postgres"), ("database", "x"), ("client_encoding", "LATIN1"), ("a", "1"),
        ("A", "1"), ("datestyle", "German"), ("Client_Encoding", "LATIN1"), ("DATABASE", "x"),
    ])
    func aParameterThatWouldBeSetTwiceIsRefused(name: String, value: String) {
        let options = with(none) { $0.parameters = [("a", "0"), ("DateStyle", "ISO"), (name, value)] }
        #expect(throws: StartupError.reservedParameter(name)) { try StartupDialogue(options) }
    }

    @Test func zeroBytesAreRefusedBeforeAnythingIsWritten() {
        for options in [
            Startup.Options(user: "joe\0"), Startup.Options(user: "joe", database: "\0"),
            Startup.Options(user: "joe", password: Password("a\0b")),
            with(none) { $0.parameters = [("a", "x\0user\0admin")] },
        ] {
            var startup = Startup(options)
            var writer = ByteWriter()
            #expect(throws: StartupError.self) { try startup.begin(into: &writer) }
            #expect(writer.count == 0)
        }
    }

    @Test(arguments: [1, 2, 3, 5, 7, Int.max])
    func trustInPiecesOfAnySize(pieceSize: Int) throws {
        let dialogue = try StartupDialogue(none)
        dialogue.pieceSize = pieceSize
        _ = dialogue.sent()
        try dialogue.receive(
            Server.report("N", "NOTICE", "00000", "early") + Server.ok + Server.parameter("server_version", "15.18")
                + Server.report("N", "WARNING", "01000", "late") + Server.parameter("TimeZone", "UTC")
                + Server.parameter("TimeZone", "CET") + Server.settled)
        #expect(dialogue.sent().isEmpty)
        #expect(dialogue.notices == ["early", "late"])
        let session = try #require(dialogue.session)
        #expect(
            session.parameters.values == ["server_version": "15.18", "TimeZone": "CET", "client_encoding": "UTF8"])
        #expect(session.backendKey == BackendKeyData(processID: 0xE3F1_C2A1, secretKey: [1, 2, 3, 4]))
        #expect(session.transactionStatus == .idle)
        #expect(session.version == .v30)
    }

    @Test func aCleartextPasswordIsSentWhereItIsAllowed() throws {
        let dialogue = try StartupDialogue(with(secret) { $0.allowsCleartextPassword = true })
        _ = dialogue.sent()
        try dialogue.receive(Server.cleartext)
        #expect(dialogue.sent() == hex("70 0000000b") + Array("secret\0".utf8))
        try dialogue.receive(Server.ok + Server.settled)
        #expect(dialogue.session != nil)
    }

    @Test func anMD5PasswordIsSalted() throws {
        let dialogue = try StartupDialogue(secret)
        _ = dialogue.sent()
        try dialogue.receive(Server.md5)
        let response = try Password("secret").md5Response(user: "joe", salt: [1, 2, 3, 4])
        #expect(dialogue.sent() == hex("70 00000028") + Array(response.utf8) + [0])
        try dialogue.receive(Server.ok + Server.settled)
        #expect(dialogue.session != nil)
    }

    /// How much of the channel there is, what the server offers, and what must come of it.
    @Test(
        arguments: [
            (false, nil, ["SCRAM-SHA-256"], "SCRAM-SHA-256", "n,,"),
            (true, nil, ["SCRAM-SHA-256"], "SCRAM-SHA-256", "n,,"),
            (true, nil, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], "SCRAM-SHA-256", "n,,"),
            (true, [9, 9], ["SCRAM-SHA-256"], "SCRAM-SHA-256", "y,,"),
            (true, [9, 9], ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"),
            (true, [9, 9], ["X", "SCRAM-SHA-256-PLUS"], "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"),
        ] as [(Bool, [UInt8]?, [String], String, String)])
    func scramProvesBothSides(
        isEncrypted: Bool, binding: [UInt8]?, offered: [String], mechanism: String, header: String
    ) throws {
        let dialogue = try StartupDialogue(
            with(secret) {
                $0.isEncrypted = isEncrypted
                $0.channelBinding = binding
            })
        _ = dialogue.sent()
        try dialogue.receive(Server.authentication(10, offered.flatMap { Array($0.utf8) + [0] } + [0]))
        let first = initialResponse(dialogue.sent())
        #expect(first.mechanism == mechanism)
        #expect(String(decoding: first.data, as: UTF8.self).hasPrefix(header))

        let server = SCRAMServer()
        try dialogue.receive(Server.authentication(11, server.first(answering: first.data)))
        let final = Array(dialogue.sent()[5...])
        let answer = try #require(
            try server.final(clientFirst: first.data, clientFinal: final, password: Array("secret".utf8)))
        try dialogue.receive(Server.authentication(12, answer) + Server.ok + Server.settled)
        #expect(dialogue.session != nil)
        // From here on the server is the one that knows the password.
        #expect(dialogue.sent().isEmpty)
    }

    struct Refusal: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let options: Startup.Options
        let bytes: [UInt8]
        let error: StartupError

        init(_ name: String, _ options: Startup.Options, _ bytes: [UInt8], _ error: StartupError) {
            (testDescription, self.options, self.bytes, self.error) = (name, options, bytes, error)
        }
    }

    /// Every one of these ends before a credential is written.
    static let refusals: [Refusal] = {
        let unexpected = { (tag: Character) in
            StartupError.protocolViolation(.unexpectedMessage(tag.asciiValue ?? 0, while: "starting up"))
        }
        let binding = with(secret) {
            $0.isEncrypted = true
            $0.channelBinding = [1]
            $0.requiresChannelBinding = true
            $0.allowsCleartextPassword = true
        }
        let plus = SCRAM.plusMechanism
        let plain = SCRAM.plainMechanism
        return [
            // Methods.
            Refusal("cleartext in the clear", secret, Server.cleartext, .cleartextPasswordNotAllowed),
            Refusal(
                "no password for cleartext", with(none) { $0.allowsCleartextPassword = true }, Server.cleartext,
                .passwordMissing("cleartext password")),
            Refusal("no password for MD5", none, Server.md5, .passwordMissing("MD5")),
            Refusal("no password for SCRAM", none, Server.sasl(plain), .passwordMissing("SCRAM-SHA-256")),
            Refusal(
                "empty password", with(none) { $0.password = Password("") }, Server.md5, .passwordMissing("MD5")),
            Refusal("GSSAPI", secret, Server.authentication(7), .methodNotSupported("GSSAPI")),
            Refusal("SSPI", secret, Server.authentication(9), .methodNotSupported("SSPI")),
            Refusal("Kerberos", secret, Server.authentication(2), .methodNotSupported("Kerberos V5")),
            Refusal("a method to come", secret, Server.authentication(99), .methodNotSupported("number 99")),
            Refusal(
                "only foreign SASL", secret, Server.sasl("OAUTHBEARER", "\u{1B}X"),
                .methodNotSupported("SASL (OAUTHBEARER, \\u{1b}X)")),
            Refusal("no SASL mechanism", secret, Server.sasl(), .methodNotSupported("SASL ()")),
            Refusal("SASL continued before it began", secret, Server.authentication(11), unexpected("R")),
            Refusal("SASL ended before it began", secret, Server.authentication(12), unexpected("R")),
            // Policies.
            Refusal(
                "trust where it is not allowed", with(secret) { $0.allowedMethods = [.scramSHA256] }, Server.ok,
                .methodNotAllowed("nothing at all")),
            Refusal(
                "MD5 where it is not allowed", with(secret) { $0.allowedMethods = [.scramSHA256] }, Server.md5,
                .methodNotAllowed("MD5 password")),
            Refusal(
                "cleartext where it is not allowed", with(secret) { $0.allowedMethods = [.scramSHA256] },
                Server.cleartext, .methodNotAllowed("cleartext password")),
            Refusal(
                "SCRAM where it is not allowed", with(secret) { $0.allowedMethods = [.md5] }, Server.sasl(plain),
                .methodNotAllowed("SCRAM-SHA-256")),
            Refusal(
                "binding required, trust", binding, Server.ok,
                .channelBindingNotPossible("the server asks for nothing at all")),
            Refusal(
                "binding required, cleartext", binding, Server.cleartext,
                .channelBindingNotPossible("the server asks for cleartext password")),
            Refusal(
                "binding required, MD5", binding, Server.md5,
                .channelBindingNotPossible("the server asks for MD5 password")),
            Refusal(
                "binding required, not offered", binding, Server.sasl(plain),
                .channelBindingNotPossible("the server does not offer it")),
            Refusal(
                "binding required, no hash", with(binding) { $0.channelBinding = nil }, Server.sasl(plus, plain),
                .channelBindingNotPossible("this connection has no certificate to bind to")),
            Refusal(
                "binding required, no TLS",
                with(binding) {
                    $0.channelBinding = nil
                    $0.isEncrypted = false
                }, Server.sasl(plain),
                .channelBindingNotPossible("this connection has no certificate to bind to")),
            Refusal(
                "-PLUS without TLS", secret, Server.sasl(plus, plain),
                .methodNotAllowed("SCRAM-SHA-256-PLUS over an unencrypted connection")),
            Refusal(
                "only -PLUS, and nothing to bind to", with(secret) { $0.isEncrypted = true }, Server.sasl(plus),
                .methodNotSupported("SCRAM-SHA-256-PLUS")),
            // Errors of the server.
            Refusal(
                "no such role", none, Server.report("E", "FATAL", "28000", "role \"joe\"\ndoes not exist\u{1B}[2J"),
                .refused(
                    ServerReport(
                        severity: "FATAL", sqlState: "28000", message: "role \"joe\"\\ndoes not exist\\u{1b}[2J"),
                    isVerified: false)),
            Refusal(
                "no such role, over verified TLS", with(none) { $0.isPeerVerified = true },
                Server.report("E", "FATAL", "28000", "no"),
                .refused(ServerReport(severity: "FATAL", sqlState: "28000", message: "no"), isVerified: true)),
            Refusal(
                "no such database", none, Server.ok + Server.report("E", "FATAL", "3D000", "no"),
                .refused(ServerReport(severity: "FATAL", sqlState: "3D000", message: "no"), isVerified: false)),
            // Other protocols.
            Refusal(
                "HTTP", none, Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8),
                .notPostgreSQL("HTTP/1.1 400 Bad Request\\r\\n\\r\\n")),
            Refusal("SSH", none, Array("SSH-2.0-OpenSSH_9.2\r\n".utf8), .notPostgreSQL("SSH-2.0-OpenSSH_9.2\\r\\n")),
            Refusal("one byte of SSH", none, Array("S".utf8), .notPostgreSQL("S")),
            Refusal(
                "Redis", none, Array("-ERR unknown command\r\n".utf8), .notPostgreSQL("-ERR unknown command\\r\\n")),
            Refusal("a TLS alert", none, [0x15, 3, 1, 0, 2], .notPostgreSQL("\\u{15}\\u{3}\\u{1}\\u{0}\\u{2}")),
            Refusal("text that begins like R", none, Array("Redirecting".utf8), .notPostgreSQL("Redirecting")),
            Refusal(
                "protocol 2", none, Array("EFATAL:  unsupported frontend\0rest".utf8),
                .serverTooOld("FATAL:  unsupported frontend")),
            Refusal(
                "an error of 30,001 bytes", none, [0x45, 0, 0, 0x75, 0x31] + Array("SFATAL\0".utf8),
                .protocolViolation(.messageTooLarge(message: 0x45, length: 30_001, limit: 30_000))),
            // Messages out of place.
            Refusal("Ok twice", none, Server.ok + Server.ok, unexpected("R")),
            Refusal("a challenge after Ok", secret, Server.ok + Server.md5, unexpected("R")),
            Refusal(
                "a row before authentication", none, Server.report("N", "N", "0", "") + Server.ready, unexpected("Z")),
            Refusal("a row after it", none, Server.ok + Server.message("D", [0, 0]), unexpected("D")),
            Refusal("COPY", none, Server.ok + Server.message("G", [0, 0, 0]), unexpected("G")),
            Refusal("two keys", none, Server.ok + Server.key + Server.key, unexpected("K")),
            Refusal(
                "a long key in 3.0", none, Server.ok + Server.message("K", Array(repeating: 1, count: 36)),
                unexpected("K")),
            Refusal(
                "a broken message", none, Server.ok + Server.message("Z", []),
                .protocolViolation(.truncated(message: 0x5A, offset: 0))),
            Refusal(
                "an unknown type", none, Server.ok + Server.message("?", []),
                .protocolViolation(.unknownMessageType(0x3F))),
            Refusal(
                "a challenge of 30,001 bytes", none, Server.report("N", "N", "0", "") + [0x52, 0, 0, 0x75, 0x31],
                .protocolViolation(.messageTooLarge(message: 0x52, length: 30_001, limit: 30_000))),
            Refusal(
                "another encoding", none, Server.ok + Server.parameter("client_encoding", "LATIN1"),
                .protocolViolation(.clientEncoding("LATIN1"))),
            Refusal(
                "257 parameters", none, Server.ok + (0...256).flatMap { Server.parameter("p\($0)", "") },
                .protocolViolation(.tooManyParameters(limit: 256))),
        ]
    }()

    @Test(arguments: refusals)
    func aRefusalNamesItsReasonAndSendsNothing(_ refusal: Refusal) throws {
        let dialogue = try StartupDialogue(refusal.options)
        _ = dialogue.sent()
        #expect(throws: refusal.error) { try dialogue.receive(refusal.bytes) }
        #expect(dialogue.sent().isEmpty)
        #expect(dialogue.session == nil)
        #expect(!"\(refusal.error)".contains("secret"))
        #expect("\(refusal.error)".unicodeScalars.allSatisfy { $0.value >= 0x20 })
        // The machine is of no more use.
        #expect(throws: StartupError.self) { try dialogue.startup.receive(Server.ok, into: &dialogue.writer) }
    }

    @Test(arguments: [
        // No password is asked for twice, in any combination.
        Server.cleartext, Server.md5, Server.sasl("SCRAM-SHA-256"), Server.authentication(11, [1]),
        Server.authentication(12, [1]), Server.authentication(7), Server.settled, Server.negotiate(0x3_0000),
    ])
    func afterThePasswordOnlyOkComes(next: [UInt8]) throws {
        for first in [Server.cleartext, Server.md5] {
            let dialogue = try StartupDialogue(
                with(secret) {
                    $0.allowsCleartextPassword = true
                    $0.version = .v32
                })
            try dialogue.receive(first)
            _ = dialogue.sent()
            #expect(throws: StartupError.self) { try dialogue.receive(next) }
            #expect(dialogue.sent().isEmpty)
        }
    }

    @Test func okWithoutTheServersSignatureIsNotBelieved() throws {
        // Right after the client's first message.
        var dialogue = try StartupDialogue(secret)
        try dialogue.receive(Server.sasl("SCRAM-SHA-256"))
        #expect(throws: StartupError.authenticationNotCompleted) { try dialogue.receive(Server.ok) }
        // After the client's proof.
        dialogue = try StartupDialogue(secret)
        _ = dialogue.sent()
        try dialogue.receive(Server.sasl("SCRAM-SHA-256"))
        let first = initialResponse(dialogue.sent())
        try dialogue.receive(Server.authentication(11, SCRAMServer().first(answering: first.data)))
        #expect(throws: StartupError.authenticationNotCompleted) { try dialogue.receive(Server.ok) }
    }

    @Test func aServerThatDoesNotKnowThePasswordIsFoundOut() throws {
        let dialogue = try StartupDialogue(secret)
        _ = dialogue.sent()
        try dialogue.receive(Server.sasl("SCRAM-SHA-256"))
        let first = initialResponse(dialogue.sent())
        try dialogue.receive(Server.authentication(11, SCRAMServer().first(answering: first.data)))
        let forged = Array("v=".utf8) + Base64.encode(Array(repeating: 0, count: 32))
        #expect(throws: StartupError.scram(.wrongServerSignature)) {
            try dialogue.receive(Server.authentication(12, forged) + Server.ok + Server.settled)
        }
        #expect(dialogue.session == nil)
    }

    @Test func aSecondChallengeIsRefused() throws {
        let dialogue = try StartupDialogue(secret)
        _ = dialogue.sent()
        try dialogue.receive(Server.sasl("SCRAM-SHA-256"))
        let first = initialResponse(dialogue.sent())
        let challenge = Server.authentication(11, SCRAMServer().first(answering: first.data))
        try dialogue.receive(challenge)
        _ = dialogue.sent()
        #expect(throws: StartupError.scram(.outOfOrder)) { try dialogue.receive(challenge) }
        #expect(dialogue.sent().isEmpty)
    }

    @Test func onlyErrorsAndNoticesComeDuringADerivation() throws {
        for (next, error) in [
            (Server.ok, StartupError.protocolViolation(.unexpectedMessage(0x52, while: "starting up"))),
            (
                Server.report("E", "FATAL", "57P01", "timeout"),
                .refused(ServerReport(severity: "FATAL", sqlState: "57P01", message: "timeout"), isVerified: false)
            ),
        ] {
            var startup = Startup(secret)
            var writer = ByteWriter()
            try startup.begin(into: &writer)
            writer.removeAll()
            _ = try startup.receive(Server.sasl("SCRAM-SHA-256"), into: &writer)
            let first = initialResponse(writer.written)
            let challenge = Server.authentication(11, SCRAMServer().first(answering: first.data))
            guard case .derive(let derivation) = try startup.receive(challenge, into: &writer) else {
                Issue.record("no derivation")
                return
            }
            guard case .notice = try startup.receive(Server.report("N", "N", "0", "x"), into: &writer) else {
                Issue.record("no notice")
                return
            }
            #expect(throws: error) { try startup.receive(next, into: &writer) }
            #expect(throws: StartupError.self) { try startup.provide(try derivation.run(), into: &writer) }
        }
    }

    @Test func aWrongPasswordIsTheServersWordAlone() throws {
        let dialogue = try StartupDialogue(secret)
        try dialogue.receive(Server.md5)
        let report = ServerReport(severity: "FATAL", sqlState: "28P01", message: "password authentication failed")
        #expect(throws: StartupError.refused(report, isVerified: false)) {
            try dialogue.receive(Server.report("E", "FATAL", "28P01", "password authentication failed"))
        }
    }

    @Test func anOlderServerIsAgreedWith() throws {
        let dialogue = try StartupDialogue(
            with(none) {
                $0.version = .v32
                $0.parameters = [("_pq_.feature", "on")]
            })
        try dialogue.receive(Server.negotiate(0x3_0000, "_pq_.feature") + Server.ok + Server.settled)
        #expect(dialogue.session?.version == .v30)
    }

    @Test func aNewServerSendsALongKey() throws {
        let dialogue = try StartupDialogue(with(none) { $0.version = .v32 })
        try dialogue.receive(Server.ok + Server.message("K", Array(repeating: 1, count: 36)) + Server.ready)
        #expect(dialogue.session?.backendKey?.secretKey.count == 32)
        #expect(dialogue.session?.version == .v32)
    }

    @Test func aServerWithoutAKeyIsTaken() throws {
        let dialogue = try StartupDialogue(none)
        try dialogue.receive(Server.ok + Server.ready)
        #expect(dialogue.session != nil)
        #expect(dialogue.session?.backendKey == nil)
    }

    @Test(arguments: [
        (ProtocolVersion.v30, Server.negotiate(0x3_0002), "3.2 is newer than what was asked for"),
        (.v32, Server.negotiate(0x3_0001), "3.1 does not exist"),
        (.v32, Server.negotiate(0x3_0002), "nothing was changed"),
        (.v32, Server.negotiate(0x3_0000, "_pq_.other"), "the option _pq_.other was not asked for"),
        (.v32, Server.negotiate(0x3_0000, "user"), "the option user was not asked for"),
        (.v32, Server.negotiate(0x3_0000) + Server.negotiate(0x3_0000), "sent twice"),
    ])
    func aNegotiationThatMakesNoSenseIsRefused(version: ProtocolVersion, bytes: [UInt8], reason: String) throws {
        let dialogue = try StartupDialogue(with(none) { $0.version = version })
        #expect(throws: StartupError.invalidNegotiation(reason)) { try dialogue.receive(bytes) }
    }

    @Test func anotherMajorVersionIsNotSupported() throws {
        for version in [UInt32(2 << 16), 4 << 16, 0, .max] {
            let dialogue = try StartupDialogue(with(none) { $0.version = .v32 })
            #expect(throws: StartupError.versionNotSupported(ProtocolVersion(rawValue: version))) {
                try dialogue.receive(Server.negotiate(version))
            }
        }
        #expect(throws: StartupError.versionNotSupported(ProtocolVersion(rawValue: 3 << 16 | 1))) {
            try StartupDialogue(with(none) { $0.version = ProtocolVersion(rawValue: 3 << 16 | 1) })
        }
    }

    @Test func negotiationAfterAuthenticationIsRefused() throws {
        let dialogue = try StartupDialogue(with(none) { $0.version = .v32 })
        #expect(throws: StartupError.protocolViolation(.unexpectedMessage(0x76, while: "starting up"))) {
            try dialogue.receive(Server.ok + Server.negotiate(0x3_0000))
        }
    }

    /// Valid transcripts with random damage: an error or a session, and never a credential after the damage was seen.
    @Test func damagedTranscriptsNeverTrap() throws {
        var generator = SeededGenerator(seed: 0x57A7_2026)
        let transcripts = [
            Server.ok + Server.parameter("a", "b") + Server.settled, Server.md5 + Server.ok + Server.settled,
            Server.report("N", "N", "0", "x") + Server.sasl("SCRAM-SHA-256") + Server.authentication(11, [1]),
            Server.negotiate(0x3_0000) + Server.ok + Server.settled,
        ]
        var (ready, failed) = (0, 0)
        for _ in 0..<4_000 {
            var bytes = transcripts[Int.random(in: 0..<transcripts.count, using: &generator)]
            for _ in 0..<Int.random(in: 0..<3, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            let dialogue = try StartupDialogue(with(secret) { $0.version = .v32 })
            dialogue.pieceSize = Int.random(in: 1...40, using: &generator)
            do { try dialogue.receive(bytes) } catch { failed += 1 }
            if dialogue.session != nil { ready += 1 }
        }
        #expect(ready > 100)
        #expect(failed > 100)
    }
}

extension Startup {
    /// One whole message.
    fileprivate mutating func receive(
        _ message: [UInt8], into writer: inout ByteWriter
    ) throws(StartupError) -> Step {
        let body = Array(message[5...])
        let outcome = body.withUnsafeBytes { bytes in
            Result { () throws(StartupError) in try receive(tag: message[0], body: bytes, into: &writer) }
        }
        return try outcome.get()
    }
}
