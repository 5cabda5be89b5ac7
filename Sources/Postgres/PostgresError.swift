/// The one error of this library: what happened, what the server said, and what is known of the statement's effect.
///
/// A code is a pattern, so no cast and no `if` is needed:
/// ```swift
/// do { try await db.execute("INSERT INTO users (name) VALUES (\(name))") }
/// catch .uniqueViolation { print("taken") }
/// catch { print(error.code, error.outcome, error.constraint ?? "-") }
/// ```
/// End such a `do` with a plain `catch`: without one, Swift 6.3's compiler crashes on a typed error that is passed on untyped.
///
/// The library puts no password and no parameter's value into an error. The server's message may quote a value; its `detail`
/// and context, which can quote rows, are in `debugDescription` only.
public struct PostgresError: Error, Sendable {
    /// What is known of the effect of the statement that failed.
    public enum Outcome: Sendable, Hashable {
        /// Nothing was sent: running it again is safe.
        case notSent
        /// The server refused it, and rolled it back.
        case rejected
        /// It was not run, because an earlier statement of the same atomic group failed.
        case aborted
        /// The server ran it; what failed is reading its answer on this side.
        case succeeded
        /// It was sent and no acknowledgement came. It may have taken effect or not.
        case unknown
    }

    /// The fields of a server's ErrorResponse (manual, "Error and Notice Message Fields").
    public struct Server: Sendable, Hashable {
        /// `ERROR`, `FATAL` or `PANIC`, not localized.
        public var severity: String
        /// The five characters of the SQLSTATE.
        public var sqlState: String
        /// The primary message.
        public var message: String
        /// May quote row data.
        public var detail: String?
        /// The server's advice.
        public var hint: String?
        /// Where in the SQL text, in characters from 1.
        public var position: Int?
        /// Where in `internalQuery`, in characters from 1.
        public var internalPosition: Int?
        /// The statement that failed inside a function, such as one of PL/pgSQL.
        public var internalQuery: String?
        /// The call stack of PL/pgSQL functions and the like.
        public var context: String?
        /// The schema of the object the error is about.
        public var schema: String?
        /// The table the error is about.
        public var table: String?
        /// The column the error is about.
        public var column: String?
        /// The data type the error is about.
        public var dataType: String?
        /// The constraint that was violated, or the unique index that is no constraint.
        public var constraint: String?
        /// The source file of the server that reported it.
        public var file: String?
        /// The line in `file`.
        public var line: String?
        /// The function of the server that reported it.
        public var routine: String?

        /// The fields that every error has; the others are set afterwards.
        public init(severity: String, sqlState: String, message: String) {
            self.severity = severity
            self.sqlState = sqlState
            self.message = message
        }
    }

    private final class Storage: Sendable {
        let code: Code
        let message: String
        let outcome: Outcome
        let server: Server?
        let sql: String?
        let hint: String?
        let underlying: (any Error)?

        init(
            code: Code, message: String, outcome: Outcome, server: Server?, sql: String?, hint: String?,
            underlying: (any Error)?
        ) {
            self.code = code
            self.message = message
            self.outcome = outcome
            self.server = server
            self.sql = sql
            self.hint = hint
            self.underlying = underlying
        }
    }

    // One reference: a typed throw of it costs one register.
    private let storage: Storage

    /// An error of your own, for example from a custom codec or a row's `init(row:)`.
    public init(
        code: Code, message: String, outcome: Outcome = .notSent, server: Server? = nil, sql: String? = nil,
        hint: String? = nil, underlying: (any Error)? = nil
    ) {
        storage = Storage(
            code: code, message: message, outcome: outcome, server: server, sql: sql, hint: hint, underlying: underlying
        )
    }

    /// An SQLSTATE, or one of the library's own codes, which begin with `client.`.
    public var code: Code { storage.code }
    /// The primary message.
    public var message: String { storage.message }
    /// What is known of the effect of the statement that failed.
    public var outcome: Outcome { storage.outcome }
    /// What the server reported; nil when the failure is on this side.
    public var server: Server? { storage.server }
    /// The SQL text, without values.
    public var sql: String? { storage.sql }
    /// What to do about it: the server's hint, or ours.
    public var hint: String? { storage.hint ?? storage.server?.hint }
    /// The server's detail. May quote row data.
    public var detail: String? { storage.server?.detail }
    /// The constraint that was violated.
    public var constraint: String? { storage.server?.constraint }
    /// The table the error is about, when the server named it.
    public var table: String? { storage.server?.table }
    /// The column the error is about, when the server named it.
    public var column: String? { storage.server?.column }
    /// Where in the SQL text, in characters from 1.
    public var position: Int? { storage.server?.position }
    /// The SQLSTATE, when the server reported the error.
    public var sqlState: String? { storage.server?.sqlState }
    /// The lower-level error that caused this one.
    public var underlying: (any Error)? { storage.underlying }

    /// The same error with other circumstances; nil keeps what there is.
    public func with(outcome: Outcome? = nil, message: String? = nil, sql: String? = nil, hint: String? = nil) -> Self {
        PostgresError(
            code: code, message: message ?? self.message, outcome: outcome ?? self.outcome, server: server,
            sql: sql ?? self.sql, hint: hint ?? storage.hint, underlying: underlying)
    }

    /// The same error with the statement it is about, if it does not name one. What ends a wait or a connection knows of none.
    func naming(_ sql: @autoclosure () -> String?) -> Self { self.sql == nil ? with(sql: sql()) : self }
}

/// Lets `catch .uniqueViolation` match by code.
public func ~= (code: PostgresError.Code, error: PostgresError) -> Bool { error.code == code }

extension PostgresError: CustomStringConvertible, CustomDebugStringConvertible {
    /// One line: severity or code, SQLSTATE, message, where, hint, and what is known of the effect.
    public var description: String {
        var text = ""
        if let server {
            text = "\(server.severity) \(server.sqlState)"
            if let name = code.conditionName { text += " (\(name))" }
            text += ": \(message)"
            if let constraint { text += "; constraint \"\(constraint)\"" }
            if let table { text += "; table \"\(table)\"" }
            if let column { text += "; column \"\(column)\"" }
            if let position { text += "; at character \(position)" }
        } else {
            text = "\(code.rawValue): \(message)"
        }
        if let hint { text += "; hint: \(hint)" }
        if let sql { text += "; in: \(sql.count > 300 ? sql.prefix(300) + "..." : sql[...])" }
        return text + " [\(outcomeText)]"
    }

    /// Everything known, the server's `detail` and context included, which may quote row data.
    public var debugDescription: String {
        var text = description
        if let detail { text += "\n  detail: \(detail)" }
        if let context = server?.context { text += "\n  context: \(context)" }
        if let routine = server?.routine { text += "\n  routine: \(routine)" }
        if let underlying { text += "\n  underlying: \(underlying)" }
        return text
    }

    private var outcomeText: String {
        switch outcome {
        case .notSent: "not sent"
        case .rejected: "rejected by the server"
        case .aborted: "not run: an earlier statement of its group failed"
        case .succeeded: "the statement took effect"
        case .unknown: "effect unknown"
        }
    }
}
