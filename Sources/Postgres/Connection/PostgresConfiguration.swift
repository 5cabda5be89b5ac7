/// How to reach a server, and as whom. The names are libpq's.
public struct PostgresConfiguration: Sendable, Hashable {
    /// Whether TLS is used, and what is verified (libpq's `sslmode`).
    public enum SSLMode: String, Sendable, Hashable {
        /// No TLS.
        case disable
        /// TLS if the server offers it; nothing is verified.
        case prefer
        /// TLS or nothing. The chain is verified when `sslrootcert` is set.
        case require
        /// TLS, and the certificate must be of a trusted authority and of this very host.
        case verifyFull = "verify-full"
    }

    /// What cancelling a task does to its statement when that is on its way already.
    ///
    /// While it waits for its turn, it is never sent. Nor is a single statement of which no byte has left yet, because the server takes
    /// no more or others are to leave with it: unless it is the next in the queue, more than 64 others stand behind it, or one of those
    /// uses the prepared statement that this one was to prepare. Whatever else was encoded counts as on its way.
    public enum Cancellation: Sendable, Hashable {
        /// The task ends at once, with `cancelled` and the outcome `unknown`; the statement runs to its end, or to its deadline, and its
        /// result is thrown away. If it is part of a transaction that is then rolled back, it is cancelled before.
        case finish
        /// If the statement is the only one in flight, the server is asked to stop it (manual, "Canceling Requests in Progress"), and
        /// the task ends when the server has answered, at the latest after ``PostgresConfiguration/cancelTimeout``: with `cancelled` and
        /// the outcome `rejected` if the statement was stopped, with its result if it had ended before, with the outcome
        /// `unknown` if the server does not answer; then the connection is closed. With others in flight, as `finish`.
        case cancelRequest
    }

    /// A host name, an address, or the folder of a Unix socket, which begins with `/`.
    public var host: String
    /// The TCP port, or the number in the name of a Unix socket (`.s.PGSQL.5432`).
    public var port: Int
    /// The role to connect as.
    public var user: String
    /// Never part of a description or an error.
    public var password: String?
    /// The database; the user's name when nil.
    public var database: String?
    /// nil: Unix sockets plain, TCP to this machine `prefer`, other TCP hosts `require`, or `verify-full` when `sslrootcert`
    /// is set.
    public var sslmode: SSLMode?
    /// A file of trusted root certificates in PEM; with it, nothing but its roots is trusted. nil uses the system's.
    /// It is read again by the next connection after it has changed.
    public var sslrootcert: String?
    /// What `pg_stat_activity.application_name` and the log of the server show.
    public var applicationName: String?
    /// For name resolution, all addresses, TLS and authentication together; nil waits as long as the system does.
    public var connectTimeout: Duration?
    /// Sends a password in clear text without TLS if the server asks for that. Off: such a server gets nothing.
    public var allowsCleartextPassword: Bool
    /// How many rounds of PBKDF2 a server may demand of this client (SCRAM). Each costs about a microsecond.
    public var maximumSCRAMIterations: Int
    /// Statements kept prepared, least recently used first to go; 0 prepares under no name each time, for poolers that do not
    /// track statements.
    public var statementCacheCapacity: Int
    /// The bound for the rows of one buffered result, in bytes as they come from the server.
    public var maximumResultBytes: Int
    /// The longest message that is accepted from the server, in bytes.
    public var maximumMessageBytes: Int
    /// While replies come faster than this on average, a caller that is alone on a connection waits for its own reply on its own
    /// thread, at most 5 ms, instead of suspending: that costs a third. Zero lets every query suspend.
    public var callerReadsBelowLatency: Duration
    /// How long sent data may stay unacknowledged before the connection counts as broken (TCP_USER_TIMEOUT).
    public var tcpUserTimeout: Duration?
    /// How long a statement may take, from the moment its task begins to wait; a pipeline, and a transaction in one flight, as a whole.
    /// Of a stream, a cursor or a COPY it bounds each wait for the server, for they may take as long as they go on. It does not
    /// bound the wait for a notification. nil, the default, waits without bound. See
    /// ``withPostgresTimeout(_:_:)``, which bounds a whole piece of work, for what happens at the
    /// deadline. The server's own `statement_timeout`, among `parameters`, holds beside it.
    public var queryTimeout: Duration?
    /// How long a statement that is being cancelled may take to end, and how long to wait at least for ROLLBACK and the like when a
    /// task was cancelled or a deadline has passed; then the connection is closed.
    public var cancelTimeout: Duration
    /// What cancelling a task does to its statement when that is on its way already.
    public var cancellation: Cancellation
    /// Gets what the server remarks: `RAISE NOTICE`, warnings and the like (manual, "Reporting Errors and Messages"). nil, the
    /// default, costs nothing. It is called on a task of its own, in order, and often after the statement's own result; what is
    /// remarked while the session starts comes when that has succeeded. At most 64 notices wait for it, then the oldest go, which
    /// ``PostgresNotice/lostBefore`` tells.
    public var noticeHandler: (@Sendable (PostgresNotice) -> Void)? {
        get { notices?.handle }
        set { notices = newValue.map { NoticeHandler($0) } }
    }
    private var notices: NoticeHandler?
    /// Told of each operation; see ``PostgresObserver``. nil, the default, costs nothing.
    public var observer: (any PostgresObserver)? {
        get { observerHolder?.observer }
        set { observerHolder = newValue.map { ObserverHolder($0) } }
    }
    private var observerHolder: ObserverHolder?
    /// Further run-time parameters for the start of the session, such as `search_path`. `client_encoding`, `DateStyle` and
    /// `IntervalStyle` are set by the library, and are refused here.
    public var parameters: [String: String]
    /// The socket's send and receive buffers, for tests that fill them; nil leaves them to the system.
    var socketBufferBytes: Int?

    /// What is not a parameter here has its default, and can be set afterwards.
    public init(
        host: String = "localhost", port: Int = 5432, user: String, password: String? = nil, database: String? = nil,
        sslmode: SSLMode? = nil, sslrootcert: String? = nil
    ) {
        self.host = host
        self.port = port
        self.user = user
        self.password = password
        self.database = database
        self.sslmode = sslmode
        self.sslrootcert = sslrootcert
        applicationName = nil
        connectTimeout = .seconds(30)
        allowsCleartextPassword = false
        maximumSCRAMIterations = 100_000
        statementCacheCapacity = 256
        maximumResultBytes = 256 << 20
        maximumMessageBytes = 0x3FFF_FFFF
        callerReadsBelowLatency = .microseconds(200)
        tcpUserTimeout = .seconds(60)
        queryTimeout = nil
        cancelTimeout = .seconds(2)
        cancellation = .finish
        parameters = [:]
    }
}

extension PostgresConfiguration: CustomStringConvertible, CustomReflectable {
    /// `postgresql://user@host:port/database`, without the password.
    public var description: String { "postgresql://\(user)@\(host):\(port)/\(database ?? user)" }

    /// Without the password, so that no dump shows it.
    public var customMirror: Mirror {
        Mirror(self, children: ["host": host, "port": port, "user": user, "database": database ?? user])
    }
}

extension PostgresConfiguration {
    var isUnixSocket: Bool { host.hasPrefix("/") }

    /// What `sslmode` is when nothing was said.
    var effectiveSSLMode: SSLMode {
        if isUnixSocket { return .disable }
        if let sslmode { return sslmode }
        if sslrootcert != nil { return .verifyFull }
        return isLoopback ? .prefer : .require
    }

    private var isLoopback: Bool {
        host == "localhost" || host == "::1" || host == "[::1]"
            || (host.hasPrefix("127.") && host.allSatisfy { $0.isNumber || $0 == "." })
    }

    /// What can be said to be wrong before anything is tried.
    func check() throws(PostgresError) {
        func refuse(_ message: String) -> PostgresError { PostgresError(code: .invalidConfiguration, message: message) }
        if host.isEmpty { throw refuse("host is empty") }
        if user.isEmpty { throw refuse("user is empty") }
        if port < 1 || port > 65535 { throw refuse("port \(port) is not between 1 and 65535") }
        if queryTimeout ?? .zero < .zero { throw refuse("queryTimeout is negative") }
        if cancelTimeout < .zero { throw refuse("cancelTimeout is negative") }
        let fields = [
            ("host", host), ("user", user), ("password", password ?? ""), ("dbname", database ?? ""),
            ("application_name", applicationName ?? ""), ("sslrootcert", sslrootcert ?? ""),
        ]
        for (name, value) in fields where value.utf8.contains(0) { throw refuse("\(name) contains a NUL character") }
        for (name, value) in parameters {
            if name.isEmpty { throw refuse("a run-time parameter has no name") }
            if name.utf8.contains(0) || value.utf8.contains(0) {
                throw refuse("the parameter \(name) contains a NUL character")
            }
        }
    }
}
