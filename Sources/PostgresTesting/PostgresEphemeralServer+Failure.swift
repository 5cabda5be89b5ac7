extension PostgresEphemeralServer {
    /// Why a server could not be found, made, changed or stopped.
    public struct Failure: Error, CustomStringConvertible {
        /// The kind of a failure; more may be added.
        public struct Code: Sendable, Hashable {
            private enum Kind {
                case notInstalled, invalidOption, initdbFailed, startFailed, stopFailed, sqlFailed,
                    configurationRejected, removed, system
            }
            private let kind: Kind

            /// No PostgreSQL server was found; the message says where it was looked for.
            public static let notInstalled = Code(kind: .notInstalled)
            /// An option has no possible meaning, such as a name with a NUL in it.
            public static let invalidOption = Code(kind: .invalidOption)
            /// `initdb` failed.
            public static let initdbFailed = Code(kind: .initdbFailed)
            /// The server ended at its start, or was not ready in time.
            public static let startFailed = Code(kind: .startFailed)
            /// The server did not stop in time.
            public static let stopFailed = Code(kind: .stopFailed)
            /// SQL given to `psql` failed.
            public static let sqlFailed = Code(kind: .sqlFailed)
            /// The server did not accept a new configuration.
            public static let configurationRejected = Code(kind: .configurationRejected)
            /// The server was removed.
            public static let removed = Code(kind: .removed)
            /// The operating system refused something: a process, a file, a port.
            public static let system = Code(kind: .system)
        }

        /// The kind of failure.
        public var code: Code
        /// What happened, for a reader.
        public var message: String
        /// The last lines of the server's log, when it says why.
        public var serverLog: String

        init(_ code: Code, _ message: String, serverLog: String = "") {
            self.code = code
            self.message = message
            self.serverLog = serverLog
        }

        public var description: String {
            serverLog.isEmpty ? message : "\(message)\nserver log:\n\(serverLog)"
        }
    }

    /// The last lines of the log, of what was written after `offset`.
    static func logTail(of folder: String, from offset: Int = 0) -> String {
        let log = (File.read(folder + "/server.log") ?? "").utf8.dropFirst(offset)
        return String(decoding: log, as: UTF8.self).split(separator: "\n").suffix(40).joined(separator: "\n")
    }
}
