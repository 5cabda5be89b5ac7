import Postgres

/// The turns of batches that are staged in one transaction at the same time. Each needs the stage's name and a COPY, which has the
/// connection for itself and refuses whatever else is asked of the transaction meanwhile. First come, first served.
final class StageTurns: Sendable {
    static let shared = StageTurns()

    private struct Waiter {
        var number: Int
        /// Called once: with nil when it is its turn.
        var go: @Sendable (PostgresError?) -> Void
    }

    private struct State {
        /// Who waits in a transaction; nil while nobody has the turn in it.
        var waiting: [PostgresTransaction.ID: [Waiter]] = [:]
        var numbers = 0

        mutating func takeIfFree(_ id: PostgresTransaction.ID) -> Bool {
            guard waiting[id] == nil else { return false }
            waiting[id] = []
            return true
        }
    }

    private let state = Lock(State())

    func waiting(in id: PostgresTransaction.ID) -> Int { state.withLock { $0.waiting[id]?.count ?? 0 } }

    /// Waits for the turn. Whoever has taken it passes it on.
    func take(_ id: PostgresTransaction.ID) async throws(PostgresError) {
        if state.withLock({ $0.takeIfFree(id) }) { return }
        let number = state.withLock { state in
            state.numbers &+= 1
            return state.numbers
        }
        let error = await waitToBeTold { (go: @escaping @Sendable (PostgresError?) -> Void) in
            let isFree = state.withLock { state in
                if state.takeIfFree(id) { return true }
                state.waiting[id]?.append(Waiter(number: number, go: go))
                return false
            }
            if isFree { go(nil) }
        } leave: { code, reason in
            self.leave(id, number, code, reason)
        }
        if let error { throw error }
    }

    func pass(_ id: PostgresTransaction.ID) {
        let next = state.withLock { state -> Waiter? in
            guard var waiting = state.waiting[id], !waiting.isEmpty else {
                state.waiting[id] = nil
                return nil
            }
            let next = waiting.removeFirst()
            state.waiting[id] = waiting
            return next
        }
        next?.go(nil)
    }

    private func leave(
        _ id: PostgresTransaction.ID, _ number: Int, _ code: PostgresError.Code, _ reason: String
    ) {
        let waiter = state.withLock { state -> Waiter? in
            guard let index = state.waiting[id]?.firstIndex(where: { $0.number == number }) else { return nil }
            return state.waiting[id]?.remove(at: index)
        }
        waiter?.go(
            PostgresError(code: code, message: "\(reason), before another batch of the transaction had been copied"))
    }
}
