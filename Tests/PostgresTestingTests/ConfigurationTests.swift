import PostgresTesting
import TestTurns
import Testing

@Suite(.inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct ConfigurationTests {
    @Test func rolesLogInByThePasswordAndMethodAskedFor() async throws {
        var options = PostgresEphemeralServer.Options()
        options.hbaRules = [
            .host(user: "\"o'scram\"", method: "scram-sha-256"), .host(user: "md5er", method: "md5"),
            "host all plain 127.0.0.1/32 password", .local(user: "\"o'scram\"", method: "reject"),
        ]
        options.roles = [
            .init("o'scram", password: "se'cret\\"), .init("md5er", password: "old", encryption: .md5),
            .init("plain", password: "p l@in:?"), .init("nobody", password: "x"),
        ]
        try await PostgresEphemeralServer.withServer(options) { server in
            for role in options.roles.dropLast() {
                let url = server.connectionURL(user: role.name, password: role.password)
                #expect(try await server.runSQL("SELECT current_user", connectingTo: url) == role.name)
            }
            let wrong = server.connectionURL(user: "o'scram", password: "wrong")
            await #expect {
                try await server.runSQL("SELECT 1", connectingTo: wrong)
            } throws: { says("password authentication failed", $0) }
            let rejected = server.connectionURL(user: "o'scram", over: .unixSocket)
            await #expect {
                try await server.runSQL("SELECT 1", connectingTo: rejected)
            } throws: { says("pg_hba.conf rejects", $0) }
            let unmentioned = server.connectionURL(user: "nobody", password: "x")
            await #expect {
                try await server.runSQL("SELECT 1", connectingTo: unmentioned)
            } throws: { says("no pg_hba.conf entry", $0) }
            let kept = try await server.runSQL(
                "SELECT left(rolpassword, 4) FROM pg_authid WHERE rolname ~ '5|scr' ORDER BY 1")
            #expect(kept == "SCRA\nmd54" || kept.split(separator: "\n").map { $0.prefix(3) } == ["SCR", "md5"])
        }
    }

    @Test func newRulesHoldAsSoonAsTheCallReturns() async throws {
        try await PostgresEphemeralServer.withServer { server in
            try await server.createRole(.init("app"))
            let url = server.connectionURL(user: "app")
            for _ in 0..<3 {
                try await server.setHBARules([.host(method: "reject")])
                await #expect {
                    try await server.runSQL("SELECT 1", connectingTo: url)
                } throws: { says("pg_hba.conf rejects", $0) }
                try await server.setHBARules(PostgresEphemeralServer.HBARule.trustLocal)
                #expect(try await server.runSQL("SELECT 1", connectingTo: url) == "1")
            }
        }
    }

    @Test func aRuleTheServerDoesNotUnderstandIsReported() async throws {
        try await PostgresEphemeralServer.withServer { server in
            let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
                try await server.setHBARules(["host all all 127.0.0.1/32 no-such-method"])
            }
            #expect(failure?.code == .configurationRejected)
            #expect(failure?.message.contains("no-such-method") == true)
        }
    }

    @Test func settingsAreQuotedAndChangeWithoutARestart() async throws {
        var options = PostgresEphemeralServer.Options()
        options.settings = [
            "cluster_name": "it's", "search_path": "\"a b\", public", "custom.value": "back\\slash\nline",
        ]
        options.maxConnections = 17
        options.databases = ["one", "t\"wo"]
        try await PostgresEphemeralServer.withServer(options) { server in
            #expect(try await server.runSQL("SHOW cluster_name") == "it's")
            #expect(try await server.runSQL("SHOW search_path", database: "t\"wo") == "\"a b\", public")
            #expect(try await server.runSQL("SHOW custom.value") == "back\\slash\nline")
            #expect(try await server.runSQL("SHOW max_connections", database: "one") == "17")

            try await server.setSettings(["work_mem": "5MB", "search_path": nil])
            #expect(try await server.runSQL("SHOW work_mem") == "5MB")
            #expect(try await server.runSQL("SHOW search_path") == "\"$user\", public")

            try await server.setSettings(["max_connections": "19"])
            #expect(try await server.runSQL("SHOW max_connections") == "17")
            try await server.restart()
            #expect(try await server.runSQL("SHOW max_connections") == "19")

            let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
                try await server.setSettings(["work_mem": "a lot"])
            }
            #expect(failure?.code == .configurationRejected)
            #expect(failure?.message.contains("work_mem") == true)
            try await server.reload()
            #expect(try await server.runSQL("SHOW work_mem") == "5MB")
        }
    }

    @Test func failingSQLIsAnErrorWithTheServersMessage() async throws {
        let server = try await PostgresEphemeralServer.shared()
        await #expect { try await server.runSQL("SELECT 1; SELECT 1/0") } throws: { says("division by zero", $0) }
        let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
            try await server.runSQL("SELECT pg_sleep(600)", timeout: .milliseconds(100))
        }
        #expect(failure?.message.contains("in time") == true)
    }

    @Test func optionsWithoutAMeaningAreRefused() async throws {
        let server = try await PostgresEphemeralServer.shared()
        for name in ["", "a\0b"] {
            let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
                try await server.createDatabase(name)
            }
            #expect(failure?.code == .invalidOption)
        }
        var options = PostgresEphemeralServer.Options()
        options.settings = ["work_mem = 1\nport": "1"]
        let failure = await #expect(throws: PostgresEphemeralServer.Failure.self) {
            try await PostgresEphemeralServer.start(options)
        }
        #expect(failure?.code == .invalidOption)
    }

    @Test func connectionURLsAreEncoded() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let encoded = server.connectionURL(
            user: "a b", password: "p@:/é", database: "d?", parameters: ["sslmode": "disable", "options": "-c x=1"])
        let port = server.port
        #expect(
            encoded == "postgresql://a%20b:p%40%3A%2F%C3%A9@127.0.0.1:\(port)/d%3F?sslmode=disable&options=-c%20x%3D1")
        let unix = server.connectionURL(over: .unixSocket)
        #expect(try await server.runSQL("SELECT inet_server_addr() IS NULL", connectingTo: unix) == "t")
    }
}
