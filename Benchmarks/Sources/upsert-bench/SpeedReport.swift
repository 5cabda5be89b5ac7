import Measurement
import Postgres

/// The table of ratios to libpq, libpq's own figures, and what is counted rather than timed.
struct SpeedReport {
    private var ratios = TextTable(
        ["work", "per second", "cpu us", "libpq", "ratio (95 %)", "at most", "stretch", "verdict"], leading: [0, 7])
    private var figures = TextTable(["libpq's own figures, and others", "per second", "cpu us", "sends"])
    private var counts = TextTable(["counted", "value", "asked", "verdict"], leading: [0, 3])

    mutating func add(_ match: Match, _ outcome: Match.Outcome) {
        let costs = outcome.costs
        guard let libpq = costs.first?.map(\.cpuMicroseconds) else { return }
        for (contender, costs) in zip(match.contenders, costs) {
            let cpu = costs.map(\.cpuMicroseconds)
            let perSecond = (1 / median(costs.map(\.seconds))).formatted(0)
            switch contender.role {
            case .libpq:
                figures.add([
                    "\(match.name), per \(match.unit)", perSecond, median(cpu).formatted(3),
                    outcome.sends?.formatted(3) ?? "-",
                ])
            case .aside(let name):
                figures.add(["  \(name)", perSecond, median(cpu).formatted(3)])
            case .compared(let name, let limit, let stretch):
                guard let ratio = Ratio(cpu, over: libpq) else { continue }
                let verdict = ratio.median <= stretch ? "stretch" : ratio.median <= limit ? "met" : "NOT MET"
                ratios.add([
                    name, perSecond, median(cpu).formatted(3), median(libpq).formatted(3), ratio.text,
                    limit.formatted(2), stretch.formatted(2), verdict,
                ])
            }
        }
        addSortShare(match, costs)
    }

    /// What sorting and looking for duplicates adds to a bulk upsert whose keys come in no order.
    private mutating func addSortShare(_ match: Match, _ costs: [[Cost]]) {
        func index(_ wanted: String) -> Int? {
            match.contenders.firstIndex { if case .compared(wanted, _, _) = $0.role { true } else { false } }
        }
        guard let ascending = index("bulk upsert, keys ascending"),
            let shuffled = index("bulk upsert, keys in random order")
        else { return }
        let share = median(zip(costs[shuffled], costs[ascending]).map { $0.cpuMicroseconds - $1.cpuMicroseconds })
        ratios.add(["  of it sort and duplicate check", "", share.formatted(3)])
    }

    /// Round trips, system calls and duplicate keys, which no other load on the machine changes.
    mutating func addCounts(_ server: BenchmarkServer, _ size: RoundSize) async throws {
        let db = try await server.connect()
        try await Selecting.asynchronously(db, 10)
        let before = db.statistics
        try await Selecting.asynchronously(db, size.selects)
        let difference = db.statistics - before
        let calls = Double(difference.systemCalls) / Double(size.selects)
        add("system calls per sequential SELECT", calls.formatted(3), "at most 3", calls <= 3)

        let repetitions = Repetitions(repetitions: 2, iterations: 10, warmUpIterations: 1)
        func result(_ scenario: Scenario) async throws -> ScenarioResult {
            ScenarioResult(scenario, try await repetitions.run(scenario))
        }
        let sequential = try await result(try await Scenario.sequential(server))
        let atomic = sequential[arm: "atomic"]?.result.roundTripsPerOperation ?? .nan
        let naive = sequential[arm: "naive"]?.result.roundTripsPerOperation ?? .nan
        add(
            "round trips per operation, sequential: atomic / naive",
            "\(atomic.formatted(3)) / \(naive.formatted(3))", "1 / 2",
            abs(atomic - 1) < 0.001 && abs(naive - 2) < 0.001)

        let concurrent = try await result(try await Scenario.concurrent(server, workers: 10))
        let ofAtomic = concurrent[arm: "atomic"]?.result.duplicateKeyErrors ?? -1
        let ofNaive = concurrent[arm: "naive"]?.result.duplicateKeyErrors ?? -1
        add(
            "duplicate-key errors, concurrent: atomic / naive", "\(ofAtomic) / \(ofNaive)", "0 / more than 0",
            ofAtomic == 0 && ofNaive > 0)
    }

    mutating func add(_ name: String, _ value: String, _ asked: String, _ isMet: Bool) {
        counts.add([name, value, asked, isMet ? "met" : "NOT MET"])
    }

    /// A figure to know, of which nothing is asked.
    mutating func add(_ name: String, _ value: String) { counts.add([name, value]) }

    func text(server: String, rounds: Int) -> String {
        return """
            PostgreSQL \(server), libpq \(LibPQ.version), which \(LibPQ.sending).
            \(rounds) interleaved rounds. CPU is user and system time of this process, per operation or row; the ratio is \
            the median of the rounds' ratios. Sends are libpq's calls of send.

            \(ratios)

            \(figures)

            \(counts)
            Instructions and allocations: Benchmarks/counts.
            """
    }
}
