import Postgres
import PostgresTesting

/// Where protocol runs go: the ways to reach a server. Nothing is made on it.
struct ProtocolServer: Sendable {
    struct Route: Sendable {
        let name: String
        let url: String

        func connect(cachingStatements: Bool = true) async throws(PostgresError) -> PostgresConnection {
            var configuration = try PostgresConfiguration(url: url)
            if !cachingStatements { configuration.statementCacheCapacity = 0 }
            return try await PostgresConnection.connect(configuration)
        }

        func connectLibPQ() throws(LibPQ.Failure) -> LibPQ { try LibPQ(bare: url) }
    }

    let version: String
    let routes: [Route]

    static func with(_ url: String?, _ body: (ProtocolServer) async throws -> Void) async throws {
        if let url { return try await with([Route(name: "your URL", url: url)], body) }
        Progress.note("Starting a private PostgreSQL server ...")
        var options = PostgresEphemeralServer.Options()
        options.tls = try .generated()
        options.maxConnections = 1100
        try await PostgresEphemeralServer.withServer(options) { server in
            try await with(
                [
                    Route(name: "Unix socket", url: server.connectionURL(over: .unixSocket)),
                    Route(name: "TCP", url: server.connectionURL(over: .tcp, parameters: ["sslmode": "disable"])),
                    Route(
                        name: "TLS",
                        url: server.connectionURL(
                            over: .tcp, host: "localhost",
                            parameters: ["sslmode": "verify-full", "sslrootcert": server.rootCertificateFile])),
                ], body)
        }
    }

    private static func with(_ routes: [Route], _ body: (ProtocolServer) async throws -> Void) async throws {
        guard let route = routes.first else { return }
        let db = try await route.connect()
        let version = db.parameter("server_version") ?? "?"
        db.close()
        try await body(ProtocolServer(version: version, routes: routes))
    }
}
