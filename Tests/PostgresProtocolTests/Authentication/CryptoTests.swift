import Testing

@testable import PostgresProtocol

@Suite struct CryptoTests {
    // FIPS 180-4, examples.
    @Test(arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
    ])
    func sha256(message: String, digest: String) throws {
        #expect(try Crypto.sha256(Array(message.utf8)) == hex(digest))
    }

    // RFC 1321, appendix A.5.
    @Test(arguments: [
        ("", "d41d8cd98f00b204e9800998ecf8427e"), ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
    ])
    func md5(message: String, digest: String) throws {
        #expect(try Crypto.md5(Array(message.utf8)) == hex(digest))
    }

    // RFC 4231, test cases 1, 2 and 6; an empty key by RFC 2104's definition.
    @Test(arguments: [
        (
            [UInt8](repeating: 0x0B, count: 20), "Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        ),
        (
            Array("Jefe".utf8), "what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        ),
        (
            [UInt8](repeating: 0xAA, count: 131), "Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        ),
        ([], "", "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"),
    ])
    func hmac(key: [UInt8], message: String, code: String) throws {
        #expect(try Crypto.hmacSHA256(key: key, Array(message.utf8)) == hex(code))
    }

    // RFC 7914, section 11 (the first 32 bytes).
    @Test(arguments: [
        ("passwd", "salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"),
        ("Password", "NaCl", 80_000, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"),
    ])
    func pbkdf2(password: String, salt: String, iterations: Int, key: String) throws {
        #expect(
            try Crypto.pbkdf2SHA256(password: Array(password.utf8), salt: Array(salt.utf8), iterations: iterations)
                == hex(key))
    }

    @Test func anIterationCountThatOpenSSLCannotTakeIsRefused() {
        #expect(throws: Crypto.Failure(operation: "PBKDF2")) {
            try Crypto.pbkdf2SHA256(password: [1], salt: [1], iterations: Int(Int32.max) + 1)
        }
    }

    @Test func randomBytesDiffer() throws {
        let first = try Crypto.randomBytes(32)
        #expect(first.count == 32)
        #expect(first != (try Crypto.randomBytes(32)))
    }

    @Test func comparisonLooksAtLengthAndEveryByte() {
        #expect(Crypto.isEqual([1, 2, 3], [1, 2, 3]))
        #expect(Crypto.isEqual([], []))
        #expect(!Crypto.isEqual([1, 2, 3], [1, 2]))
        for position in 0..<3 {
            var other: [UInt8] = [1, 2, 3]
            other[position] ^= 1
            #expect(!Crypto.isEqual([1, 2, 3], other))
        }
    }
}

@Suite struct Base64Tests {
    // RFC 4648, section 10.
    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"), ("\u{3F}\u{3E}~?>", "Pz5+Pz4="),
    ])
    func bothWays(plain: String, text: String) {
        #expect(Base64.encode(Array(plain.utf8)) == Array(text.utf8))
        #expect(Base64.decode(Array(text.utf8)) == Array(plain.utf8))
    }

    @Test func everyByteSurvives() {
        for count in 0...260 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ count) }
            #expect(Base64.decode(Base64.encode(bytes)) == bytes)
        }
    }

    @Test(arguments: [
        "Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zm9v\n", "Zm9v====", "Z===", "====", "Zg==Zg==", "Z=g=", "Zm 9v",
        "Zm9_", "Zm9-", "Zmö=",
    ])
    func onlyTheOneSpellingIsTaken(text: String) {
        #expect(Base64.decode(Array(text.utf8)) == nil)
    }
}

@Suite struct PasswordTests {
    // What PostgreSQL stores for user "joe" with password "secret", and what it expects for this salt: computed with
    // two calls of md5sum.
    @Test func md5ResponseIsTheManualsFormula() throws {
        let response = try Password("secret").md5Response(user: "joe", salt: [1, 2, 3, 4])
        #expect(response == "md5850be429f1fe77df3f603ac424abb440")
    }

    @Test func aPasswordIsNotPrinted() throws {
        let password = Password("swordfish")
        var options = Startup.Options(user: "a", password: password)
        options.allowsCleartextPassword = true
        let scram = SCRAM(channelBinding: .unsupported, password: password, iterationLimit: 1, nonce: [1])
        let derivation = SCRAM.Derivation(password: Array(password.text.utf8), salt: [1], iterations: 1)
        let values: [Any] = [
            password, Optional(password) as Any, options, Startup(options), scram, derivation, try derivation.run(),
            StartupError.passwordMissing("MD5"),
        ]
        let salted = try derivation.run().bytes
        for value in values {
            var dumped = ""
            dump(value, to: &dumped)
            for text in ["\(value)", String(reflecting: value), dumped] {
                #expect(!text.contains("swordfish"))
                #expect(!text.contains(Array(password.text.utf8).description.dropFirst().dropLast()))
                #expect(!text.contains(salted.description.dropFirst().dropLast()))
            }
        }
    }
}
