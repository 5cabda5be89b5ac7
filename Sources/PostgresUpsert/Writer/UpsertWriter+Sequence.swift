public import Postgres

extension UpsertWriter {
    /// Upserts the rows of a sequence, as they come. It is read no further while `maximumWaiting` of its rows wait or fly.
    ///
    /// Its rows join flights with those of other callers. When it fails, the task is cancelled, or its time is up, the rows that were
    /// read before are still written; when the time is up nobody waits for that.
    ///
    /// - Parameter onFailure: called for each row that failed, in the order in which they failed, until the sequence fails or it throws
    ///   itself, which ends the reading.
    ///   Without it the first failure ends the reading, and is thrown.
    /// - Returns: how many rows were read and did not fail.
    @discardableResult
    public func upsert<Rows: AsyncSequence>(
        contentsOf rows: Rows,
        onFailure: (Row, PostgresError) throws -> Void = { _, error in throw error }
    ) async throws -> Int where Rows.Element == Row {
        let sink = Sink<Row>(limit: max(1, options.maximumWaiting))
        let timer = whenTimeIsUp { sink.close() }
        defer { timer?.cancel() }
        do {
            for try await row in rows {
                await sink.waitForRoom()
                for (row, error) in sink.takeFailures() { try onFailure(row, error) }
                if Task.isCancelled || sink.isClosed { break }
                sink.add()
                add(row, state.withLock { $0.queue.number() }) { result in
                    switch result {
                    case .success: sink.land(nil)
                    case .failure(let error): sink.land((row, error))
                    }
                }
            }
        } catch {
            await sink.waitForEnd()
            throw error
        }
        await sink.waitForEnd()
        for (row, error) in sink.takeFailures() { try onFailure(row, error) }
        if sink.isClosed { throw ended(.timedOut, "the time was up", sink.written) }
        if Task.isCancelled { throw ended(.cancelled, "the task was cancelled", sink.written) }
        return sink.written
    }

    private func ended(_ code: PostgresError.Code, _ reason: String, _ written: Int) -> PostgresError {
        PostgresError(
            code: code,
            message: "table \"\(table)\": \(reason); \(written) rows of the sequence were written before",
            outcome: .unknown)
    }
}

/// What is on its way of one sequence.
private final class Sink<Row: Sendable>: Sendable {
    private struct State {
        var outstanding = 0
        var written = 0
        /// Time is up: nobody waits any more.
        var isClosed = false
        var failures: [(Row, PostgresError)] = []
        /// The producer, and the number outstanding at which it goes on.
        var waiter: (CheckedContinuation<Void, Never>, below: Int)?
    }

    private let limit: Int
    private let state = Lock(State())

    init(limit: Int) { self.limit = limit }

    var written: Int { state.withLock { $0.written } }

    var isClosed: Bool { state.withLock { $0.isClosed } }

    func close() {
        let waiter = state.withLock { state in
            state.isClosed = true
            defer { state.waiter = nil }
            return state.waiter?.0
        }
        waiter?.resume()
    }

    func add() { state.withLock { $0.outstanding &+= 1 } }

    func land(_ failure: (Row, PostgresError)?) {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            state.outstanding &-= 1
            if let failure { state.failures.append(failure) } else { state.written &+= 1 }
            guard let (waiter, below) = state.waiter, state.outstanding < below else { return nil }
            state.waiter = nil
            return waiter
        }
        waiter?.resume()
    }

    func takeFailures() -> [(Row, PostgresError)] {
        state.withLock { state in
            defer { state.failures = [] }
            return state.failures
        }
    }

    func waitForRoom() async { await wait(below: limit) }

    /// Rows that were handed in are written in any case, so a cancelled task waits, too: for one flight, or two.
    func waitForEnd() async { await wait(below: 1) }

    private func wait(below: Int) async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isThere = state.withLock { state in
                if state.isClosed || state.outstanding < below { return true }
                state.waiter = (continuation, below)
                return false
            }
            if isThere { continuation.resume() }
        }
    }
}
