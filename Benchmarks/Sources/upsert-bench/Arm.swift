import Measurement
import Postgres

/// What one iteration of a scenario did.
struct Tally: Sendable {
    var operations = 0
    var errors = 0
    var duplicateKeyErrors = 0
    /// Calls of send, where they can be counted: libpq's.
    var sendCalls: Int?
    /// Nanoseconds of each operation, or of the whole flight where operations have no time of their own.
    var latencies: [UInt64] = []
    /// The first error that the scenario does not provoke.
    var unexpected: (any Error)?

    mutating func count(_ error: any Error) {
        errors += 1
        if error.isDuplicateKey {
            duplicateKeyErrors += 1
        } else if unexpected == nil {
            unexpected = error
        }
    }

    static func += (total: inout Self, more: Self) {
        total.operations += more.operations
        total.errors += more.errors
        total.duplicateKeyErrors += more.duplicateKeyErrors
        if let calls = more.sendCalls { total.sendCalls = (total.sendCalls ?? 0) + calls }
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
    /// The curve that its arms are points of, and where.
    var place: Place?
    /// What a proxy between client and server has counted of round trips.
    var proxyTurns: (() -> Int)?
    /// How many increments are in the table: what operations add to it without failing must be there afterwards.
    var increments: (() async throws -> Int)?
    /// Before each iteration, untimed.
    let reset: () async throws -> Void
    /// Before each repetition, untimed.
    let tidyUp: () async throws -> Void

    struct Place {
        let curve: Curve
        let x: Double
    }
}

/// What scenarios that differ in one number only are about.
enum Curve: String, CaseIterable {
    case workers, flight, flightOfHits, rows, rowsOfHits, latency
    /// Of a coalescing writer: few keys or many, and what a commit waits for.
    case fewKeys, fewKeysRelaxed, fewKeysVolatile, manyKeys, manyKeysRelaxed, manyKeysVolatile
}

/// What an arm's repetitions added up to, and what each gave.
struct Measured {
    var counts = ArmResult.Counts()
    var unexpected: (any Error)?
    var cost = Cost()
    var latencies = Latencies()
    /// One value a repetition.
    var throughputs: [Double] = []
    var cpuMicroseconds: [Double] = []
    var repetitionLatencies: [Latencies] = []
    /// Of single iterations, the worst.
    var highestErrorRate = 0.0

    func result(_ scenario: Scenario, _ arm: Arm) -> ArmResult {
        ArmResult(
            scenario: scenario.name, arm: arm.name, counts: counts, cost: cost, latencies: latencies,
            throughputs: throughputs)
    }
}

extension Error {
    var isDuplicateKey: Bool {
        (self as? PostgresError)?.sqlState == PostgresError.Code.uniqueViolation.rawValue
    }
}
