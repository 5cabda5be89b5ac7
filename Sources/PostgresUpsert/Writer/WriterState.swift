import Postgres

/// What the callers of a writer and its pilot share. Not generic: see ``FlightQueue/Guest``.
final class WriterState: Sendable {
    struct Contents: Sendable {
        var queue: FlightQueue
        var isShutDown = false
        var statistics = UpsertWriterStatistics()
    }

    private let contents: Lock<Contents>

    init(limit: Int) { contents = Lock(Contents(queue: FlightQueue(limit: limit))) }

    func withLock<Result: Sendable>(_ body: (inout Contents) -> Result) -> Result {
        contents.withLock { body(&$0) }
    }

    /// Changes the queue, and tells those whom it concerns, without the lock.
    @discardableResult
    func change<Result: Sendable>(_ change: (inout Contents) -> Result) -> Result {
        let (result, signals) = contents.withLock { contents in
            let result = change(&contents)
            return (result, contents.queue.takeSignals())
        }
        for signal in signals { signal() }
        return result
    }
}

/// A row on its way through a writer, and what became of it.
///
/// Safe to share: `outcome` is written once, before whoever waits for the row is told, and read by nobody else.
final class WriterPassenger<Row: Sendable, Output: Sendable>: FlightQueue.Guest, @unchecked Sendable {
    let row: Row
    var outcome: Result<Output?, PostgresError> = .failure(.upsert("a row was told of without an outcome"))

    init(_ row: Row, key: [UInt8]?) {
        self.row = row
        super.init(key: key)
    }
}
