extension PostgresError {
    /// What went wrong: an SQLSTATE (`23505`) or one of the library's own codes (`client.cancelled`). An open set: compare, do
    /// not enumerate.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let rawValue: String

        public init(_ rawValue: String) { self.rawValue = rawValue }

        public var description: String { conditionName.map { "\(rawValue) (\($0))" } ?? rawValue }
    }
}

/// Failures on this side of the wire.
extension PostgresError.Code {
    /// The task was cancelled. The outcome says whether the statement had been sent.
    public static let cancelled = Self("client.cancelled")
    /// The connection was already closed, by `close()` or by an earlier failure.
    public static let connectionClosed = Self("client.connectionClosed")
    /// The connection broke while the statement was on its way.
    public static let connectionLost = Self("client.connectionLost")
    /// No connection could be made: refused, unreachable, name not found.
    public static let cannotConnect = Self("client.cannotConnect")
    /// A deadline passed.
    public static let timedOut = Self("client.timedOut")
    /// TLS failed, or was required and not offered.
    public static let tls = Self("client.tls")
    /// The client and the server could not agree on authentication, or a safety rule of the client refused it.
    public static let authentication = Self("client.authentication")
    /// The server broke the protocol; the connection is closed.
    public static let brokenProtocol = Self("client.brokenProtocol")
    /// A connection string or an option that cannot be used.
    public static let invalidConfiguration = Self("client.invalidConfiguration")
    /// An argument that cannot be sent: a NUL in a string, too many parameters, a value out of range.
    public static let invalidArgument = Self("client.invalidArgument")
    /// NULL in a column read as a non-optional type.
    public static let unexpectedNull = Self("client.unexpectedNull")
    /// A value that its Swift type cannot hold, or bytes that are not of the column's type.
    public static let cannotDecode = Self("client.cannotDecode")
    /// The column's SQL type has no decoder for the Swift type asked for.
    public static let typeMismatch = Self("client.typeMismatch")
    /// No column of that name or number.
    public static let noSuchColumn = Self("client.noSuchColumn")
    /// The row type has another number of columns than the result.
    public static let columnCount = Self("client.columnCount")
    /// `one()` found no row, or more than one.
    public static let rowCount = Self("client.rowCount")
    /// A listener's notifications were read more slowly than they came, and its buffer is full.
    public static let notificationsLost = Self("client.notificationsLost")
    /// The result is larger than the configured bound.
    public static let resultTooLarge = Self("client.resultTooLarge")
    /// A transaction was used behind its end, or while one nested in it is open. Nothing was sent.
    public static let transactionEnded = Self("client.transactionEnded")
    /// What a COPY was to copy in could not be had: its source threw an error that is none of this library's. Only an observer is told
    /// this; the caller gets the source's own error.
    public static let sourceFailed = Self("client.sourceFailed")
    /// The statement does something that this call cannot do, such as COPY.
    public static let unsupported = Self("client.unsupported")
}
