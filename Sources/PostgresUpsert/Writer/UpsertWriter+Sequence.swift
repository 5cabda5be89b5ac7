public import Postgres

extension UpsertWriter {
    /// Upserts the rows of a sequence, as they come. It is read no further while `maximumWaiting` rows of all callers wait or fly, and
    /// then comes on in its turn.
    ///
    /// Its rows join flights with those of other callers. When it fails, the task is cancelled, or its time is up, the rows that were
    /// read before are still written; when the time is up nobody waits for that.
    ///
    /// All of that is noticed between two rows. While the sequence waits for its next row, neither the end of the time nor a failure
    /// ends that wait, as ending it would end the sequence and lose what it has still to give: they are noticed when that row comes,
    /// which is written, too, or at the sequence's end. Cancelling the task ends it if the sequence heeds that, as `AsyncStream` does.
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
        let sink = Sink<Row>()
        let timer = whenTimeIsUp { sink.close() }
        defer { timer?.cancel() }
        do {
            // What was read is handed in, whatever is known by then: nobody else has it.
            for try await row in rows {
                sink.add()
                let passenger = Passenger(row, key: key(row))
                add(
                    passenger, entered: { sink.enter() },
                    told: {
                        switch passenger.outcome {
                        case .success: sink.land(nil)
                        case .failure(let error): sink.land((row, error))
                        }
                    })
                await sink.waitForRoom()
                for (row, error) in sink.takeFailures() { try onFailure(row, error) }
                if Task.isCancelled || sink.isClosed { break }
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
    private enum Event {
        /// The last row is out of the line.
        case entered
        /// All rows have landed.
        case landed
    }

    private struct State {
        var outstanding = 0
        var isInLine = false
        var written = 0
        /// Time is up: nobody waits any more.
        var isClosed = false
        var failures: [(Row, PostgresError)] = []
        /// The producer, and what it waits for.
        var waiter: (CheckedContinuation<Void, Never>, event: Event)?

        func has(_ event: Event) -> Bool {
            if isClosed { return true }
            return switch event {
            case .entered: !isInLine
            case .landed: outstanding == 0
            }
        }
    }

    private let state = Lock(State())

    var written: Int { state.withLock { $0.written } }

    var isClosed: Bool { state.withLock { $0.isClosed } }

    private func change(_ change: (inout State) -> Void) {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            change(&state)
            guard let (waiter, event) = state.waiter, state.has(event) else { return nil }
            state.waiter = nil
            return waiter
        }
        waiter?.resume()
    }

    func close() { change { $0.isClosed = true } }

    func add() {
        change { state in
            state.outstanding &+= 1
            state.isInLine = true
        }
    }

    func enter() { change { $0.isInLine = false } }

    func land(_ failure: (Row, PostgresError)?) {
        change { state in
            state.outstanding &-= 1
            if let failure { state.failures.append(failure) } else { state.written &+= 1 }
        }
    }

    func takeFailures() -> [(Row, PostgresError)] {
        state.withLock { state in
            defer { state.failures = [] }
            return state.failures
        }
    }

    func waitForRoom() async { await wait(for: .entered) }

    /// Rows that were handed in are written in any case, so a cancelled task waits, too: for one flight, or two.
    func waitForEnd() async { await wait(for: .landed) }

    private func wait(for event: Event) async {
        if state.withLock({ $0.has(event) }) { return }
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isThere = state.withLock { state in
                if state.has(event) { return true }
                state.waiter = (continuation, event)
                return false
            }
            if isThere { continuation.resume() }
        }
    }
}
