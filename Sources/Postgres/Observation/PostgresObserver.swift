/// Told of what connections and pools do: the one place to attach logs, metrics and traces.
///
/// ```swift
/// struct SlowQueries: PostgresObserver {
///     func ended(_ operation: PostgresOperation, _ result: PostgresOperation.Result, _ context: (any Sendable)?) {
///         if result.duration > .seconds(1) { print(operation.sql ?? "\(operation.kind)", result.duration) }
///     }
/// }
/// configuration.observer = SlowQueries()
/// ```
/// `began` and `ended` are called by the task or thread that runs the operation, never under a lock; what they take,
/// the operation takes. Without an observer none of it costs anything.
///
/// Adapters are a few lines: a log line in `ended`; a counter and a timer by ``PostgresOperation/Kind``; a span that `began`
/// starts and returns, and `ended` gets back as `context` and ends.
public protocol PostgresObserver: Sendable {
    /// Whether operations carry their parameters' values, which can be secrets. False unless implemented.
    var wantsParameters: Bool { get }
    /// An operation begins.
    ///
    /// - Returns: what `ended` is to be handed.
    func began(_ operation: PostgresOperation) -> (any Sendable)?
    /// An operation ended, well or not.
    func ended(_ operation: PostgresOperation, _ result: PostgresOperation.Result, _ context: (any Sendable)?)
    /// Something happened in a pool that is no operation of a caller's. Called on a task of its own, perhaps a little later.
    func happened(_ event: PostgresPoolEvent)
}

extension PostgresObserver {
    public var wantsParameters: Bool { false }
    public func began(_ operation: PostgresOperation) -> (any Sendable)? { nil }
    public func ended(_ operation: PostgresOperation, _ result: PostgresOperation.Result, _ context: (any Sendable)?) {}
    public func happened(_ event: PostgresPoolEvent) {}
}

/// What an observer is told of.
public struct PostgresOperation: Sendable {
    /// What is done. The raw values are fit to be labels of metrics.
    ///
    /// Each operation is told once, and what a policy runs again, each time: statements in a transaction as themselves, and its
    /// COMMIT apart. Not told is what the library does on its own account: resets of a pool's sessions, savepoints, the ends of
    /// cursors, UNLISTEN, giving an advisory lock back, requests to cancel.
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// Making a connection: address, TLS, authentication.
        case connect
        /// Waiting for a connection of a pool.
        case acquire
        /// One statement, to its end.
        case query
        /// Several statements in one flight: a ``PostgresPipeline``, alone, as a transaction, or with the COMMIT that
        /// ``PostgresTransaction/commit(with:)-(PostgresPipeline)`` sends behind it. BEGIN, COMMIT and savepoints that go with them
        /// take part in its time, and are not counted among its statements.
        case pipeline
        /// Several statements in one text.
        case script
        /// Preparing a statement ahead of its use.
        case prepare
        /// Opening a stream of rows: until the server's first answer.
        case stream
        /// Opening a cursor, with its first rows; with hold, without rows.
        case cursor
        /// The next rows of a cursor.
        case fetch
        /// A COPY FROM STDIN, from its beginning to its end, the time of its source included.
        case copyIn
        /// Opening a COPY TO STDOUT: until the server's first answer. What is copied is read at the consumer's speed.
        case copyOut
        /// LISTEN, for one or several channels.
        case listen
        /// The COMMIT of a transaction whose body returned, if it sent anything.
        case commit
        /// The ROLLBACK of a transaction whose body threw, if it sent anything.
        case rollback
    }

    /// What is done.
    public let kind: Kind
    /// The statement's text with `$1` for its first parameter; the script; nil for what has no text of its own, or several: those
    /// of a pipeline are in ``pipelined``.
    public let sql: String?
    /// How many statements it is.
    public let statements: Int
    /// The server's address, as errors name it.
    public let server: String
    /// The database.
    public let database: String
    /// The role.
    public let user: String
    /// The parameters as they are sent, in text or binary form by their types, nil for NULL. Empty unless
    /// ``PostgresObserver/wantsParameters``.
    public let parameters: [[UInt8]?]
    /// The pipeline as it was made, of which `pipelined` tells: for an observer that does not look it costs nothing.
    var items: [PostgresPipeline.Item] = []
    var wantsParameters = false

    /// A statement of a pipeline.
    public struct Statement: Sendable {
        /// Its text with `$1` for its first parameter.
        public let sql: String
        /// As ``PostgresOperation/parameters``.
        public let parameters: [[UInt8]?]
    }

    /// The statements of a pipeline, in order; empty for all else. They are made at each look.
    public var pipelined: [Statement] {
        items.map { Statement(sql: $0.query.sql, parameters: wantsParameters ? $0.query.parameterBytes : []) }
    }

    /// How an operation ended.
    public struct Result: Sendable {
        /// From the call to its return, waiting included.
        public let duration: Duration
        /// Rows that came back; of a stream or a COPY out none are known yet.
        public let rows: Int
        /// Rows inserted, updated, deleted, selected or copied, by the command tags.
        public let affected: Int
        /// What went wrong: the SQLSTATE is its `code`. Of a pipeline the first error; of a transaction that was not committed, why.
        public let error: PostgresError?
        /// Round trips that ended on the connection meanwhile, others' included. The one that ends with a stream or a COPY may be
        /// counted a moment later, and then not here.
        public let roundTrips: Int
        /// How a pipeline's statements ended, in the order of ``PostgresOperation/pipelined``. Empty for other operations, and of a pipeline
        /// that failed as a whole, as when nothing of it was sent.
        public internal(set) var statements: [Statement] = []

        /// How one statement of a pipeline ended.
        public struct Statement: Sendable {
            /// Rows that came back.
            public let rows: Int
            /// Rows inserted, updated, deleted or selected, by the command tag.
            public let affected: Int
            /// Its error; where another one's error took it along, one that says so.
            public let error: PostgresError?
        }
    }
}

/// What happens in a pool by itself.
public enum PostgresPoolEvent: Sendable {
    /// A connection was closed, and why.
    case closed(PostgresClient.CloseReason)
    /// A connection is held for longer than ``PostgresClient/Options/leakTime``.
    case leak(PostgresClient.Leak)
}
