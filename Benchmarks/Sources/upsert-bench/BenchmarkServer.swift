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
    /// As the server has them.
    let settings: [Setting]
    private let url: String
    /// Nil when the URL is the user's: there is one way to reach it.
    private let tcpURL: String?
    let schema: String
    /// What a proxy has to reach.
    private let proxied: ProxiedServer

    var hasTCP: Bool { tcpURL != nil }

    /// How many connections it should let in: not all, for the server keeps some back, and may be somebody else's, too.
    var freeConnections: Int {
        settings.first { $0.name == "max_connections" }.flatMap { Int($0.value) }.map { $0 * 9 / 10 } ?? .max
    }

    struct Setting: Sendable {
        let name: String
        let value: String
    }

    /// What decides how fast upserts are.
    private static let settingNames = [
        "fsync", "synchronous_commit", "full_page_writes", "wal_level", "wal_sync_method", "shared_buffers",
        "max_wal_size",
        "checkpoint_timeout", "autovacuum", "default_transaction_isolation", "max_connections", "jit", "ssl",
    ]

    /// Makes the schema, and removes it afterwards, with the server if that is private.
    static func with(_ options: ServerOptions, _ body: (BenchmarkServer) async throws -> Void) async throws {
        if let url = options.url { return try await with(url: url, tcpURL: nil, body) }
        try await withPrivate(isDurable: options.durable, body)
    }

    /// - Parameter isDurable: whether it waits for its disk at each commit.
    static func withPrivate(isDurable: Bool, _ body: (BenchmarkServer) async throws -> Void) async throws {
        Progress.note("Starting a private PostgreSQL server \(isDurable ? "that waits for its disk " : "")...")
        var options = PostgresEphemeralServer.Options()
        options.isDurable = isDurable
        // For 50 workers of each kind, and the comparison of one connection with 200.
        options.maxConnections = 300
        try await PostgresEphemeralServer.withServer(options) { server in
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
            try await setup.execute(Counter.createTable)
            var settings: [Setting] = []
            for name in settingNames {
                let value = try await setup.query("SELECT current_setting(\(name), true)", as: String?.self).one()
                if let value { settings.append(Setting(name: name, value: value)) }
            }
            try await body(
                BenchmarkServer(
                    version: setup.parameter("server_version") ?? "?", isPrivate: tcpURL != nil, settings: settings,
                    url: url, tcpURL: tcpURL, schema: schema, proxied: try ProxiedServer(url: tcpURL ?? url)))
        } catch {
            _ = try? await setup.execute("DROP SCHEMA \(identifier: schema) CASCADE")
            throw error
        }
        try await setup.execute("DROP SCHEMA \(identifier: schema) CASCADE")
        setup.close()
    }

    func connect(
        over address: Address = .usual, observer: (any PostgresObserver)? = nil
    ) async throws(PostgresError) -> PostgresConnection {
        var configuration = try PostgresConfiguration(url: url(address))
        configuration.observer = observer
        let db = try await PostgresConnection.connect(configuration)
        try await db.execute("SET search_path TO \(identifier: schema)")
        return db
    }

    /// For a pool.
    func configuration() throws(PostgresError) -> PostgresConfiguration {
        var configuration = try PostgresConfiguration(url: url)
        configuration.parameters["search_path"] = schema
        return configuration
    }

    /// - Parameter parameters: for its sessions.
    func pool(of connections: Int, parameters: [String: String] = [:]) throws(PostgresError) -> PostgresClient {
        var options = PostgresClient.Options()
        options.maximumConnections = connections
        var configuration = try configuration()
        for (name, value) in parameters { configuration.parameters[name] = value }
        return PostgresClient(configuration, pool: options)
    }

    /// The same server behind a proxy over TCP that keeps every byte for half of the time, each way. What the way from the proxy to a
    /// server of the user's takes comes on top.
    func delayed(by roundTrip: Duration) throws -> (server: BenchmarkServer, proxy: PostgresFaultProxy) {
        let proxy = try PostgresFaultProxy(to: proxied.place)
        var faults = PostgresFaultProxy.Faults()
        faults.toServer.delay = roundTrip / 2
        faults.toClient.delay = roundTrip / 2
        proxy.faults = faults
        let url = proxied.url(by: proxy)
        let server = BenchmarkServer(
            version: version, isPrivate: isPrivate, settings: settings, url: url, tcpURL: url, schema: schema,
            proxied: proxied)
        return (server, proxy)
    }

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
