import Measurement
import Postgres

/// How often things are done. Every repetition is of every arm, in an order that rotates, so that what else the machine does
/// meets all arms alike.
struct Repetitions: Sendable {
    /// How many there are at most.
    var repetitions: Int
    /// Timed iterations of 100 operations of each arm in a repetition, after one that is not timed.
    var iterations: Int
    var warmUpIterations: Int

    /// Of a scenario that takes long there are fewer, but never fewer than this: of less there is no interval.
    static let fewest = 3

    static let full = Self(repetitions: 30, iterations: 10, warmUpIterations: 20)
    static let quick = Self(repetitions: 10, iterations: 10, warmUpIterations: 5)
    static let smoke = Self(repetitions: 2, iterations: 1, warmUpIterations: 1)

    /// - Parameter seconds: about how long it may take; nil for as long as it takes.
    /// - Returns: one value an arm, in the order of the arms.
    func run(_ scenario: Scenario, within seconds: Double? = nil) async throws -> [Measured] {
        let start = monotonicNanoseconds()
        func elapsed() -> Double { Double(monotonicNanoseconds() &- start) / 1e9 }

        try await scenario.tidyUp()
        var round = 0.0
        for (number, arm) in scenario.arms.enumerated() {
            Progress.step("\(scenario.name): warm-up of \(arm.name)")
            var last = 0.0
            for _ in 0..<max(warmUpIterations / scenario.weight, 1) {
                try await scenario.reset()
                let meter = Meter()
                _ = try await arm.iterate()
                last = meter.cost.seconds
                if let seconds, elapsed() > seconds * 0.2 * Double(number + 1) / Double(scenario.arms.count) { break }
            }
            round += last
        }

        var iterations = max(iterations / scenario.weight, 1)
        if let seconds, round > 0 {
            // One of each repetition is not timed. Half of the time goes into what is around the iterations.
            let affordable = seconds / 2 / (Double(repetitions) * round) - 1
            iterations = max(1, min(iterations, Int(min(affordable, 1e6))))
        }
        var results = scenario.arms.map { _ in Measured() }
        for repetition in 0..<repetitions {
            if let seconds, repetition >= min(Self.fewest, repetitions), elapsed() > seconds { break }
            Progress.step("\(scenario.name): repetition \(repetition + 1) of \(repetitions)")
            for offset in scenario.arms.indices {
                let index = (repetition + offset) % scenario.arms.count
                try await repeatOnce(scenario, scenario.arms[index], iterations, &results[index])
            }
        }
        for (arm, result) in zip(scenario.arms, results) {
            if let error = result.unexpected {
                Progress.note("\(scenario.name), \(arm.name): an error that is no duplicate key: \(error)")
            }
        }
        return results
    }

    private func repeatOnce(
        _ scenario: Scenario, _ arm: Arm, _ iterations: Int, _ measured: inout Measured
    ) async throws {
        try await scenario.tidyUp()
        // What is done once only takes so long that what comes first does not show.
        if iterations > 1 {
            try await scenario.reset()
            _ = try await arm.iterate()
        }

        var tally = Tally()
        var cost = Cost()
        for _ in 0..<iterations {
            try await scenario.reset()
            let before = arm.connections.map(\.statistics)
            let turnsBefore = scenario.proxyTurns?()
            let incrementsBefore = try await scenario.increments?()
            let meter = Meter()
            let iteration = try await arm.iterate()
            cost += meter.cost
            var roundTrips = 0
            var systemCalls = 0
            for (connection, before) in zip(arm.connections, before) {
                let difference = connection.statistics - before
                roundTrips += difference.roundTrips
                systemCalls += difference.systemCalls
            }
            if !arm.connections.isEmpty {
                measured.counts.roundTrips = (measured.counts.roundTrips ?? 0) + roundTrips
                measured.counts.systemCalls = (measured.counts.systemCalls ?? 0) + systemCalls
            }
            if let turnsBefore, let turns = scenario.proxyTurns?() {
                measured.counts.proxyRoundTrips = (measured.counts.proxyRoundTrips ?? 0) + turns - turnsBefore
            }
            if let incrementsBefore, let increments = try await scenario.increments?() {
                let lost = iteration.operations - iteration.errors - (increments - incrementsBefore)
                measured.counts.lostUpdates = (measured.counts.lostUpdates ?? 0) + lost
            }
            if iteration.operations > 0 {
                let rate = Double(iteration.errors) / Double(iteration.operations)
                measured.highestErrorRate = max(measured.highestErrorRate, rate)
            }
            tally += iteration
        }

        var latencies = Latencies()
        latencies.record(tally.latencies)
        measured.latencies += latencies
        measured.repetitionLatencies.append(latencies)
        measured.throughputs.append(Double(tally.operations - tally.errors) / cost.seconds)
        measured.cpuMicroseconds.append(cost.cpuMicroseconds / Double(max(tally.operations, 1)))
        measured.cost += cost
        measured.counts.operations += tally.operations
        measured.counts.errors += tally.errors
        measured.counts.duplicateKeyErrors += tally.duplicateKeyErrors
        if let calls = tally.sendCalls { measured.counts.sendCalls = (measured.counts.sendCalls ?? 0) + calls }
        measured.unexpected = measured.unexpected ?? tally.unexpected
    }
}
