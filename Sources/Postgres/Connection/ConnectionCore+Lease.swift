import PostgresTransport
import Synchronization

/// Exclusive use: between `lease` and `endLease` nobody else's requests get into the queue.
///
/// A transaction, a COPY or a cursor is more than one request, and what comes between them from another task would become part
/// of it. What was queued before stays before it, and is not waited for. Other tasks wait as they do when the queue is full.
extension ConnectionCore {
    /// Waits until nobody else has the connection for itself.
    ///
    /// - Returns: the number to pass as `writer` with each request, and to `endLease`.
    nonisolated(nonsending) func lease() async throws(PostgresError) -> Int {
        let number = nextWriter()
        if try takeLease(number) { return number }
        let deadline = waitLimits().deadline
        while true {
            if Task.isCancelled { throw .cancelled(.notSent) }
            if try takeLease(number) { return number }
            try await waitForRoom(until: deadline)
        }
    }

    func leaseBlocking() throws(PostgresError) -> Int {
        let number = nextWriter()
        let deadline = limits.queryTimeout.map { Deadline(after: $0) }
        while try !takeLease(number) { try waitForRoomBlocking(until: deadline) }
        return number
    }

    private func takeLease(_ number: Int) throws(PostgresError) -> Bool {
        try state.withLock { state throws(PostgresError) in
            if let closed = state.closed { throw closed.with(outcome: .notSent) }
            guard state.exclusiveWriter == nil else { return false }
            state.exclusiveWriter = number
            return true
        }
    }

    func endLease(_ number: Int) {
        let woken = state.withLock { state -> [ConnectionState.RoomWaiter] in
            // While a statement of the lease is being cancelled, the lease is set aside.
            if state.cancelGate?.lease == number { state.cancelGate?.lease = nil }
            guard state.exclusiveWriter == number else { return [] }
            state.exclusiveWriter = nil
            return state.takeRoomWaiters()
        }
        wake(woken)
    }
}
