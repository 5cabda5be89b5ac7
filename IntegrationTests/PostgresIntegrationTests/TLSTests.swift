import Postgres
import PostgresTesting
import TestTurns
import Testing

/// sslmode against each kind of server and certificate.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct TLSTests {
    enum Certificate: Sendable, CaseIterable {
        case good, wrongHost, unknownAuthority, expired
    }

    /// How a client is to trust.
    enum Trust: Sendable, CaseIterable {
        case preferred, required, requiredWithRoot, verifyFull, defaultWithRoot

        func apply(_ configuration: inout PostgresConfiguration, root: String) {
            switch self {
            case .preferred: configuration.sslmode = .prefer
            case .required: configuration.sslmode = .require
            case .requiredWithRoot:
                configuration.sslmode = .require
                configuration.sslrootcert = root
            case .verifyFull:
                configuration.sslmode = .verifyFull
                configuration.sslrootcert = root
            case .defaultWithRoot: configuration.sslrootcert = root
            }
        }

        func takes(_ certificate: Certificate) -> Bool {
            switch self {
            case .preferred, .required: true
            case .requiredWithRoot: certificate == .good || certificate == .wrongHost
            case .verifyFull, .defaultWithRoot: certificate == .good
            }
        }
    }

    static func start(
        _ certificate: (PostgresTestCertificate) throws -> PostgresTestCertificate
    ) async throws -> PostgresEphemeralServer {
        let root = try PostgresTestCertificate.authority()
        var options = PostgresEphemeralServer.Options()
        options.tls = .init(certificate: try certificate(root), root: root)
        options.roles = [.init("scram", password: "secret"), .init("plain")]
        options.hbaRules = [
            .hostssl(user: "scram", method: "scram-sha-256"), .hostssl(user: "postgres", method: "trust"),
            .hostnossl(database: "template1", method: "trust"), .local(method: "trust"),
        ]
        options.databases = ["either"]
        options.hbaRules.append(.host(database: "either", method: "trust"))
        return try await PostgresEphemeralServer.start(options)
    }

    static let servers = Task {
        var servers: [Certificate: PostgresEphemeralServer] = [:]
        for certificate in Certificate.allCases {
            servers[certificate] = try await start { root in
                switch certificate {
                case .good: try root.issue()
                case .wrongHost: try root.issue("other.example", names: ["other.example"], addresses: [])
                case .unknownAuthority: try PostgresTestCertificate.authority().issue()
                case .expired: try root.issue(validFrom: .seconds(-7200), validUntil: .seconds(-3600))
                }
            }
        }
        return servers
    }

    func connect(
        _ certificate: Certificate = .good, user: String = "postgres", password: String? = nil,
        database: String = "postgres", host: String = "127.0.0.1",
        _ change: (inout PostgresConfiguration, PostgresEphemeralServer) -> Void
    ) async throws -> PostgresConnection {
        let server = try #require(try await Self.servers.value[certificate])
        var configuration = try PostgresConfiguration(
            url: server.connectionURL(user: user, password: password, database: database, host: host))
        change(&configuration, server)
        return try await PostgresConnection.connect(configuration)
    }

    @Test(arguments: Trust.allCases, Certificate.allCases)
    func aCertificateIsTakenOrRefused(_ trust: Trust, _ certificate: Certificate) async throws {
        func attempt() async throws -> PostgresConnection {
            try await connect(certificate) { trust.apply(&$0, root: $1.rootCertificateFile) }
        }
        if trust.takes(certificate) {
            let db = try await attempt()
            #expect(db.tls?.hasPrefix("TLSv1.3") == true)
            let version = try await db.query(
                "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()", as: String.self
            ).one()
            #expect(version == "TLSv1.3")
        } else {
            let error = await failure { try await attempt() }
            #expect(error?.code == .tls)
            #expect(error?.outcome == .notSent)
        }
    }

    @Test(arguments: ["localhost", "127.0.0.1"])
    func namesAndAddressesOfTheCertificateAreVerified(_ host: String) async throws {
        let db = try await connect(host: host) {
            $0.sslmode = .verifyFull
            $0.sslrootcert = $1.rootCertificateFile
        }
        try await expectUsable(db)
    }

    @Test func verifyFullWithoutARootTrustsTheSystemsOnly() async throws {
        let error = await failure { try await connect { configuration, _ in configuration.sslmode = .verifyFull } }
        #expect(error?.code == .tls)
    }

    @Test func aMissingRootFileIsATypedError() async throws {
        let error = await failure { try await connect { configuration, _ in configuration.sslrootcert = "/no/file" } }
        #expect(error?.code == .tls || error?.code == .invalidConfiguration)
        #expect(error?.message.contains("/no/file") == true)
    }

    @Test func disableStaysPlain() async throws {
        let db = try await connect(database: "either") { configuration, _ in configuration.sslmode = .disable }
        #expect(db.tls == nil)
        try await expectUsable(db)
    }

    @Test func aServerThatWantsTLSRefusesPlainAndTheOtherWayRound() async throws {
        let plain = await failure { try await connect { configuration, _ in configuration.sslmode = .disable } }
        #expect(plain?.code == .invalidAuthorizationSpecification)
        #expect(plain?.outcome == .notSent)

        let db = try await connect(user: "plain", database: "template1") { configuration, _ in
            configuration.sslmode = .disable
        }
        try await expectUsable(db)
        db.close()
        let encrypted = await failure {
            try await connect(user: "plain", database: "template1") { configuration, _ in
                configuration.sslmode = .require
            }
        }
        #expect(encrypted?.code == .invalidAuthorizationSpecification)
        #expect(encrypted?.message.contains("SSL encryption") == true)
    }

    @Test(arguments: [PostgresConfiguration.SSLMode.require, .verifyFull])
    func aServerWithoutTLSIsATypedErrorWhenTLSIsRequired(_ mode: PostgresConfiguration.SSLMode) async throws {
        let error = await failure { try await PostgresIntegrationTests.connect(over: .tcp) { $0.sslmode = mode } }
        #expect(error?.code == .tls)
        #expect(error?.message.contains("does not offer TLS") == true)
        let db = try await PostgresIntegrationTests.connect(over: .tcp) { $0.sslmode = .prefer }
        #expect(db.tls == nil)
        try await expectUsable(db)
    }

    @Test func aWrongPasswordOverTLSIs28P01() async throws {
        let error = await failure {
            try await connect(user: "scram", password: "wr0ng") { configuration, _ in configuration.sslmode = .require }
        }
        #expect(error?.code == .invalidPassword)
    }

    /// The server computes the channel binding of its own certificate: an exchange bound to another one, or one that says the
    /// server offers none, fails.
    @Test(arguments: PostgresTestCertificate.Key.allCases, PostgresTestCertificate.Digest.allCases)
    func aSCRAMExchangeIsBoundToTheCertificate(
        _ key: PostgresTestCertificate.Key, _ digest: PostgresTestCertificate.Digest
    ) async throws {
        guard digest != .sha1 else { return }
        let server = try await Self.start { try $0.issue(key: key, digest: digest) }
        let url = server.connectionURL(user: "scram", password: "secret", parameters: ["sslmode": "require"])
        let db = try await PostgresConnection.connect(url)
        #expect(db.tls != nil)
        try await expectUsable(db)
        db.close()
        await server.remove()
    }

    @Test func tasksShareOneConnectionOverTLS() async throws {
        let db = try await connect { configuration, _ in configuration.sslmode = .require }
        let table = uniqueName("tls")
        try await db.execute("CREATE TABLE \(identifier: table) (n int8 PRIMARY KEY, t text NOT NULL)")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<64 {
                group.addTask {
                    for round in 0..<4 {
                        let number = task * 10 + round
                        let text = String(repeating: "\(number) ", count: 20_000)
                        if task.isMultiple(of: 2) {
                            try await db.execute(
                                "INSERT INTO \(identifier: table) VALUES (\(number), \(text))")
                            let back = try await db.query(
                                "SELECT t FROM \(identifier: table) WHERE n = \(number)", as: String.self
                            ).one()
                            #expect(back == text)
                        } else {
                            let back = try await db.query(
                                "SELECT repeat(\("\(number) ")::text, 20000)", as: String.self
                            ).one()
                            #expect(back == text)
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        try await expectUsable(db)
    }

    @Test func aServerThatDiesUnderTLSIsALostConnection() async throws {
        let server = try await Self.start { try $0.issue() }
        let db = try await PostgresConnection.connect(server.connectionURL(parameters: ["sslmode": "require"]))
        try await withThrowingTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<10 { group.addTask { await failure { try await db.execute("SELECT pg_sleep(100)") } } }
            await eventually("sleeping") {
                let sleeping = try? await server.runSQL(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
                return sleeping == "1"
            }
            try await server.kill()
            for try await error in group { #expect(error?.code == .connectionLost) }
        }
        await server.remove()
    }
}
