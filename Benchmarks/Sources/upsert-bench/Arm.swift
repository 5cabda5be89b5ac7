import Measurement
import Postgres

/// What one iteration of a scenario did.
struct Tally: Sendable {
    var operations = 0
    var errors = 0
    var duplicateKeyErrors = 0
    /// Nanoseconds of each operation, or of the whole flight where operations have no time of their own.
    var latencies: [UInt64] = []
    /// The first error that the scenario does not provoke.
    var unexpected: (any Error)?

    mutating func count(_ error: PostgresError) {
        errors += 1
        if error.sqlState == PostgresError.Code.uniqueViolation.rawValue {
            duplicateKeyErrors += 1
        } else if unexpected == nil {
            unexpected = error
        }
    }

    static func += (total: inout Self, more: Self) {
        total.operations += more.operations
        total.errors += more.errors
        total.duplicateKeyErrors += more.duplicateKeyErrors
        total.latencies += more.latencies
        total.unexpected = total.unexpected ?? more.unexpected
    }
}

/// One way of doing a scenario's work.
struct Arm {
    let name: String
    /// Whose statistics are counted; none for libpq.
    let connections: [PostgresConnection]
    /// One iteration, timed.
    let iterate: () async throws -> Tally
}

/// The same work done in several ways, side by side.
struct Scenario {
    let name: String
    /// What an operation is, and what its latency is.
    let explanation: String
    let arms: [Arm]
    /// How much longer an iteration takes than one of 100 operations: it is done that many times less often.
    var weight = 1
    /// Before each iteration, untimed.
    let reset: () async throws -> Void
    /// Before each repetition, untimed.
    let tidyUp: () async throws -> Void
}

/// What an arm's repetitions added up to, and what each gave.
struct Measured {
    var tally = Tally()
    var cost = Cost()
    var latencies = Latencies()
    var roundTrips: Int?
    var systemCalls: Int?
    /// One value a repetition.
    var throughputs: [Double] = []
    var repetitionLatencies: [Latencies] = []
    /// Of single iterations, the worst.
    var highestErrorRate = 0.0

    func result(_ scenario: Scenario, _ arm: Arm) -> ArmResult {
        ArmResult(
            scenario: scenario.name, arm: arm.name, operations: tally.operations, errors: tally.errors,
            duplicateKeyErrors: tally.duplicateKeyErrors, cost: cost, latencies: latencies, roundTrips: roundTrips,
            systemCalls: systemCalls)
    }
}
