import Postgres
import Testing

@testable import PostgresUpsert

struct RetryTests {
    /// Nothing connects: the client is only asked whether an upsert on it may run again.
    private let client = PostgresClient(PostgresConfiguration(user: "nobody"))

    private func attempts(within limit: Duration?) async -> Int {
        var attempts = 0
        let conflict = PostgresError(code: .deadlockDetected, message: "deadlock detected", outcome: .rejected)
        let error = await #expect(throws: PostgresError.self) {
            func run() async throws(PostgresError) {
                try await client.retrying(.upTo(3, base: .zero)) { () async throws(PostgresError) in
                    attempts += 1
                    throw conflict
                }
            }
            if let limit { try await withPostgresTimeout(limit, run) } else { try await run() }
        }
        #expect(error?.code == .deadlockDetected)
        return attempts
    }

    @Test func `an upsert that lost a conflict runs again`() async {
        let count = await attempts(within: nil)
        #expect(count == 3)
    }

    @Test func `behind the deadline nothing runs again`() async {
        let count = await attempts(within: .zero)
        #expect(count == 1)
    }

    @Test func `a pause is shorter than the time that is left`() {
        let retry = PostgresTransaction.Retry.upTo(3, base: .zero)
        #expect(retry.pause(behindAttempt: 2) == .zero)
        #expect(retry.pause(behindAttempt: 3) == nil)
        let pause = withPostgresTimeout(.zero) { retry.pause(behindAttempt: 1) }
        #expect(pause == nil)
    }
}
