import ArgumentParser
import Glibc
import Postgres
import PostgresTesting

/// Where to measure.
struct ServerOptions: ParsableArguments {
    @Option(
        help:
            "A server of yours, as postgresql://user:password@host:port/dbname. Default: a private one, made for this run."
    )
    var url: String?

    @Flag(help: "Let the private server wait for its disk at each commit (fsync and synchronous_commit on).")
    var durable = false

    func validate() throws {
        if durable, url != nil { throw ValidationError("--durable is for the private server only.") }
    }
}

/// A server with the table in a schema of this run's own.
struct BenchmarkServer: Sendable {
    enum Address: Sendable {
        /// The given URL, or the private server's Unix socket.
        case usual
        case tcp
    }

    let version: String
    let isPrivate: Bool
    private let url: String
    /// Nil when the URL is the user's: there is one way to reach it.
    private let tcpURL: String?
    private let schema: String

    var hasTCP: Bool { tcpURL != nil }

    /// Makes the schema, and removes it afterwards, with the server if that is private.
    static func with(_ options: ServerOptions, _ body: (BenchmarkServer) async throws -> Void) async throws {
        if let url = options.url { return try await with(url: url, tcpURL: nil, body) }
        Progress.note("Starting a private PostgreSQL server ...")
        var serverOptions = PostgresEphemeralServer.Options()
        serverOptions.isDurable = options.durable
        // For the comparison of one connection with 200.
        serverOptions.maxConnections = 250
        try await PostgresEphemeralServer.withServer(serverOptions) { server in
            try await with(
                url: server.connectionURL(over: .unixSocket), tcpURL: server.connectionURL(over: .tcp), body)
        }
    }

    private static func with(
        url: String, tcpURL: String?, _ body: (BenchmarkServer) async throws -> Void
    ) async throws {
        let schema = "upsert_bench_\(getpid())"
        let setup = try await PostgresConnection.connect(url)
        try await setup.execute("CREATE SCHEMA \(identifier: schema)")
        do {
            try await setup.execute("SET search_path TO \(identifier: schema)")
            try await setup.execute(StatsRow.createTable)
            try await body(
                BenchmarkServer(
                    version: setup.parameter("server_version") ?? "?", isPrivate: tcpURL != nil, url: url,
                    tcpURL: tcpURL, schema: schema))
        } catch {
            _ = try? await setup.execute("DROP SCHEMA \(identifier: schema) CASCADE")
            throw error
        }
        try await setup.execute("DROP SCHEMA \(identifier: schema) CASCADE")
        setup.close()
    }

    func connect(over address: Address = .usual) async throws(PostgresError) -> PostgresConnection {
        let db = try await PostgresConnection.connect(url(address))
        try await db.execute("SET search_path TO \(identifier: schema)")
        return db
    }

    /// For a pool. (Its connections do not look into the schema of this run.)
    func configuration() throws(PostgresError) -> PostgresConfiguration { try PostgresConfiguration(url: url) }

    func connectLibPQ(over address: Address = .usual) throws(LibPQ.Failure) -> LibPQ {
        try LibPQ(url(address), schema: schema)
    }

    /// To be called off the cooperative pool.
    func connectBlocking() throws(PostgresError) -> PostgresBlockingConnection {
        let db = try PostgresBlockingConnection.connect(url)
        try db.execute("SET search_path TO \(identifier: schema)")
        return db
    }

    private func url(_ address: Address) -> String {
        switch address {
        case .usual: url
        case .tcp: tcpURL ?? url
        }
    }
}
