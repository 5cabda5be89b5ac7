import Testing

@testable import PostgresProtocol

/// The server's half, from the RFC's formulas, for tests: it knows the password.
struct SCRAMServer {
    var salt: [UInt8] = Array("0123456789abcdef".utf8)
    var iterations = 1024
    var nonceSuffix = "3rfcNHYJY1ZVvWVs7j"

    /// `r=...` of a client's first message.
    static func nonce(of clientFirst: [UInt8]) -> String {
        let text = String(decoding: clientFirst, as: UTF8.self)
        return String(text.split(separator: ",", omittingEmptySubsequences: false).last?.dropFirst(2) ?? "")
    }

    func first(answering clientFirst: [UInt8]) -> [UInt8] {
        let salt = String(decoding: Base64.encode(salt), as: UTF8.self)
        return Array("r=\(SCRAMServer.nonce(of: clientFirst))\(nonceSuffix),s=\(salt),i=\(iterations)".utf8)
    }

    /// The final message, or nil if the client's proof is wrong.
    func final(clientFirst: [UInt8], clientFinal: [UInt8], password: [UInt8]) throws -> [UInt8]? {
        let salted = try Crypto.pbkdf2SHA256(password: password, salt: salt, iterations: iterations)
        let bare = String(decoding: clientFirst, as: UTF8.self)
            .split(separator: ",", maxSplits: 2, omittingEmptySubsequences: false)[2]
        let finalText = String(decoding: clientFinal, as: UTF8.self)
        guard let proofStart = finalText.range(of: ",p=") else { return nil }
        let withoutProof = finalText[..<proofStart.lowerBound]
        let first = String(decoding: first(answering: clientFirst), as: UTF8.self)
        let authMessage = Array("\(bare),\(first),\(withoutProof)".utf8)
        let storedKey = try Crypto.sha256(try Crypto.hmacSHA256(key: salted, Array("Client Key".utf8)))
        let signature = try Crypto.hmacSHA256(key: storedKey, authMessage)
        guard let proof = Base64.decode(Array(finalText[proofStart.upperBound...].utf8)) else { return nil }
        let clientKey = zip(proof, signature).map { $0 ^ $1 }
        guard try Crypto.sha256(clientKey) == storedKey else { return nil }
        let serverKey = try Crypto.hmacSHA256(key: salted, Array("Server Key".utf8))
        return Array("v=".utf8) + Base64.encode(try Crypto.hmacSHA256(key: serverKey, authMessage))
    }
}

extension String {
    fileprivate func range(of other: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(other) { return start..<index(start, offsetBy: other.count) }
            formIndex(after: &start)
        }
        return nil
    }
}

@Suite struct SCRAMTests {
    private static let nonce = "rOprNGfwEbeRWgbNEkqO"
    private static let serverNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"

    private static func client(
        _ binding: SCRAM.ChannelBinding = .unsupported, userName: String = "", limit: Int = 100_000
    ) -> SCRAM {
        SCRAM(
            channelBinding: binding, password: Password("pencil"), iterationLimit: limit, nonce: Array(nonce.utf8),
            userName: userName)
    }

    // RFC 7677, section 3.
    @Test func theExampleOfTheRFC() throws {
        var scram = SCRAMTests.client(userName: "user")
        #expect(scram.mechanism == "SCRAM-SHA-256")
        #expect(String(decoding: try scram.clientFirst(), as: UTF8.self) == "n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        let derivation = try scram.serverFirst(
            Array("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".utf8))
        #expect(derivation.iterations == 4096)
        let final = try scram.clientFinal(try derivation.run())
        #expect(
            String(decoding: final, as: UTF8.self)
                == "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                + "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
        #expect(!scram.isVerified)
        try scram.serverFinal(Array("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".utf8))
        #expect(scram.isVerified)
    }

    @Test(arguments: [
        (SCRAM.ChannelBinding.unsupported, "SCRAM-SHA-256", "n,,", "biws"),
        (.notOffered, "SCRAM-SHA-256", "y,,", "eSws"),
        (
            .tlsServerEndPoint([1, 2, 3]), "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,",
            "cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAQID"
        ),
    ])
    func theChannelIsBoundByTheHeader(
        binding: SCRAM.ChannelBinding, mechanism: String, header: String, input: String
    ) throws {
        var scram = SCRAMTests.client(binding)
        #expect(scram.mechanism == mechanism)
        let first = try scram.clientFirst()
        #expect(String(decoding: first, as: UTF8.self) == "\(header)n=,r=\(SCRAMTests.nonce)")
        let server = SCRAMServer()
        let final = try scram.clientFinal(try scram.serverFirst(server.first(answering: first)).run())
        #expect(String(decoding: final, as: UTF8.self).hasPrefix("c=\(input),r=\(SCRAMTests.nonce)"))
        let answer = try server.final(clientFirst: first, clientFinal: final, password: Array("pencil".utf8))
        try scram.serverFinal(try #require(answer))
        #expect(scram.isVerified)
    }

    @Test func aServerRefusesTheProofOfAnotherPassword() throws {
        var scram = SCRAMTests.client()
        let first = try scram.clientFirst()
        let server = SCRAMServer()
        let final = try scram.clientFinal(try scram.serverFirst(server.first(answering: first)).run())
        #expect(try server.final(clientFirst: first, clientFinal: final, password: Array("pencils".utf8)) == nil)
    }

    @Test func everyExchangeHasItsOwnNonce() throws {
        var nonces = Set<String>()
        for _ in 0..<8 {
            var scram = try SCRAM(channelBinding: .unsupported, password: Password("x"))
            nonces.insert(SCRAMServer.nonce(of: try scram.clientFirst()))
        }
        #expect(nonces.count == 8)
        #expect(nonces.allSatisfy { $0.utf8.count == 24 })
    }

    static let brokenFirstMessages: [(String, SCRAMError)] = {
        let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ=="
        let good = "r=\(nonce)\(serverNonce)"
        let noAttribute = { (name: String) in SCRAMError.malformed("no attribute \(name) where it belongs") }
        return [
            ("", noAttribute("r")),
            ("r", noAttribute("r")),
            ("r=other\(nonce),\(salt),i=4096", .wrongNonce),
            ("r=\(nonce),\(salt),i=4096", .wrongNonce),
            ("r=,\(salt),i=4096", .wrongNonce),
            ("r=\(nonce.dropLast()),\(salt),i=4096", .wrongNonce),
            ("\(good) x,\(salt),i=4096", .wrongNonce),
            ("\(good)\u{7F},\(salt),i=4096", .wrongNonce),
            ("\(good)ä,\(salt),i=4096", .wrongNonce),
            ("\(good),\(salt),i=0", .malformed("iteration count")),
            ("\(good),\(salt),i=-1", .malformed("iteration count")),
            ("\(good),\(salt),i=+1", .malformed("iteration count")),
            ("\(good),\(salt),i=01", .malformed("iteration count")),
            ("\(good),\(salt),i=", .malformed("iteration count")),
            ("\(good),\(salt),i=4096 ", .malformed("iteration count")),
            ("\(good),\(salt),i=100001", .tooManyIterations(limit: 100_000)),
            ("\(good),\(salt),i=2147483648", .tooManyIterations(limit: 100_000)),
            ("\(good),\(salt),i=18446744073709551616", .tooManyIterations(limit: 100_000)),
            ("\(good),s=,i=4096", .malformed("salt")),
            ("\(good),s=W22,i=4096", .malformed("salt")),
            ("\(good),s=W22ZaJ0SNY7soEsUEjb6gR==,i=4096", .malformed("salt")),
            ("\(good),s=!!!!,i=4096", .malformed("salt")),
            ("m=ext,\(good),\(salt),i=4096", .mandatoryExtension),
            ("\(good),m=ext,\(salt),i=4096", noAttribute("s")),
            ("\(salt),\(good),i=4096", noAttribute("r")),
            ("\(good),i=4096,\(salt)", noAttribute("s")),
            ("\(good),\(good),\(salt),i=4096", noAttribute("s")),
            ("\(good),\(salt),\(salt),i=4096", noAttribute("i")),
            ("\(good),\(salt),i=4096,i=4096", .malformed("bytes after the last attribute")),
            ("\(good),\(salt),i=4096,x=1", .malformed("bytes after the last attribute")),
            ("\(good),\(salt),i=4096,", .malformed("a comma at the end")),
            ("\(good),\(salt)", noAttribute("i")),
            ("\(good)", noAttribute("s")),
            ("e=other-error", noAttribute("r")),
        ]
    }()

    @Test(arguments: brokenFirstMessages)
    func aBrokenFirstMessageEndsTheExchange(message: String, error: SCRAMError) throws {
        var scram = SCRAMTests.client()
        _ = try scram.clientFirst()
        #expect(throws: error) { try scram.serverFirst(Array(message.utf8)) }
        // There is no second try.
        let good = Array("r=\(SCRAMTests.nonce)x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".utf8)
        #expect(throws: SCRAMError.outOfOrder) { try scram.serverFirst(good) }
    }

    @Test func theIterationLimitIsSettable() throws {
        for (limit, isTaken) in [(4096, true), (4095, false)] {
            var scram = SCRAMTests.client(limit: limit)
            _ = try scram.clientFirst()
            let message = Array("r=\(SCRAMTests.nonce)x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".utf8)
            if isTaken {
                #expect(try scram.serverFirst(message).iterations == 4096)
            } else {
                #expect(throws: SCRAMError.tooManyIterations(limit: 4095)) { try scram.serverFirst(message) }
            }
        }
    }

    private static func finalSent() throws -> SCRAM {
        var scram = client(userName: "user")
        _ = try scram.clientFirst()
        let derivation = try scram.serverFirst(
            Array("r=\(nonce)\(serverNonce),s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".utf8))
        _ = try scram.clientFinal(try derivation.run())
        return scram
    }

    @Test(arguments: [
        ("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", SCRAMError.wrongServerSignature),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G0=", .wrongServerSignature),
        ("v=6rriTRBi23WpRR/wtup+mA==", .wrongServerSignature),
        ("v=", .wrongServerSignature),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4", .malformed("server signature")),
        ("", .malformed("no attribute v where it belongs")),
        ("x=1", .malformed("no attribute v where it belongs")),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,x=1", .malformed("bytes after the last attribute")),
        ("e=invalid-proof", .serverError("invalid-proof")),
        ("e=\u{1B}[2J", .serverError("\\u{1b}[2J")),
    ])
    func aBrokenFinalMessageDoesNotVerify(message: String, error: SCRAMError) throws {
        var scram = try SCRAMTests.finalSent()
        #expect(throws: error) { try scram.serverFinal(Array(message.utf8)) }
        #expect(!scram.isVerified)
        #expect(throws: SCRAMError.outOfOrder) {
            try scram.serverFinal(Array("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".utf8))
        }
    }

    @Test func stepsOutOfOrderAreRefused() throws {
        var scram = SCRAMTests.client()
        #expect(throws: SCRAMError.outOfOrder) { try scram.serverFinal(Array("v=".utf8)) }
        scram = SCRAMTests.client()
        #expect(throws: SCRAMError.outOfOrder) { try scram.serverFirst([]) }
        scram = SCRAMTests.client()
        _ = try scram.clientFirst()
        #expect(throws: SCRAMError.outOfOrder) { try scram.clientFirst() }
        scram = SCRAMTests.client()
        _ = try scram.clientFirst()
        #expect(throws: SCRAMError.outOfOrder) { try scram.clientFinal(SCRAM.SaltedPassword(bytes: [])) }
        scram = try SCRAMTests.finalSent()
        try scram.serverFinal(Array("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".utf8))
        #expect(throws: SCRAMError.outOfOrder) {
            try scram.serverFinal(Array("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".utf8))
        }
        #expect(!scram.isVerified)
    }

    /// Any bytes are a refusal: none of these messages carries the right nonce or signature.
    @Test func randomServerMessagesNeverVerify() throws {
        var generator = SeededGenerator(seed: 0x5C4A_2026)
        let alphabet = Array("rsivem=,+/AZaz019 \u{0}\u{7F}".utf8) + [0xFF]
        for _ in 0..<5_000 {
            let message = (0..<Int.random(in: 0..<40, using: &generator)).map { _ in
                alphabet[Int.random(in: 0..<alphabet.count, using: &generator)]
            }
            var scram = SCRAMTests.client()
            _ = try scram.clientFirst()
            #expect(throws: SCRAMError.self) { try scram.serverFirst(message) }
        }
    }
}
