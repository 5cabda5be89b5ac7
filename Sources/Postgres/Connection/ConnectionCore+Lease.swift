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

    /// Hands a lease on to another number: requests that still come with the old one are refused.
    ///
    /// - Returns: false if the lease was not `old`'s.
    func moveLease(from old: Int, to new: Int) -> Bool {
        let woken = state.withLock { state -> [ConnectionState.RoomWaiter]? in
            // While a statement of the lease is being cancelled, the lease is set aside.
            if let gate = state.cancelGate, gate.lease == old {
                state.cancelGate?.lease = new
                return []
            }
            guard state.exclusiveWriter == old else { return nil }
            state.exclusiveWriter = new
            return state.takeRoomWaiters()
        }
        if let woken { wake(woken) }
        return woken != nil
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

    /// Why a caller may not write: it has to wait, or never may.
    func refuse(_ state: inout ConnectionState, _ writer: Int?) throws(PostgresError) -> Begun {
        if let closed = state.closed { throw closed.with(outcome: .notSent) }
        if let writer, state.exclusiveWriter != writer, state.cancelGate?.lease != writer { throw .leaseEnded }
        return .noRoom
    }

    /// A task that holds the lease would wait for itself.
    func refuseToWaitForItself(as writer: Int?) throws(PostgresError) {
        guard let own = OwnTransaction.current else { return }
        // While a statement of the lease is being cancelled, the lease is set aside.
        let holder = state.withLock { $0.cancelGate?.lease ?? $0.exclusiveWriter }
        guard let holder, holder != writer, own.holds(holder, of: self) else { return }
        throw PostgresError(
            code: .unsupported,
            message:
                "a statement on the connection itself, inside the body of its own transaction, would wait for ever",
            hint: "use the transaction that the body is given")
    }
}

extension PostgresError {
    static var leaseEnded: PostgresError {
        PostgresError(
            code: .transactionEnded,
            message: "the transaction, or whatever had the connection for itself, has ended")
    }
}
