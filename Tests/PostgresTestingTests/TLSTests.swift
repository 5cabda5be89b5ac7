import PostgresTesting
import TestTurns
import Testing

/// Checked by libpq, in `psql`: what its `verify-full` accepts is good, and what it says against the others is known.
@Suite(.inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct TLSTests {
    @Test func eachKindOfKeyAndDigestIsAccepted() async throws {
        try await PostgresEphemeralServer.withServer { server in
            let keys = PostgresTestCertificate.Key.allCases.map { ($0, PostgresTestCertificate.Digest.sha256) }
            for (key, digest) in keys + [(.ecdsaP256, .sha384), (.rsa2048, .sha512)] {
                let root = try PostgresTestCertificate.authority(key: key)
                try await server.setTLS(.init(certificate: try root.issue(key: key, digest: digest), root: root))
                for host in ["localhost", "127.0.0.1"] {
                    let encrypted = try await query(server, host: host)
                    #expect(encrypted == "t", "\(key) \(digest) \(host)")
                }
            }
        }
    }

    @Test func anIntermediateAuthorityIsSentAlong() async throws {
        let root = try PostgresTestCertificate.authority()
        var options = PostgresEphemeralServer.Options()
        options.tls = .init(certificate: try root.intermediate().issue(), root: root)
        try await PostgresEphemeralServer.withServer(options) { server in
            let encrypted = try await query(server, host: "localhost")
            #expect(encrypted == "t")
        }
    }

    @Test func badCertificatesAreBadInTheWayAskedFor() async throws {
        let root = try PostgresTestCertificate.authority()
        // libpq names the reason only in the alert it sends, which the server logs.
        let cases: [(PostgresTestCertificate, String)] = [
            (try root.issue(validFrom: .seconds(-7200), validUntil: .seconds(-3600)), "alert certificate expired"),
            (try root.issue(validFrom: .seconds(3600)), "alert bad certificate"),
            (try PostgresTestCertificate.authority().issue(), "alert unknown ca"),
            (try PostgresTestCertificate.selfSigned(), "alert unknown ca"),
            (try root.issue(usage: .client), "alert unsupported certificate"),
        ]
        let wrongHost = try root.issue("other.example", names: ["other.example"], addresses: [])
        var options = PostgresEphemeralServer.Options()
        options.tls = .init(certificate: try root.issue(), root: root)
        try await PostgresEphemeralServer.withServer(options) { server in
            #expect(try await query(server, host: "localhost") == "t")
            try await server.setTLS(.init(certificate: wrongHost, root: root))
            await #expect { try await query(server, host: "localhost") } throws: { says("match host name", $0) }
            for (certificate, alert) in cases {
                try await server.setTLS(.init(certificate: certificate, root: root))
                let logSize = await server.serverLog.utf8.count
                await #expect { try await query(server, host: "localhost") } throws: { says("verify failed", $0) }
                let isLogged = await eventually {
                    String(decoding: await server.serverLog.utf8.dropFirst(logSize), as: UTF8.self).contains(alert)
                }
                #expect(isLogged, "\(alert)")
            }
            try await server.setTLS(nil)
            await #expect { try await query(server, host: "localhost") } throws: { says("does not support SSL", $0) }
        }
    }

    @Test func aClientCertificateNamesItsRole() async throws {
        let root = try PostgresTestCertificate.authority()
        let clientRoot = try PostgresTestCertificate.authority("clients")
        var options = PostgresEphemeralServer.Options()
        options.tls = .init(certificate: try root.issue(), root: root, clientRoot: clientRoot)
        options.roles = [.init("alice"), .init("bob")]
        options.hbaRules = [.hostssl(method: "cert")]
        try await PostgresEphemeralServer.withServer(options) { server in
            let files = try server.writeClientCertificate(
                try clientRoot.issue("alice", names: [], addresses: [], usage: .client))
            func query(as user: String) async throws -> String {
                let url = server.connectionURL(
                    user: user,
                    parameters: [
                        "sslmode": "verify-full", "sslrootcert": server.rootCertificateFile,
                        "sslcert": files.certificate, "sslkey": files.key,
                    ])
                return try await server.runSQL("SELECT current_user", connectingTo: url)
            }
            #expect(try await query(as: "alice") == "alice")
            await #expect { try await query(as: "bob") } throws: { says("certificate authentication failed", $0) }
        }
    }

    @Test func aKeyOfAnotherCertificateIsReported() async throws {
        var options = PostgresEphemeralServer.Options()
        let tls = try PostgresEphemeralServer.TLS.generated()
        options.tls = tls
        try await PostgresEphemeralServer.withServer(options) { server in
            let mixed = PostgresTestCertificate(
                certificatePEM: tls.certificate.certificatePEM, privateKeyPEM: tls.root.privateKeyPEM)
            let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
                try await server.setTLS(.init(certificate: mixed, root: tls.root))
            }
            #expect(failure?.code == .configurationRejected)
        }
    }

    private func query(_ server: PostgresEphemeralServer, host: String) async throws -> String {
        let url = server.connectionURL(
            host: host, parameters: ["sslmode": "verify-full", "sslrootcert": server.rootCertificateFile])
        return try await server.runSQL("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", connectingTo: url)
    }
}

@Suite struct CertificateTests {
    @Test func aNameThatWouldAddAnotherIsRefused() {
        #expect(throws: PostgresTestCertificate.Failure.self) {
            try PostgresTestCertificate.selfSigned(names: ["a,DNS:b"])
        }
    }
}
