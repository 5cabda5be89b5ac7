import PostgresTransport
import Synchronization

extension PostgresTransaction {
    /// Which changes of others a transaction sees (manual, "Transaction Isolation").
    public enum Isolation: Sendable, Hashable, CaseIterable {
        /// What `default_transaction_isolation` of the session says; the server's own default is read committed.
        case serverDefault
        /// Each statement sees what was committed before it began.
        case readCommitted
        /// All statements see what was committed before the first of them; writing what another changed meanwhile fails (40001).
        case repeatableRead
        /// As if transactions ran one after another; some fail for that (40001), and are worth running again.
        case serializable
    }

    /// Whether a transaction that the server gave up is run again: after `serialization_failure` (40001) and
    /// `deadlock_detected` (40P01), when it is certain that nothing of it took effect.
    ///
    /// The whole body runs again, so whatever it does outside the database happens once more.
    public struct Retry: Sendable, Hashable {
        /// How often the body runs at most, the first time included.
        public var attempts: Int
        /// The pause before the second attempt is a random time up to this; the bound doubles with each further attempt.
        public var base: Duration
        /// The longest pause.
        public var cap: Duration

        /// The body runs once.
        public static let never = Retry(attempts: 1, base: .zero, cap: .zero)

        /// The body runs at most so many times.
        public static func upTo(
            _ attempts: Int, base: Duration = .milliseconds(10), cap: Duration = .seconds(1)
        ) -> Retry {
            Retry(attempts: max(1, attempts), base: base, cap: cap)
        }

        /// A random pause (full jitter) before the attempt of that number, which is 2 or more; for a retry of your own.
        public func pause(beforeAttempt attempt: Int) -> Duration {
            var generator = SystemRandomNumberGenerator()
            return pause(beforeAttempt: attempt, using: &generator)
        }

        /// The same, from a source of randomness that a test can repeat.
        func pause(beforeAttempt attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
            let doublings = min(max(attempt &- 2, 0), 30)
            let (bound, overflows) = base.clampedNanoseconds.multipliedReportingOverflow(by: 1 << UInt64(doublings))
            let limit = cap.clampedNanoseconds
            let longest = overflows ? limit : min(limit, bound)
            return .nanoseconds(Int64(clamping: UInt64.random(in: 0...longest, using: &generator)))
        }

        /// The pause before the next attempt; nil if there is none.
        func pause(after error: any Error, attempt: Int, _ flow: TransactionFlow) -> Duration? {
            guard attempt < attempts, let error = error as? PostgresError,
                error.code == .serializationFailure || error.code == .deadlockDetected, flow.end == .rolledBack,
                flow.core.state.withLock({ $0.closed }) == nil
            else { return nil }
            let pause = pause(beforeAttempt: attempt + 1)
            // Behind the pause there would be no time left.
            if let left = PostgresScope.current?.deadline.remaining, left <= pause { return nil }
            return pause
        }
    }
}

extension PostgresTransaction.Isolation {
    private var sql: String {
        switch self {
        case .serverDefault: ""
        case .readCommitted: " ISOLATION LEVEL READ COMMITTED"
        case .repeatableRead: " ISOLATION LEVEL REPEATABLE READ"
        case .serializable: " ISOLATION LEVEL SERIALIZABLE"
        }
    }

    /// `BEGIN` and what follows it, one text for each combination, made once.
    func begin(readOnly: Bool, deferrable: Bool) -> PostgresQuery {
        let index = (PostgresTransaction.Isolation.allCases.firstIndex(of: self) ?? 0) * 4
        return Self.texts[index + (readOnly ? 2 : 0) + (deferrable ? 1 : 0)]
    }

    private static let texts: [PostgresQuery] = allCases.flatMap { isolation in
        [("", ""), ("", " DEFERRABLE"), (" READ ONLY", ""), (" READ ONLY", " DEFERRABLE")].map { access, deferrable in
            "BEGIN\(unsafeSQL: isolation.sql + access + deferrable)"
        }
    }
}
