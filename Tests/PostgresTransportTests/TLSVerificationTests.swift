import CPostgresOpenSSL
import TestTurns
import Testing

@testable import PostgresTransport

@Suite(.inTurn, .timeLimit(.minutes(1))) struct TLSVerificationTests {
    let authority: Identity
    let roots: CertificateFile

    init() throws {
        authority = try Identity("Test Authority", names: nil)
        roots = try authority.file()
    }

    private func context(_ verification: TLSVerification) throws -> TLSContext {
        try TLSContext(verification: verification, rootCertificates: .file(roots.path))
    }

    private func failure(
        _ identity: Identity, _ verification: TLSVerification, _ serverName: String?
    ) async throws -> TransportError? {
        do {
            _ = try await TLSLink(identity, context(verification), serverName: serverName)
            return nil
        } catch let error as TransportError {
            return error
        }
    }

    @Test(arguments: [
        ("DNS:db.example.test", "db.example.test"), ("DNS:db.example.test", "DB.Example.Test"),
        ("DNS:db.example.test", "db.example.test."), ("DNS:*.example.test", "db.example.test"),
        ("DNS:other.test,DNS:db.example.test", "db.example.test"), ("IP:127.0.0.1", "127.0.0.1"),
        ("IP:::1", "::1"),
    ])
    func theRightHostIsAccepted(_ names: String, _ host: String) async throws {
        let identity = try Identity("server", names: names, issuer: authority)
        #expect(try await failure(identity, .chainAndHostName, host) == nil)
    }

    @Test(arguments: [
        ("DNS:db.example.test", "example.test"), ("DNS:db.example.test", "xdb.example.test"),
        ("DNS:*.example.test", "a.b.example.test"), ("DNS:*.example.test", "example.test"),
        ("DNS:d*.example.test", "db.example.test"), ("DNS:127.0.0.1", "127.0.0.1"), ("IP:127.0.0.1", "127.0.0.2"),
        ("IP:127.0.0.1", "db.example.test"), ("DNS:db.example.test\u{2E}evil.test", "db.example.test"),
    ])
    func anotherHostIsRefused(_ names: String, _ host: String) async throws {
        let identity = try Identity("server", names: names, issuer: authority)
        guard case .tls(.verification, let message) = try await failure(identity, .chainAndHostName, host) else {
            Issue.record("\(host) was accepted for \(names)")
            return
        }
        #expect(message.contains("mismatch"))
        #expect(message.contains("\"\(host)\""))
        #expect(try await failure(identity, .chain, host) == nil, "the chain alone is good")
    }

    @Test(arguments: [TLSVerification.chain, .chainAndHostName])
    func anUnknownAuthorityIsRefused(_ verification: TLSVerification) async throws {
        let stranger = try Identity("Test Authority", names: nil)
        for identity in [
            try Identity("server", names: "DNS:db.example.test", issuer: stranger),
            try Identity("server", names: "DNS:db.example.test"),
        ] {
            guard case .tls(.verification, _) = try await failure(identity, verification, "db.example.test") else {
                Issue.record("accepted")
                return
            }
        }
    }

    @Test func anExpiredCertificateIsRefused() async throws {
        let identity = try Identity("server", names: "DNS:db.example.test", issuer: authority, expired: true)
        let error = try await failure(identity, .chain, nil)
        #expect(
            error == .tls(stage: .verification, message: "certificate has expired")
                && error?.description == "the server's certificate was not accepted: certificate has expired")
    }

    @Test func withoutVerificationAnyCertificateIsAccepted() async throws {
        let identity = try Identity("server", names: "DNS:other.test", expired: true)
        #expect(try await failure(identity, .none, "db.example.test") == nil)
    }

    @Test func verifyingTheHostNeedsAHost() async throws {
        let identity = try Identity("server", names: "DNS:db.example.test", issuer: authority)
        let context = try context(.chainAndHostName)
        for host in [nil, "", ".", ".example.test", "db.example.test\0.evil.test"] {
            let channel = ByteChannel(try SocketPair().socket)
            let error = await #expect(throws: TransportError.self) {
                try await channel.startTLS(context, serverName: host, deadline: .never)
            }
            guard case .tls(.configuration, _) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
        _ = identity
    }

    @Test func aMissingFileOfRootsIsNamed() {
        let error = #expect(throws: TransportError.self) {
            try TLSContext(verification: .chain, rootCertificates: .file("/nonexistent/roots.pem"))
        }
        #expect(error?.description.contains("/nonexistent/roots.pem") == true)
        #expect(error?.description.contains("No such file") == true)
    }

    @Test func namesAreSentBySNIAndAddressesAreNot() async throws {
        let identity = try Identity("server", names: "DNS:db.example.test", issuer: authority)
        for (host, sent) in [
            ("db.example.test", "db.example.test"), ("db.example.test.", "db.example.test"), ("127.0.0.1", nil),
            ("::1", nil), (nil, nil),
        ] as [(String?, String?)] {
            let link = try await TLSLink(identity, context(.chain), serverName: host)
            #expect(link.server.requestedName == sent)
        }
    }

    @Test func theHashForChannelBindingFollowsTheSignature() async throws {
        let context = try TLSContext(verification: .none)
        let cases: [(Identity.Key, OpaquePointer?, OpaquePointer?)] = [
            (.ecdsa, EVP_sha256(), EVP_sha256()), (.ecdsa, EVP_sha384(), EVP_sha384()),
            (.rsa, EVP_sha512(), EVP_sha512()), (.rsa, EVP_sha1(), EVP_sha256()), (.ed25519, nil, nil),
        ]
        for (key, signature, hash) in cases {
            let identity = try Identity("server", names: "DNS:a", key: key, digest: signature)
            let link = try await TLSLink(identity, context)
            #expect(link.channel.serverCertificateHash() == hash.map { digest(identity.der, $0) })
        }
    }

    private func digest(_ bytes: [UInt8], _ algorithm: OpaquePointer) -> [UInt8] {
        var hash = [UInt8](repeating: 0, count: 64)
        var length: UInt32 = 0
        EVP_Digest(bytes, bytes.count, &hash, &length, algorithm, nil)
        return Array(hash.prefix(Int(length)))
    }
}
