import Measurement
import Postgres

/// What a run measures, in order.
struct Plan {
    struct Step {
        let section: Section
        let isDurable: Bool
        /// Its part of the time, against those of others.
        let share: Double
        /// How many it needs at once.
        let connections: Int
        let make: (BenchmarkServer) async throws -> Scenario
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
        seconds = choose(full: 600, quick: 20, smoke: nil)
        var steps: [Step] = []
        func add(
            _ section: Section, share: Double = 1, isDurable: Bool = false, connections: Int = 30,
            _ make: @escaping (BenchmarkServer) async throws -> Scenario
        ) {
            steps.append(
                Step(section: section, isDurable: isDurable, share: share, connections: connections, make: make))
        }

        add(.sequential, share: 1.5) { try await .sequential($0) }
        add(.sequential) { try await .sequentialMisses($0) }
        add(.sequential) { try await .sequentialHits($0) }
        for workers in [10, 2] {
            add(.concurrent, share: 1.5, connections: 8 * workers + 5) { try await .concurrent($0, workers: workers) }
        }
        for keys in [Scenario.ConcurrentKeys.absent, .present] {
            add(.concurrent, connections: 85) { try await .concurrent($0, workers: 10, keys: keys) }
        }
        for workers in choose(full: [1, 2, 5, 10, 20, 50], quick: [2, 10, 50], smoke: [10]) {
            add(.race, share: isFull ? 0.7 : 1, connections: 4 * workers + 2) { try await .race($0, workers: workers) }
        }
        for size in choose(full: [10, 100, 1000], quick: [100, 1000], smoke: [10, 1000]) {
            add(.pipelined) { try await .pipelined($0, flight: size) }
        }
        for size in choose(full: [10, 100, 1000], quick: [100], smoke: [10]) {
            add(.pipelined, share: 0.7) { try await .pipelined($0, flight: size, startsEmpty: false) }
        }
        for size in choose(full: [10, 100, 1000, 10_000, 100_000], quick: [10, 1000, 10_000], smoke: [10, 1000]) {
            for startsEmpty in extent == .quick && size != 1000 ? [true] : [true, false] {
                add(.bulk, share: size < 10_000 ? 0.7 : 1.5) {
                    try await .bulk($0, rows: size, startsEmpty: startsEmpty)
                }
            }
        }
        for milliseconds in choose(full: [0, 1, 5, 20, 70], quick: [0, 5], smoke: [5]) {
            // A target is set for 5 ms.
            add(.distant, share: milliseconds < 5 ? 1 : milliseconds == 5 ? 2.5 : 1.5) {
                try await .distant(
                    $0, milliseconds: milliseconds,
                    flightSizes: isFull || milliseconds > 0 ? [10, 100, 1000] : [100])
            }
        }
        if extent != .smoke {
            add(.durable, share: 1.5, isDurable: true) { try await .durable($0) }
            add(.durable, share: 1.5, isDurable: true) {
                try await .distant($0, milliseconds: 5, flightSizes: [100], isDurable: true)
            }
        }
        for wait in extent == .smoke ? [.volatile] : CommitWait.allCases {
            for keys in choose(full: [5, 10_000], quick: [5], smoke: [5]) {
                for tasks in choose(full: [1, 2, 4, 8, 16, 32, 64], quick: [1, 64], smoke: [64]) {
                    add(.coalesced, share: wait == .disk ? 0.7 : 0.4, isDurable: wait.isOfDurableServer) {
                        try await .coalesced($0, tasks: tasks, keys: keys, wait, most: isFull ? 2048 : 1024)
                    }
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
            if step.connections > server.freeConnections {
                Progress.note(
                    "\(step.section.rawValue): a scenario that needs \(step.connections) connections is left out")
                continue
            }
            let scenario = try await step.make(server)
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
