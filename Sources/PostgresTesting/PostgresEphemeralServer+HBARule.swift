extension PostgresEphemeralServer {
    /// One record of `pg_hba.conf`: who may connect from where, and how they prove who they are.
    ///
    /// Fields are as in the file, so `all`, `+group` and lists with commas mean what they mean there. A string literal
    /// is a whole line.
    public struct HBARule: Sendable, Hashable, ExpressibleByStringLiteral {
        /// The line of the file.
        public var line: String

        /// A line as it stands in the file.
        public init(_ line: String) { self.line = line }

        public init(stringLiteral line: String) { self.line = line }

        /// `local`: connections over the Unix socket.
        public static func local(database: String = "all", user: String = "all", method: String) -> HBARule {
            HBARule("local \(database) \(user) \(method)")
        }

        /// `host`: TCP connections, with TLS or without.
        public static func host(
            database: String = "all", user: String = "all", address: String = "127.0.0.1/32", method: String
        ) -> HBARule {
            HBARule("host \(database) \(user) \(address) \(method)")
        }

        /// `hostssl`: TCP connections with TLS.
        public static func hostssl(
            database: String = "all", user: String = "all", address: String = "127.0.0.1/32", method: String
        ) -> HBARule {
            HBARule("hostssl \(database) \(user) \(address) \(method)")
        }

        /// `hostnossl`: TCP connections without TLS.
        public static func hostnossl(
            database: String = "all", user: String = "all", address: String = "127.0.0.1/32", method: String
        ) -> HBARule {
            HBARule("hostnossl \(database) \(user) \(address) \(method)")
        }

        /// Everybody may connect from this machine, also for replication.
        public static let trustLocal: [HBARule] = [
            .local(method: "trust"),
            .host(method: "trust"),
            .local(database: "replication", method: "trust"),
            .host(database: "replication", method: "trust"),
        ]

        /// Everybody on this machine must pass `method`: `scram-sha-256`, `md5`, `password`, `reject` ...
        public static func requireLocal(_ method: String) -> [HBARule] {
            [.local(method: method), .host(method: method)]
        }

        /// A name as one field of the file, without a special meaning.
        public static func quoted(_ name: String) -> String {
            "\"" + name.replacing("\"", with: "\"\"") + "\""
        }
    }
}
