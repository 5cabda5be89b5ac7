extension PostgresEphemeralServer {
    /// What a server is made with; the defaults make one that trusts every local user.
    public struct Options: Sendable {
        /// The folder of `initdb` and `postgres`. Nil: the environment's `POSTGRES_BIN`, or else found by itself.
        public var binFolder: String?
        /// Where the server's folder is made. Nil: `TMPDIR`, or `/tmp`. A path too long for a Unix socket, or closed
        /// to the server's user, is replaced by `/tmp`. `/dev/shm` starts several times faster where disks are slow.
        public var temporaryFolder: String?
        /// The superuser made by `initdb`.
        public var superuser = "postgres"
        /// Arguments of `initdb` besides the folder, the superuser, `--auth=trust` and `--no-sync`.
        public var initdbArguments = ["--encoding=UTF8", "--locale=C"]
        /// Configuration parameters, by name, that override all others.
        public var settings: [String: String] = [:]
        /// The parameter `max_connections`.
        public var maxConnections = 100
        /// Whether commits survive `kill()`, `stop(.immediate)` and a power cut (`fsync`, `synchronous_commit`,
        /// `full_page_writes`). Slower.
        public var isDurable = false
        /// The rules of `pg_hba.conf`, after one that lets the superuser in over the Unix socket.
        public var hbaRules: [HBARule] = HBARule.trustLocal
        /// Roles to create.
        public var roles: [Role] = []
        /// Databases to create, owned by the superuser.
        public var databases: [String] = []
        /// Certificates; nil leaves TLS off.
        public var tls: TLS?
        /// How long `initdb` and the start together may take.
        public var startTimeout: Duration = .seconds(120)
        /// The user the server runs as when this process is root. Nil: `postgres` if there is such a user, or `nobody`.
        public var serverUser: String?

        /// The defaults.
        public init() {}
    }

    /// A role to create.
    public struct Role: Sendable {
        /// How the server keeps a password: the parameter `password_encryption`.
        public enum PasswordEncryption: String, Sendable {
            case scramSHA256 = "scram-sha-256"
            case md5
        }

        /// The name, unquoted.
        public var name: String
        /// The password; nil for a role that cannot log in by one.
        public var password: String?
        /// How the server keeps the password.
        public var passwordEncryption = PasswordEncryption.scramSHA256
        /// Options of `CREATE ROLE`, as SQL: `LOGIN`, `SUPERUSER`, `CONNECTION LIMIT 1` ...
        public var attributes: [String]

        /// A role, by default one that may log in.
        public init(
            _ name: String, password: String? = nil, encryption: PasswordEncryption = .scramSHA256,
            attributes: [String] = ["LOGIN"]
        ) {
            self.name = name
            self.password = password
            self.passwordEncryption = encryption
            self.attributes = attributes
        }
    }

    static func initialSettings(_ options: Options, port: UInt16, folder: String) -> [String: String] {
        let durability = options.isDurable ? "on" : "off"
        var settings = [
            "port": "\(port)",
            "listen_addresses": "127.0.0.1",
            // Double quotes: the value is a list, and the folder may contain a comma.
            "unix_socket_directories": "\"\(folder)\"",
            "max_connections": "\(options.maxConnections)",
            "fsync": durability,
            "synchronous_commit": durability,
            "full_page_writes": durability,
            // Files in the data folder: a killed server then leaves nothing in /dev/shm.
            "dynamic_shared_memory_type": "mmap",
            // We look for messages in the log, and everything is to be in one.
            "lc_messages": "C",
            "logging_collector": "off",
            "log_destination": "stderr",
        ]
        settings.merge(tlsSettings(options.tls, folder: folder)) { _, new in new }
        settings.merge(options.settings) { _, new in new }
        return settings
    }
}
