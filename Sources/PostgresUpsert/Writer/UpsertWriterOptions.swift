public import Postgres

/// Bounds of an `UpsertWriter`.
public struct UpsertWriterOptions: Sendable, Hashable {
    /// How many rows a flight takes at most.
    public var maximumRows: Int
    /// How many rows wait or fly at most, those of all callers together. Whoever comes with another stands in line, and of a sequence
    /// nothing more is read meanwhile; a flight holds no more than this, either.
    public var maximumWaiting: Int
    /// How a flight is run again that lost a deadlock (40P01) or a serialization failure (40001). Nothing of it took effect then.
    public var retry: PostgresTransaction.Retry

    public init(
        maximumRows: Int = 1000, maximumWaiting: Int = 10_000, retry: PostgresTransaction.Retry = .upTo(5)
    ) {
        self.maximumRows = maximumRows
        self.maximumWaiting = maximumWaiting
        self.retry = retry
    }
}

/// What an `UpsertWriter` has done.
public struct UpsertWriterStatistics: Sendable, Hashable {
    /// Rows handed in.
    public internal(set) var rows = 0
    /// Rows that failed, each with its own error or its flight's.
    public internal(set) var failedRows = 0
    /// Rows that had to let another of their key fly first.
    public internal(set) var postponedRows = 0
    /// Flights that have left.
    public internal(set) var flights = 0
    /// Statements tried: more than flights where one was split or run again, or where a value that cannot be encoded was found before
    /// anything was sent.
    public internal(set) var statements = 0
    /// How often a flight was split to find a row that the server refuses.
    public internal(set) var splits = 0
    /// How often a statement was run again after a deadlock or a serialization failure.
    public internal(set) var retries = 0
    /// Rows that wait now, in line or for their flight.
    public internal(set) var waiting = 0
    /// Rows on their way now.
    public internal(set) var flying = 0
    /// Rows a flight.
    public internal(set) var rowsPerFlight = PostgresHistogram()
    /// From handing in a row until it has landed, in nanoseconds.
    public internal(set) var wait = PostgresHistogram()

    init() {}
}
