import Measurement
import Postgres

/// What a run measures, in order.
struct Plan {
    struct Step {
        let section: Section
        let isDurable: Bool
        /// Its part of the time, against those of others.
        let share: Double
        /// Nil if this server cannot.
        let make: (BenchmarkServer) async throws -> Scenario?
    }

    enum Section: String, CaseIterable {
        case sequential = "Sequential"
        case concurrent = "Concurrent"
        case race = "Errors and lost updates"
        case pipelined = "Pipelined"
        case bulk = "Bulk"
        case coalesced = "Coalesced"
        case distant = "Round-trip latency"
        case durable = "Waiting for the disk"
    }

    enum Extent: Sendable {
        case full, quick, smoke
    }

    let repetitions: Repetitions
    /// For all steps together; nil: however long it takes.
    let seconds: Double?
    let steps: [Step]

    init(_ extent: Extent) {
        let isFull = extent == .full
        func choose<Value>(full: Value, quick: Value, smoke: Value) -> Value {
            switch extent {
            case .full: full
            case .quick: quick
            case .smoke: smoke
            }
        }
        repetitions = choose(full: .full, quick: .quick, smoke: .smoke)
        seconds = choose(full: 660, quick: 22, smoke: nil)
        var steps: [Step] = []
        func add(
            _ section: Section, share: Double = 1, isDurable: Bool = false,
            _ make: @escaping (BenchmarkServer) async throws -> Scenario?
        ) { steps.append(Step(section: section, isDurable: isDurable, share: share, make: make)) }

        add(.sequential, share: 1.5) { try await .sequential($0) }
        add(.sequential) { try await .sequentialMisses($0) }
        add(.sequential) { try await .sequentialHits($0) }
        for workers in [10, 2] { add(.concurrent, share: 1.5) { try await .concurrent($0, workers: workers) } }
        for workers in choose(full: [1, 2, 5, 10, 20, 50], quick: [2, 10, 50], smoke: [10]) {
            add(.race, share: isFull ? 0.7 : 1) { try await .race($0, workers: workers) }
        }
        for size in choose(full: [10, 100, 1000], quick: [100, 1000], smoke: [10, 1000]) {
            add(.pipelined) { try await .pipelined($0, flight: size) }
        }
        for size in choose(full: [10, 100, 1000, 10_000, 100_000], quick: [10, 1000, 10_000], smoke: [10, 1000]) {
            add(.bulk, share: size < 10_000 ? 0.7 : 1.5) { try await .bulk($0, rows: size) }
        }
        for milliseconds in choose(full: [0, 1, 5, 20, 70], quick: [0, 5], smoke: [5]) {
            // A target is set for 5 ms.
            add(.distant, share: milliseconds < 5 ? 1 : milliseconds == 5 ? 2.5 : 1.5) {
                try await .distant($0, milliseconds: milliseconds)
            }
        }
        for keys in choose(full: [5, 10_000], quick: [], smoke: [5]) {
            add(.coalesced, share: 0.7) { try await .coalesced($0, tasks: 64, keys: keys, isDurable: false) }
        }
        if extent != .smoke { add(.durable, share: 1.5, isDurable: true) { try await .durable($0) } }
        for keys in choose(full: [5, 10_000], quick: [5], smoke: []) {
            for tasks in choose(full: [1, 2, 4, 8, 16, 32, 64], quick: [1, 64], smoke: []) {
                add(.coalesced, share: 0.7, isDurable: true) {
                    try await .coalesced($0, tasks: tasks, keys: keys, isDurable: true)
                }
            }
        }
        self.steps = steps
    }

    /// Seconds for a step.
    func seconds(of step: Step) -> Double? { seconds.map { $0 * step.share / steps.reduce(0) { $0 + $1.share } } }

    /// Runs some of the steps on a server, and adds what they gave.
    func run(_ chosen: [Step], on server: BenchmarkServer, into results: inout [ScenarioResult]) async throws {
        for step in chosen {
            guard let scenario = try await step.make(server) else { continue }
            let start = monotonicNanoseconds()
            let measured = try await repetitions.run(scenario, within: seconds(of: step))
            results.append(ScenarioResult(scenario, measured, section: step.section))
            let taken = Double(monotonicNanoseconds() &- start) / 1e9
            Progress.note(
                "\(results.count) of \(steps.count), \(scenario.name): done, \(measured.first?.throughputs.count ?? 0) repetitions in \(taken.formatted(1)) s"
            )
            for arm in scenario.arms {
                for connection in arm.connections { connection.close() }
            }
        }
    }
}
