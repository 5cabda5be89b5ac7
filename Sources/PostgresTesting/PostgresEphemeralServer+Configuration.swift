import Glibc
import PostgresTransport
import Synchronization

extension PostgresEphemeralServer {
    /// Reads the configuration files again, as `pg_ctl reload` does, and waits until the server has done so: sessions
    /// begun afterwards obey the new rules and settings.
    public func reload() async throws(Failure) {
        try await onOwnThread { [self] () throws(Failure) in
            try state.withLock { (_) throws(Failure) in try signalReload() }
        }
    }

    /// Replaces the rules of `pg_hba.conf`, but for the superuser's, and reloads. After an error the old rules stand.
    public func setHBARules(_ rules: [HBARule]) async throws(Failure) {
        try await onOwnThread { [self] () throws(Failure) in
            try state.withLock { (state) throws(Failure) in
                try Self.writeHBA(rules, options, user, folder: folder)
                do throws(Failure) { try signalReload() } catch {
                    try Self.writeHBA(state.hbaRules, options, user, folder: folder)
                    throw error
                }
                state.hbaRules = rules
            }
        }
    }

    /// Changes configuration parameters and reloads; those that need it take effect at the next `restart()`. After an
    /// error the old ones stand.
    ///
    /// - Parameter settings: a parameter that is nil goes back to its default.
    public func setSettings(_ settings: [String: String?]) async throws(Failure) {
        try await onOwnThread { [self] () throws(Failure) in
            try state.withLock { (state) throws(Failure) in
                var changed = state.settings
                for (name, value) in settings { changed[name] = value }
                try apply(changed, to: &state)
            }
        }
    }

    /// Changes the certificates, or turns TLS off, and reloads. After an error the old ones stand.
    public func setTLS(_ tls: TLS?) async throws(Failure) {
        try await onOwnThread { [self] () throws(Failure) in
            try state.withLock { (state) throws(Failure) in
                try Self.writeTLS(tls, user, folder: folder)
                let settings = state.settings.merging(Self.tlsSettings(tls, folder: folder)) { _, new in new }
                do throws(Failure) { try apply(settings, to: &state) } catch {
                    try Self.writeTLS(state.tls, user, folder: folder)
                    throw error
                }
                state.tls = tls
            }
        }
    }

    private func apply(_ settings: [String: String], to state: inout State) throws(Failure) {
        try Self.writeSettings(settings, user, folder: folder)
        do throws(Failure) { try signalReload() } catch {
            try Self.writeSettings(state.settings, user, folder: folder)
            throw error
        }
        state.settings = settings
    }

    /// Has the server check its files, then reload them. A session begun after the reload knows its time, so a new
    /// session each time is asked for it.
    private func signalReload() throws(Failure) {
        let deadline = ContinuousClock.now + .seconds(30)
        // The new value of a parameter that needs a restart is an error there, and is none to us.
        let problems = try psql(
            """
            SELECT 'pg_hba.conf, line ' || line_number || ': ' || error FROM pg_hba_file_rules WHERE error IS NOT NULL
            UNION ALL
            SELECT coalesce(name || ': ', '') || error FROM pg_file_settings WHERE error IS NOT NULL
            AND NOT EXISTS (SELECT FROM pg_settings s WHERE s.name = pg_file_settings.name AND context = 'postmaster')
            """, database: "postgres", deadline: deadline)
        guard problems.isEmpty else { throw Failure(.configurationRejected, problems) }

        let question = "SELECT pg_conf_load_time()"
        let before = try psql(question, database: "postgres", deadline: deadline)
        let logSize = File.size(folder + "/server.log")
        guard try send("signal HUP", deadline: deadline) == "status 0" else {
            throw Failure(.configurationRejected, "the server does not run")
        }
        while try psql(question, database: "postgres", deadline: deadline) == before {
            guard ContinuousClock.now < deadline else {
                let log = Self.logTail(of: folder, from: logSize)
                throw Failure(.configurationRejected, "the server did not reload in time", serverLog: log)
            }
            usleep(5000)
        }
        // What the views do not know: "SSL configuration was not reloaded", as for a key of another certificate.
        let log = Self.logTail(of: folder, from: logSize)
        if log.contains("was not reloaded") {
            throw Failure(.configurationRejected, "the server rejected its configuration", serverLog: log)
        }
    }

    static func writeConfiguration(
        _ settings: [String: String], _ rules: [HBARule], _ options: Options, _ user: ServerUser?, folder: String
    ) throws(Failure) {
        let main = folder + "/data/postgresql.conf"
        let include = "include 'ephemeral.conf'\n"
        guard let text = File.read(main) else { throw Failure(.initdbFailed, "\(main): \(lastError())") }
        if !text.hasSuffix(include) { try write(main, text + "\n" + include, user) }
        try writeSettings(settings, user, folder: folder)
        try writeHBA(rules, options, user, folder: folder)
        try writeTLS(options.tls, user, folder: folder)
    }

    static func writeSettings(_ settings: [String: String], _ user: ServerUser?, folder: String) throws(Failure) {
        var text = ""
        for (name, value) in settings.sorted(by: { $0.key < $1.key }) {
            guard !name.isEmpty, name.utf8.allSatisfy(isParameterNameByte), !value.utf8.contains(0) else {
                throw Failure(.invalidOption, "'\(name)' is not a configuration parameter or its value holds a NUL")
            }
            text += "\(name) = '\(escapedSetting(value))'\n"
        }
        try write(folder + "/data/ephemeral.conf", text, user)
    }

    private static func writeHBA(
        _ rules: [HBARule], _ options: Options, _ user: ServerUser?, folder: String
    ) throws(Failure) {
        let superuser = HBARule.local(user: HBARule.quoted(options.superuser), method: "trust")
        let lines = ([superuser] + rules).map(\.line)
        guard lines.allSatisfy({ !$0.utf8.contains(0) }) else {
            throw Failure(.invalidOption, "a rule for pg_hba.conf holds a NUL")
        }
        try write(folder + "/data/pg_hba.conf", lines.map { $0 + "\n" }.joined(), user)
    }

    static func write(_ path: String, _ content: String, _ user: ServerUser?) throws(Failure) {
        let error = File.replace(path, with: content, owner: user)
        guard error == 0 else { throw Failure(.system, "\(path): \(String(cString: strerror(error)))") }
    }

    private static func isParameterNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."):
            true
        default: false
        }
    }

    /// A quoted value of a configuration file is one line, with C's backslash escapes.
    private static func escapedSetting(_ value: String) -> String {
        var escaped = ""
        for character in value.unicodeScalars {
            switch character {
            case "'": escaped += "''"
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\r": escaped += "\\r"
            default: escaped.unicodeScalars.append(character)
            }
        }
        return escaped
    }
}
