import Postgres
import Synchronization
import Testing

@testable import PostgresUpsert

@Suite(.timeLimit(.minutes(1))) struct StageTurnsTests {
    private final class Transaction: Sendable {}
    private let transaction = Transaction()
    private var id: ObjectIdentifier { ObjectIdentifier(transaction) }

    private func error(of operation: () async throws -> Void) async -> PostgresError? {
        do {
            try await operation()
            return nil
        } catch { return error as? PostgresError }
    }

    @Test func theFirstToComeIsTheFirstToBeServed() async throws {
        let turns = StageTurns()
        let order = Lock<[Int]>([])
        try await turns.take(id)
        let id = id
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 1...3 {
                group.addTask { @Sendable in
                    try await turns.take(id)
                    order.withLock { $0.append(number) }
                    turns.pass(id)
                }
                while turns.waiting(in: id) < number { await Task.yield() }
            }
            // Another transaction is none of their business.
            let other = Transaction()
            try await turns.take(ObjectIdentifier(other))
            turns.pass(ObjectIdentifier(other))
            #expect(order.withLock { $0 }.isEmpty)
            turns.pass(id)
            try await group.waitForAll()
        }
        #expect(order.withLock { $0 } == [1, 2, 3])
        // It is free again.
        try await turns.take(id)
    }

    @Test func whoeverIsCancelledOrOutOfTimeWaitsNoLonger() async throws {
        let turns = StageTurns()
        let id = id
        try await turns.take(id)
        let waiting = Task { await error { try await turns.take(id) } }
        while turns.waiting(in: id) < 1 { await Task.yield() }
        waiting.cancel()
        let cancelled = await waiting.value
        #expect(cancelled?.code == .cancelled)
        #expect(cancelled?.outcome == .notSent)
        let late = await error {
            try await withPostgresTimeout(.milliseconds(10)) { try await turns.take(id) }
        }
        #expect(late?.code == .timedOut)
        #expect(turns.waiting(in: id) == 0)
        turns.pass(id)
        try await turns.take(id)
    }
}
