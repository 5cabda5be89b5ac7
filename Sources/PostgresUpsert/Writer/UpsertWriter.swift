public import Postgres

/// Gathers the upserts of any number of tasks into few statements.
///
/// ```swift
/// let writer = UpsertWriter(client, PageStats.bump)
/// ...
/// try await writer.upsert(PageStats(path: "/", hits: 1))     // in each of a thousand tasks
/// ```
/// A row joins the flight that is forming. The flight leaves when the one before it has returned, as one statement, sorted by key:
/// there is no timer (after a flight of several the writer yields once, so that their callers can come back first), and a writer that is alone waits for nobody. So the rows of a flight cost one commit.
///
/// Each caller gets its own result, when the flight has committed. A row that the server refuses (a check, a type, a trigger) fails
/// its own caller only: the flight is split until the row is found. Deadlocks and serialization failures are run again.
///
/// Two rows of one key in a flight: what ``Upsert/duplicates(_:)`` says holds, and each of their callers gets the result of the row
/// that was sent for them. Without it the second goes with the next flight, so that the result is that of single statements, in the
/// order in which they came; hot keys then gain little, so say how their rows are merged:
///
/// ```swift
/// let merged = PageStats.bump.duplicates(.merge { PageStats(path: $0.path, hits: $0.hits + $1.hits) })
/// ```
///
/// It holds as many rows as ``UpsertWriterOptions/maximumWaiting`` says, of all callers together; whoever comes with one more stands in
/// line. So no producer, one task or many sequences, gets ahead of the server without bound.
///
/// Of an upsert of which something is asked each row carries its number, so that a row which a trigger suppresses is `notWritten` for
/// its own caller. A BEFORE trigger on the table must then not do such an upsert into it; and a function of the database
/// (``UpsertFunction``) answers as it was made, where a suppressed row is an error of its flight.
///
/// A flight is a transaction of its own, so there is no writer on a `PostgresTransaction`.
///
/// SQL: that of the upsert, for one row or for many.
public final class UpsertWriter<Row: PostgresTable, Output: Sendable>: Sendable {
    typealias Passenger = WriterPassenger<Row, Output>

    let options: UpsertWriterOptions
    let table: String
    /// Runs rows as one statement; nil when nothing was asked about them.
    let run: @Sendable ([Row]) async throws(PostgresError) -> [Output]?
    /// What is wrong with the upsert whatever the rows are.
    let declarationError: @Sendable () -> PostgresError?
    /// By what equal rows are known; nil for one that may fly with any other.
    let key: @Sendable (Row) -> [UInt8]?
    let state: WriterState

    /// A writer over a pool: each flight takes a connection.
    public convenience init(
        _ client: PostgresClient, _ upsert: Upsert<Row, Output>, options: UpsertWriterOptions = .init()
    ) {
        self.init(over: client, upsert, options)
    }

    /// A writer over a connection, which others may use at the same time.
    public convenience init(
        _ connection: PostgresConnection, _ upsert: Upsert<Row, Output>, options: UpsertWriterOptions = .init()
    ) {
        self.init(over: connection, upsert, options)
    }

    private convenience init(
        over executor: some PostgresExecutor, _ upsert: Upsert<Row, Output>, _ options: UpsertWriterOptions
    ) {
        // The flight itself is run again, and counted.
        // Others' rows must not suffer for one that a trigger suppresses.
        let upsert = upsert.retry(.never).numberingRows()
        self.init(
            table: Row.table.name, options: options, declarationError: { upsert.error },
            key: { upsert.flightKey(of: $0) },
            run: { (rows) async throws(PostgresError) in
                if let error = upsert.error { throw error }
                guard rows.count != 1 else { return Array(try await executor.upsert(upsert(rows[0]))) }
                return Array(try await executor.upsert(upsert.rows(rows)))
            })
    }

    /// A writer over a pool that asks nothing about its rows.
    public convenience init(
        _ client: PostgresClient, _ upsert: Upsert<Row, Output>, options: UpsertWriterOptions = .init()
    ) where Output == Never {
        self.init(counting: client, upsert, options)
    }

    /// A writer over a connection that asks nothing about its rows.
    public convenience init(
        _ connection: PostgresConnection, _ upsert: Upsert<Row, Output>, options: UpsertWriterOptions = .init()
    ) where Output == Never {
        self.init(counting: connection, upsert, options)
    }

    private convenience init(
        counting executor: some PostgresExecutor, _ upsert: Upsert<Row, Never>, _ options: UpsertWriterOptions
    ) where Output == Never {
        let upsert = upsert.retry(.never)
        self.init(
            table: Row.table.name, options: options, declarationError: { upsert.error },
            key: { upsert.flightKey(of: $0) },
            run: { (rows) async throws(PostgresError) in
                // A lone row may do what several could not, and is told all the same.
                if let error = upsert.error { throw error }
                if rows.count == 1 {
                    try await executor.upsert(upsert(rows[0]))
                } else {
                    try await executor.upsert(upsert.rows(rows))
                }
                return nil
            })
    }

    /// Over anything that runs rows; for tests.
    init(
        table: String, options: UpsertWriterOptions = .init(),
        declarationError: @escaping @Sendable () -> PostgresError? = { nil },
        key: @escaping @Sendable (Row) -> [UInt8]? = { _ in nil },
        run: @escaping @Sendable ([Row]) async throws(PostgresError) -> [Output]?
    ) {
        self.table = table
        self.options = options
        self.declarationError = declarationError
        self.key = key
        self.run = run
        state = WriterState(limit: options.maximumWaiting)
    }

    /// Upserts a row with the next flight, and tells what became of it.
    ///
    /// - Throws: the row's own error; that of the flight when it was not about a row; at once `cancelled`, when the task is cancelled,
    ///   or `timedOut`, when the time of ``withPostgresTimeout(_:_:)`` is up: `.notSent` before its flight has left, `.unknown` after;
    ///   `writerShutDown`.
    @discardableResult
    public func upsert(_ row: Row) async throws(PostgresError) -> Output {
        guard let output = try await handIn(row) else { throw noOutput }
        return output
    }

    /// Waits until every row that was handed in before has landed, well or badly. A cancelled task waits no longer, nor does one whose
    /// time is up.
    public func flush() async {
        let state = state
        let number = state.withLock { $0.queue.markNumber() }
        await waitToBeTold { (tell: @escaping @Sendable (()) -> Void) in
            state.change { $0.queue.mark(number) { tell(()) } }
        } leave: { _, _ in
            state.change { $0.queue.leaveMark(number) }
        }
    }

    /// Takes no further rows (`writerShutDown`), and waits until those handed in have landed. The connection or the pool stays open.
    public func shutdown() async {
        state.withLock { $0.isShutDown = true }
        await flush()
    }

    /// What it has done so far.
    public var statistics: UpsertWriterStatistics {
        state.withLock { state in
            var statistics = state.statistics
            statistics.waiting = state.queue.waiting
            statistics.flying = state.queue.flying
            statistics.postponedRows = state.queue.postponed
            return statistics
        }
    }
}

extension UpsertWriter where Output == Never {
    /// Upserts a row with the next flight; returns when that has committed.
    ///
    /// - Throws: the row's own error; that of the flight when it was not about a row; at once `cancelled`, when the task is cancelled,
    ///   or `timedOut`, when the time of ``withPostgresTimeout(_:_:)`` is up: `.notSent` before its flight has left, `.unknown` after;
    ///   `writerShutDown`.
    public func upsert(_ row: Row) async throws(PostgresError) { _ = try await handIn(row) }
}

extension UpsertWriter {
    private func handIn(_ row: Row) async throws(PostgresError) -> Output? {
        let passenger = Passenger(row, key: key(row))
        await waitToBeTold { (tell: @escaping @Sendable (()) -> Void) in
            add(passenger, told: { tell(()) })
        } leave: {
            self.leave(passenger, $0, $1)
        }
        return try passenger.outcome.get()
    }

    /// Takes a row; `entered` is called once, when there is room for it, and then `told`, when its outcome is known.
    func add(
        _ passenger: Passenger, entered: FlightQueue.Signal? = nil, told: @escaping FlightQueue.Signal
    ) {
        let needsPilot = state.change { state -> Bool? in
            if state.isShutDown { return nil }
            state.statistics.rows &+= 1
            return state.queue.add(passenger, entered: entered, told: told)
        }
        guard let needsPilot else {
            passenger.outcome = .failure(shutDown)
            entered?()
            return told()
        }
        if needsPilot { start() }
    }

    /// Whoever waits for the row is told so, and waits no longer.
    private func leave(_ passenger: Passenger, _ code: PostgresError.Code, _ reason: String) {
        state.change { state in
            guard let isFlying = state.queue.leave(passenger) else { return }
            passenger.outcome = .failure(
                PostgresError(
                    code: code, message: "table \"\(table)\": \(reason) while a row waited for its flight",
                    outcome: isFlying ? .unknown : .notSent))
        }
    }

    private var shutDown: PostgresError {
        PostgresError(
            code: .writerShutDown, message: "the writer of table \"\(table)\" was shut down",
            hint: "shutdown() is for the end of the program; flush() waits and goes on")
    }

    private var noOutput: PostgresError {
        PostgresError(
            code: .rowCount, message: "table \"\(table)\": nothing is known of the row: the server returned none",
            outcome: .succeeded)
    }
}

extension PostgresError.Code {
    /// The writer takes no rows any more. Nothing was sent.
    public static let writerShutDown = Self("client.writerShutDown")
}
