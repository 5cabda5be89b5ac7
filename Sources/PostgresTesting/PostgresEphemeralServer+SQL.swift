import Glibc
import Synchronization

extension PostgresEphemeralServer {
    /// Runs SQL as the superuser by `psql`, for setting up a test: it shares no code with the client under test.
    ///
    /// - Returns: the rows, one a line, with columns separated by `|`.
    @discardableResult
    public func runSQL(
        _ sql: String, database: String = "postgres", timeout: Duration = .seconds(60)
    ) async throws(Failure) -> String {
        try await onOwnThread { [self] () throws(Failure) in
            try psql(sql, database: database, deadline: .now + timeout)
        }
    }

    /// Runs SQL by `psql` over a connection of the caller's choice, such as one of `connectionURL(...)`: what the
    /// server lets another client do.
    @discardableResult
    public func runSQL(
        _ sql: String, connectingTo connection: String, timeout: Duration = .seconds(60)
    ) async throws(Failure) -> String {
        try await onOwnThread { [self] () throws(Failure) in
            try psql(sql, connectingTo: connection, deadline: .now + timeout)
        }
    }

    /// `CREATE DATABASE`, with a new name unless one is given.
    ///
    /// - Returns: the name.
    @discardableResult
    public func createDatabase(_ name: String? = nil) async throws(Failure) -> String {
        let name = name ?? "test_\(UInt64.random(in: 0...UInt64.max))"
        try await runSQL("CREATE DATABASE \(try Self.quotedIdentifier(name))")
        return name
    }

    /// `CREATE ROLE`.
    public func createRole(_ role: Role) async throws(Failure) {
        try await runSQL(try Self.createRoleSQL(role))
    }

    func createInitialObjects() throws(Failure) {
        var sql = ""
        for role in options.roles { sql += try Self.createRoleSQL(role) }
        for database in options.databases { sql += "CREATE DATABASE \(try Self.quotedIdentifier(database));\n" }
        if !sql.isEmpty { _ = try psql(sql, database: "postgres", deadline: .now + .seconds(60)) }
    }

    func psql(_ sql: String, database: String, deadline: ContinuousClock.Instant) throws(Failure) -> String {
        let keywords = [("host", socketFolder), ("port", "\(port)"), ("user", superuser), ("dbname", database)]
        let connection = keywords.map { "\($0.0)=\(Self.connectionStringValue($0.1))" }.joined(separator: " ")
        return try psql(sql, connectingTo: connection, deadline: deadline)
    }

    private func psql(
        _ sql: String, connectingTo connection: String, deadline: ContinuousClock.Instant
    ) throws(Failure) -> String {
        let arguments = ["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d", connection]
        let result: ChildProcess.Output?
        do {
            result = try ChildProcess.run(
                installation.psql, arguments, environment: ChildProcess.environment + ["PGCLIENTENCODING=UTF8"],
                input: sql, deadline: deadline)
        } catch {
            throw Failure(.system, "\(error.program): \(String(cString: strerror(error.errorNumber)))")
        }
        guard let result else { throw Failure(.sqlFailed, "psql did not end in time") }
        guard result.status == 0 else { throw Failure(.sqlFailed, result.errors) }
        return result.output.hasSuffix("\n") ? String(result.output.dropLast()) : result.output
    }

    private static func createRoleSQL(_ role: Role) throws(Failure) -> String {
        var sql = "SET standard_conforming_strings = on;\n"
        sql += "SET password_encryption = '\(role.passwordEncryption.rawValue)';\n"
        sql += "CREATE ROLE \(try quotedIdentifier(role.name)) \(role.attributes.joined(separator: " "))"
        if let password = role.password {
            guard !password.utf8.contains(0) else { throw Failure(.invalidOption, "a password holds a NUL") }
            sql += " PASSWORD '\(password.replacing("'", with: "''"))'"
        }
        return sql + ";\n"
    }

    private static func quotedIdentifier(_ name: String) throws(Failure) -> String {
        guard !name.isEmpty, !name.utf8.contains(0) else {
            throw Failure(.invalidOption, "a name is empty or holds a NUL")
        }
        return "\"" + name.replacing("\"", with: "\"\"") + "\""
    }

    /// A value in a `keyword='value'` connection string.
    private static func connectionStringValue(_ value: String) -> String {
        "'" + value.replacing("\\", with: "\\\\").replacing("'", with: "\\'") + "'"
    }
}
