import Measurement
import Reporting

/// The limits set for this library, each met or not. What a run was too short for is "not run".
struct Targets {
    private(set) var verdicts: [Verdict] = []
    private let report: RunReport

    init(_ report: RunReport) {
        self.report = report
        addAtomicOverNaive()
        addPipeline()
        addBulk()
        addStaging()
        addCoalesced()
    }

    private mutating func add(_ isMet: Bool?, _ text: String) { verdicts.append(Verdict(isMet, text)) }

    private mutating func addAtomicOverNaive() {
        let name = "atomic over naive throughput, hits, 5 ms round trip, at least 1.95"
        guard let ratio = report["5 ms"]?.throughput("atomic", over: "naive") else { return add(nil, name) }
        var text = "\(name): \(ratio.text)"
        if let near = report["sequential, hits"], let ours = near.throughput("atomic", over: "naive"),
            let libpq = near.throughput("libpq atomic", over: "libpq naive")
        {
            text += "; without latency \(ours.text), libpq's own ratio \(libpq.text)"
        }
        add(ratio.median >= 1.95, text)
    }

    private mutating func addPipeline() {
        let name = "pipeline of 100, one Sync, over one by one, 5 ms round trip, at least 40"
        guard let distant = report["5 ms"], let ratio = distant.throughput("pipeline of 100, one Sync", over: "atomic")
        else { return add(nil, name) }
        var text = "\(name): \(ratio.text(1))"
        if let isolated = distant.throughput("pipeline of 100", over: "atomic") {
            text += "; a Sync each, synchronous_commit off \(isolated.text(1))"
        }
        if let durable = report["durable, 5 ms"], let isolated = durable.throughput("pipeline of 100", over: "atomic"),
            let oneSync = durable.throughput("pipeline of 100, one Sync", over: "atomic")
        {
            text +=
                "; with fsync and synchronous_commit on \(oneSync.text(1)), a Sync each \(isolated.text(1))"
        }
        if let libpq = distant.throughput("libpq pipeline of 100, one Sync", over: "libpq atomic"),
            let sends = distant[arm: "libpq pipeline of 100, one Sync"]?.result.sendCallsPerOperation
        {
            text += "; libpq \(LibPQ.version), \(sends.formatted(2)) sends per operation, \(libpq.text(1))"
        }
        add(ratio.median >= 40, text)
    }

    private mutating func addBulk() {
        let name = "bulk of 10,000 ascending rows, client CPU over libpq's with arrays ready made, at most 1.5"
        if let bulk = report["bulk, 10000 rows"], let ours = bulk[arm: "unnest"]?.measured,
            let libpq = bulk[arm: "libpq unnest, arrays ready made"]?.measured,
            let ratio = Ratio(ours.cpuMicroseconds, over: libpq.cpuMicroseconds)
        {
            add(
                ratio.median <= 1.5,
                "\(name): \(ratio.text); \(median(ours.cpuMicroseconds).formatted(3)) and"
                    + " \(median(libpq.cpuMicroseconds).formatted(3)) us a row")
        } else {
            add(nil, name)
        }
    }

    private mutating func addStaging() {
        let name = "COPY staging over unnest, rows per second, above 1 from the size where the curves cross"
        let ratios = report.scenarios.compactMap { scenario -> (rows: Int, ratio: Ratio)? in
            guard let place = scenario.place, place.curve == .rows,
                let ratio = scenario.throughput(BulkStrategy.copy.rawValue, over: BulkStrategy.unnest.rawValue)
            else { return nil }
            return (Int(place.x), ratio)
        }.sorted { $0.rows < $1.rows }
        // Where they cross is not known of a run that ends before.
        guard let last = ratios.last, last.ratio.median > 1 || last.rows >= 100_000 else { return add(nil, name) }
        let slower = ratios.lastIndex { $0.ratio.median <= 1 }.map { $0 + 1 } ?? 0
        let crossing = slower < ratios.count ? "they cross at \(ratios[slower].rows) rows" : "they do not cross"
        add(
            slower < ratios.count,
            "\(name): \(crossing); " + ratios.map { "\($0.rows) rows \($0.ratio.text)" }.joined(separator: ", "))
    }

    private mutating func addCoalesced() {
        let name = "coalesced, 64 tasks, 5 keys, fsync on, over the atomic upsert on a pool of 8, at least 10"
        guard let scenario = report["durable, 64 tasks, 5 keys"] else { return add(nil, name) }
        let ratios = Coalescing.allCases.compactMap { coalescing in
            scenario.throughput(coalescing.rawValue, over: "atomic").map { (coalescing.rawValue, $0) }
        }
        guard let best = ratios.max(by: { $0.1.median < $1.1.median }) else { return add(nil, name) }
        add(best.1.median >= 10, "\(name): " + ratios.map { "\($0.0) \($0.1.text(1))" }.joined(separator: ", "))
    }
}
