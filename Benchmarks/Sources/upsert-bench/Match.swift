import Measurement

/// The same work done by libpq and by this library in several ways, with the CPU time of each.
struct Match {
    enum Role {
        /// What the others are compared with: the first contender.
        case libpq
        /// A line of the table: the ratio of CPU per operation to libpq's that is asked for.
        case compared(String, limit: Double, stretch: Double)
        /// A figure to know, compared with nothing.
        case aside(String)
    }

    struct Contender {
        let role: Role
        /// Operations in a round, by which its cost is divided.
        let operations: Int
        let work: () async throws -> Void

        init(_ role: Role, operations: Int, work: @escaping () async throws -> Void) {
            self.role = role
            self.operations = operations
            self.work = work
        }
    }

    let name: String
    let unit: String
    let contenders: [Contender]
    /// Whether libpq's contender stays on the thread that it is called on, where its calls of send are counted.
    let countsSends: Bool
    let tidyUp: () async throws -> Void

    init(
        _ name: String, unit: String = "operation", countsSends: Bool = true,
        tidyUp: @escaping () async throws -> Void = {}, _ contenders: [Contender]
    ) {
        self.countsSends = countsSends
        self.name = name
        self.unit = unit
        self.tidyUp = tidyUp
        self.contenders = contenders
    }

    /// What rounds have given.
    struct Outcome {
        /// Of the contenders, one a round, divided by their operations.
        var costs: [[Cost]]
        /// libpq's calls of send, by its operations.
        var sends: Double?
    }

    /// Each round is of every contender, in an order that rotates.
    func run(rounds: Int) async throws -> Outcome {
        Progress.step("\(name): warm-up")
        for contender in contenders { try await contender.work() }
        var costs = contenders.map { _ in [Cost]() }
        var sends: Double?
        for round in 0..<rounds {
            Progress.step("\(name): round \(round + 1) of \(rounds)")
            try await tidyUp()
            for offset in contenders.indices {
                let index = (round + offset) % contenders.count
                let contender = contenders[index]
                let sendCalls = LibPQ.sendCalls
                let meter = Meter()
                try await contender.work()
                let cost = meter.cost
                let count = Double(contender.operations)
                if case .libpq = contender.role, countsSends {
                    sends = Double(LibPQ.sendCalls - sendCalls) / count
                }
                costs[index].append(Cost(seconds: cost.seconds / count, cpuSeconds: cost.cpuSeconds / count))
            }
        }
        Progress.note("\(name): done")
        return Outcome(costs: costs, sends: sends)
    }
}
