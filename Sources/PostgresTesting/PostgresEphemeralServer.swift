import Glibc
import PostgresTransport
import Synchronization

/// A private PostgreSQL server for tests: made by `initdb` in a temporary folder, with its own port and socket, and
/// gone when this value goes away or the process ends, also when the process crashes or is killed.
///
/// ```swift
/// let server = try await PostgresEphemeralServer.start()
/// print(server.connectionURL(database: "postgres"))
/// await server.remove()
/// ```
///
/// It needs an installed PostgreSQL, for example Debian's package `postgresql`, and works as root too, by running the
/// server as another user.
public final class PostgresEphemeralServer: Sendable {
    /// The TCP port, on 127.0.0.1 and on the Unix socket's name.
    public let port: Int
    /// The major version, such as 15.
    public let majorVersion: Int
    /// The name of the superuser that `initdb` made; may connect over the Unix socket whatever the rules say.
    public let superuser: String
    /// The temporary folder with everything of this server.
    public var folder: String { supervisor.folder }
    /// The folder of the Unix socket, as `host` in a connection string.
    public var socketFolder: String { supervisor.folder }
    /// The data folder, with the configuration files.
    public var dataFolder: String { supervisor.folder + "/data" }

    let options: Options
    let installation: Installation
    let user: ServerUser?
    let supervisor: ServerSupervisor
    /// Locked for the whole of each operation, always on a thread of its own.
    let state: Lock<State>

    struct State {
        var settings: [String: String]
        var hbaRules: [HBARule]
        var tls: TLS?
        var postmaster: pid_t?
    }

    /// How a server is told to stop: the manual's "Shutting Down the Server".
    public enum ShutdownMode: Sendable, CaseIterable {
        /// Waits until every client has left.
        case smart
        /// Ends the sessions, then stops cleanly.
        case fast
        /// Stops at once, and recovers from the write-ahead log at the next start; the last commits are lost unless
        /// the server was made with `isDurable`.
        case immediate

        var signal: String {
            switch self {
            case .smart: "TERM"
            case .fast: "INT"
            case .immediate: "QUIT"
            }
        }
    }

    /// Makes a server and waits until it accepts connections.
    public static func start(_ options: Options = Options()) async throws(Failure) -> PostgresEphemeralServer {
        try await onOwnThread { () throws(Failure) in try PostgresEphemeralServer(options) }
    }

    /// Runs `body` with a server of its own and removes the server afterwards.
    public static func withServer<Result>(
        _ options: Options = Options(), _ body: (PostgresEphemeralServer) async throws -> Result
    ) async throws -> Result {
        let server = try await start(options)
        do {
            let result = try await body(server)
            await server.remove()
            return result
        } catch {
            await server.remove()
            throw error
        }
    }

    /// Makes a server and waits until it accepts connections. Blocks the thread; for code that is not asynchronous.
    public init(_ options: Options = Options()) throws(Failure) {
        let deadline = ContinuousClock.now + options.startTimeout
        let installation = try Self.installation(options.binFolder)
        let user = try Self.serverUser(options)
        let supervisor = try Self.supervisor(options, installation: installation, user: user)
        try Self.makeDataFolder(options, installation, user, in: supervisor, deadline: deadline)
        let major = File.read(supervisor.folder + "/data/PG_VERSION").flatMap { text in Int(text.prefix { $0 != "\n" })
        }
        guard let major, major >= 10 else {
            throw Failure(.initdbFailed, "PostgreSQL in \(installation.binFolder) is older than version 10")
        }

        var attempts = 0
        while true {
            guard let port = freePort() else { throw Failure(.system, "no free TCP port on 127.0.0.1") }
            let settings = Self.initialSettings(options, port: port, folder: supervisor.folder)
            try Self.writeConfiguration(settings, options.hbaRules, options, user, folder: supervisor.folder)
            do {
                let postmaster = try Self.startPostmaster(supervisor, deadline: deadline)
                self.port = Int(port)
                self.state = Lock(
                    State(
                        settings: settings, hbaRules: options.hbaRules, tls: options.tls, postmaster: postmaster))
                break
            } catch {
                // Another process may have taken the port since it was found free.
                attempts += 1
                if attempts < 5, error.serverLog.contains("Address already in use") { continue }
                throw error
            }
        }
        majorVersion = major
        superuser = options.superuser
        self.options = options
        self.installation = installation
        self.user = user
        self.supervisor = supervisor
        try createInitialObjects()
    }

    /// The process number of the running postmaster; nil while the server is stopped.
    public var processID: Int32? {
        get async { await onOwnThread { [self] in state.withLock { $0.postmaster } } }
    }

    /// Stops the server and waits until it has ended. Its data stay: `restart()` starts it again.
    ///
    /// - Parameter timeout: after it, an error is thrown, and the server may still be shutting down.
    public func stop(_ mode: ShutdownMode = .fast, timeout: Duration = .seconds(60)) async throws(Failure) {
        try await onOwnThread { [self] () throws(Failure) in
            try state.withLock { (state) throws(Failure) in
                try stopPostmaster(&state, mode, deadline: .now + timeout)
            }
        }
    }

    /// Ends the postmaster and its children by SIGKILL, as a crash would. `restart()` starts the server again, which
    /// recovers; the last commits are lost unless the server was made with `isDurable`.
    public func kill() async throws(Failure) {
        try await onOwnThread { [self] () throws(Failure) in
            try state.withLock { (state) throws(Failure) in
                _ = try send("kill", deadline: .now + .seconds(30))
                state.postmaster = nil
            }
        }
    }

    /// Stops the server, unless it is stopped or killed already, and starts it with the same data and port.
    public func restart(_ mode: ShutdownMode = .fast) async throws(Failure) {
        try await onOwnThread { [self] () throws(Failure) in
            try state.withLock { (state) throws(Failure) in
                let deadline = ContinuousClock.now + options.startTimeout
                try stopPostmaster(&state, mode, deadline: deadline)
                state.postmaster = try Self.startPostmaster(supervisor, deadline: deadline)
            }
        }
    }

    /// Stops the server at once and removes its folder; afterwards every other call fails. Also done, without waiting
    /// for it, when the last reference to the server goes away.
    public func remove() async {
        await onOwnThread { [supervisor] in supervisor.remove(deadline: .now + .seconds(30)) }
    }

    /// What the server has logged since it was made.
    public var serverLog: String {
        get async {
            await onOwnThread { [folder] in File.read(folder + "/server.log") } ?? ""
        }
    }

    func send(_ command: String, deadline: ContinuousClock.Instant) throws(Failure) -> String {
        do { return try supervisor.send(command, deadline: deadline) } catch {
            throw Failure(.removed, error.message)
        }
    }

    private func stopPostmaster(
        _ state: inout State, _ mode: ShutdownMode, deadline: ContinuousClock.Instant
    ) throws(Failure) {
        _ = try send("signal \(mode.signal)", deadline: .now + .seconds(10))
        while try send("state", deadline: .now + .seconds(10)) == "running" {
            guard ContinuousClock.now < deadline else {
                throw Failure(.stopFailed, "the server did not stop in time", serverLog: Self.logTail(of: folder))
            }
            usleep(5000)
        }
        state.postmaster = nil
    }

    /// Starts the postmaster and waits until its lock file says `ready`, which is also what `pg_ctl start` waits for:
    /// unlike an attempt to connect, it depends on no rule, certificate or free connection slot.
    private static func startPostmaster(
        _ supervisor: ServerSupervisor, deadline: ContinuousClock.Instant
    ) throws(Failure) -> pid_t {
        func send(_ command: String) throws(Failure) -> String {
            do { return try supervisor.send(command, deadline: .now + .seconds(10)) } catch {
                throw Failure(.removed, error.message)
            }
        }
        let logSize = File.size(supervisor.folder + "/server.log")
        let answer = try send("start")
        guard let processID = pid_t(answer.dropFirst("pid ".count)) else {
            throw Failure(.startFailed, "the supervisor process answered '\(answer)'")
        }
        while true {
            let lockFile = File.read(supervisor.folder + "/data/postmaster.pid") ?? ""
            let lines = lockFile.split(separator: "\n", omittingEmptySubsequences: false)
            if lines.count >= 8, lines[0] == "\(processID)",
                lines[7].hasPrefix("ready") || lines[7].hasPrefix("standby")
            {
                return processID
            }
            let state = try send("state")
            guard state == "running" else {
                let log = logTail(of: supervisor.folder, from: logSize)
                throw Failure(.startFailed, "the server ended at its start (\(state))", serverLog: log)
            }
            guard ContinuousClock.now < deadline else {
                _ = try send("kill")
                let log = logTail(of: supervisor.folder, from: logSize)
                throw Failure(.startFailed, "the server was not ready in time", serverLog: log)
            }
            usleep(5000)
        }
    }
}
