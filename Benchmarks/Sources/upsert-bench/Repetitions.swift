import Measurement
import Postgres

/// How often things are done. Every repetition is of every arm, in an order that rotates, so that what else the machine does
/// meets all arms alike.
struct Repetitions: Sendable {
    var repetitions: Int
    /// Timed iterations of 100 operations of each arm in a repetition, after one that is not timed.
    var iterations: Int
    var warmUpIterations: Int

    static let full = Self(repetitions: 30, iterations: 10, warmUpIterations: 20)
    static let quick = Self(repetitions: 10, iterations: 10, warmUpIterations: 5)
    static let smoke = Self(repetitions: 2, iterations: 1, warmUpIterations: 1)

    /// - Returns: one value an arm, in the order of the arms.
    func run(_ scenario: Scenario) async throws -> [Measured] {
        Progress.step("\(scenario.name): warm-up")
        for arm in scenario.arms {
            for _ in 0..<max(warmUpIterations / scenario.weight, 1) {
                try await scenario.reset()
                _ = try await arm.iterate()
            }
        }
        var results = scenario.arms.map { _ in Measured() }
        for repetition in 0..<repetitions {
            Progress.step("\(scenario.name): repetition \(repetition + 1) of \(repetitions)")
            for offset in scenario.arms.indices {
                let index = (repetition + offset) % scenario.arms.count
                try await repeatOnce(scenario, scenario.arms[index], &results[index])
            }
        }
        for (arm, result) in zip(scenario.arms, results) {
            if let error = result.tally.unexpected {
                Progress.note("\(scenario.name), \(arm.name): an error that is no duplicate key: \(error)")
            }
        }
        return results
    }

    private func repeatOnce(_ scenario: Scenario, _ arm: Arm, _ measured: inout Measured) async throws {
        try await scenario.tidyUp()
        try await scenario.reset()
        _ = try await arm.iterate()

        var tally = Tally()
        var cost = Cost()
        var roundTrips = 0
        var systemCalls = 0
        for _ in 0..<max(iterations / scenario.weight, 1) {
            try await scenario.reset()
            let before = arm.connections.map(\.statistics)
            let meter = Meter()
            let iteration = try await arm.iterate()
            cost += meter.cost
            for (connection, before) in zip(arm.connections, before) {
                let difference = connection.statistics - before
                roundTrips += difference.roundTrips
                systemCalls += difference.systemCalls
            }
            if iteration.operations > 0 {
                let rate = Double(iteration.errors) / Double(iteration.operations)
                measured.highestErrorRate = max(measured.highestErrorRate, rate)
            }
            tally += iteration
        }

        var latencies = Latencies()
        latencies.record(tally.latencies)
        measured.latencies.record(tally.latencies)
        measured.repetitionLatencies.append(latencies)
        measured.throughputs.append(Double(tally.operations - tally.errors) / cost.seconds)
        measured.cost += cost
        tally.latencies = []
        measured.tally += tally
        if !arm.connections.isEmpty {
            measured.roundTrips = (measured.roundTrips ?? 0) + roundTrips
            measured.systemCalls = (measured.systemCalls ?? 0) + systemCalls
        }
    }
}
