import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Passwords, against each method of `pg_hba.conf`.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct AuthenticationTests {
    static let password = "secret-Pa55word"
    /// NFKC maps the ligature, and the no-break space becomes a space.
    static let preparable = "\u{FB01}sh\u{A0}\u{2168}"
    static let prepared = "fish IX"

    static let server = Task {
        var options = PostgresEphemeralServer.Options()
        options.roles = [
            .init("scram", password: password),
            .init("md5", password: password, encryption: .md5),
            .init("clear", password: password),
            .init("prepared", password: prepared),
            .init("unprepared", password: preparable),
            .init("empty"),
        ]
        options.hbaRules = [
            .init("local all md5 md5"), .init("host all md5 127.0.0.1/32 md5"),
            .init("local all clear password"), .init("host all clear 127.0.0.1/32 password"),
            .init("host all rejected 127.0.0.1/32 reject"),
            .local(method: "scram-sha-256"), .host(method: "scram-sha-256"),
        ]
        return try await PostgresEphemeralServer.start(options)
    }

    func connect(
        _ user: String, _ password: String?, over address: PostgresEphemeralServer.Address = .tcp,
        _ change: (inout PostgresConfiguration) -> Void = { _ in }
    ) async throws -> PostgresConnection {
        let server = try await Self.server.value
        var configuration = try PostgresConfiguration(
            url: server.connectionURL(user: user, password: password, over: address))
        configuration.connectTimeout = .seconds(20)
        change(&configuration)
        return try await PostgresConnection.connect(configuration)
    }

    @Test(arguments: ["scram", "md5"], PostgresEphemeralServer.Address.allCases)
    func theRightPasswordConnects(_ user: String, _ address: PostgresEphemeralServer.Address) async throws {
        let db = try await connect(user, Self.password, over: address)
        #expect(try await db.query("SELECT current_user::text", as: String.self).one() == user)
    }

    @Test(arguments: ["scram", "md5"])
    func aWrongPasswordIs28P01(_ user: String) async throws {
        let error = await failure { try await connect(user, "wr0ng-password") }
        #expect(error?.code == .invalidPassword)
        #expect(error?.outcome == .notSent)
        expectNoSecret(error, "wr0ng-password")
    }

    @Test(arguments: ["scram", "md5"], [nil, ""])
    func aMissingPasswordIsSaidToBeMissing(_ user: String, _ password: String?) async throws {
        let error = await failure { try await connect(user, password) }
        #expect(error?.code == .authentication)
        #expect(error?.outcome == .notSent)
        #expect(error?.message.contains("password") == true)
    }

    @Test func aRoleWithoutAPasswordIsRefused() async throws {
        let error = await failure { try await connect("empty", Self.password) }
        #expect(error?.code == .invalidPassword)
        expectNoSecret(error, Self.password)
    }

    @Test func aPasswordInClearTextNeedsLeave() async throws {
        let error = await failure { try await connect("clear", Self.password) }
        #expect(error?.code == .authentication)
        #expect(error?.outcome == .notSent)
        #expect(error?.hint?.contains("allowsCleartextPassword") == true)
        expectNoSecret(error, Self.password)

        let db = try await connect("clear", Self.password) { $0.allowsCleartextPassword = true }
        try await expectUsable(db)
        let wrong = await failure {
            try await connect("clear", "wr0ng-password") { $0.allowsCleartextPassword = true }
        }
        #expect(wrong?.code == .invalidPassword)
        expectNoSecret(wrong, "wr0ng-password")
    }

    @Test func aRuleThatRejectsIsTheServersError() async throws {
        let error = await failure { try await connect("rejected", Self.password) }
        #expect(error?.code == .invalidAuthorizationSpecification)
        expectNoSecret(error, Self.password)
    }

    @Test(arguments: ["prepared", "unprepared"], [preparable, prepared])
    func passwordsThatSASLprepHoldsEqualAreEqual(_ user: String, _ password: String) async throws {
        let db = try await connect(user, password)
        try await expectUsable(db)
    }

    @Test func anIterationCountOverTheBoundIsRefused() async throws {
        let error = await failure { try await connect("scram", Self.password) { $0.maximumSCRAMIterations = 100 } }
        #expect(error?.code == .authentication)
        expectNoSecret(error, Self.password)
    }

    @Test func twoHundredFailedConnectsLeaveNoDescriptor() async throws {
        let server = try await Self.server.value
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<200 {
                group.addTask {
                    let error = await failure {
                        switch number % 4 {
                        case 0: try await connect("scram", "wr0ng-password")
                        case 1: try await connect("scram", nil)
                        case 2: try await connect("clear", Self.password)
                        default: try await connect("scram", Self.password) { $0.database = "no such database" }
                        }
                    }
                    expectNoSecret(error, Self.password)
                    expectNoSecret(error, "wr0ng-password")
                }
                if number >= 16 { try await group.next() }
            }
            try await group.waitForAll()
        }
        // Other tests of this suite come and go.
        await eventually("descriptors are left over") { openSockets(toPort: server.port) < 16 }
    }

    @Test func noPartOfAConfigurationShowsItsPassword() throws {
        let configuration = PostgresConfiguration(user: "scram", password: Self.password)
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in ["\(configuration)", String(reflecting: configuration), dumped] {
            #expect(!text.contains(Self.password))
        }
        for url in [
            "postgresql://u:\(Self.password)@h:port/", "postgresql://u:\(Self.password)@h/db?sslmode=maybe",
            "postgresql://u:\(Self.password)%zz@h/db", "pg://u:\(Self.password)@h/db",
            "postgresql://u@h/db?password=\(Self.password)&nonsense=1", "postgresql://u:\(Self.password)@[::1/db",
        ] {
            do throws(PostgresError) {
                _ = try PostgresConfiguration(url: url)
                Issue.record("taken: \(url)")
            } catch {
                expectNoSecret(error, Self.password)
            }
        }
    }
}

private func expectNoSecret(
    _ error: PostgresError?, _ secret: String, _ sourceLocation: SourceLocation = #_sourceLocation
) {
    guard let error else { return }
    var dumped = ""
    dump(error, to: &dumped)
    for text in ["\(error)", error.debugDescription, dumped] {
        #expect(!text.contains(secret), sourceLocation: sourceLocation)
    }
}
