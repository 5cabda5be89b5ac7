import ArgumentParser
import Measurement

/// The workloads done by libpq.
struct LibPQWorkload {
    private let server: WorkloadServer
    private let statements: Int

    init(_ server: WorkloadServer, statements: Int) {
        self.server = server
        self.statements = statements
    }

    func run(_ name: WorkloadCommand.Name, _ count: Int) throws -> Workload.Finished {
        let libpq = try LibPQ(name == .w1t ? server.tcpURL : server.url, schema: nil)
        let warmUp = Workload.warmUp(count)
        var latencies: [UInt64] = []
        switch name {
        case .w1u, .w1t:
            try libpq.select(warmUp)
            let meter = Meter()
            try libpq.select(count, latencies: &latencies)
            return .init(operations: count, cost: meter.cost, latencies: latencies)
        case .w2:
            let rows = try LibPQ.Rows(StatsRow.rows(1000, keys: 10))
            try libpq.upsert(rows, warmUp)
            let meter = Meter()
            try libpq.upsert(rows, count, latencies: &latencies)
            return .init(operations: count, cost: meter.cost, latencies: latencies)
        case .w3:
            let rows = try LibPQ.Rows(StatsRow.rows(1000, keys: 10))
            _ = try libpq.upsertNaively(rows, warmUp, latencies: &latencies)
            latencies = []
            let meter = Meter()
            let duplicates = try libpq.upsertNaively(rows, count, latencies: &latencies)
            return .init(
                operations: count, cost: meter.cost, latencies: latencies, duplicateKeyErrors: duplicates)
        case .w4sync, .w4one:
            let rows = try LibPQ.Rows(StatsRow.rows(1000, keys: 1000))
            try libpq.upsert(rows, 1)
            let meter = Meter()
            try libpq.pipeline(rows, count, syncEach: name == .w4sync)
            return .init(operations: count, cost: meter.cost)
        case .w5:
            try libpq.readRows(1)
            let meter = Meter()
            try libpq.readRows(count)
            return .init(operations: count, cost: meter.cost)
        case .w6:
            let rows = LibPQ.CopyRows(CopiedRow.rows(count))
            try libpq.execute("TRUNCATE copied")
            let meter = Meter()
            for _ in 0..<statements { try libpq.copyIn("COPY copied FROM STDIN (FORMAT binary)", rows) }
            return .init(operations: statements * count, cost: meter.cost)
        case .w7:
            let rows = try LibPQ.Rows(StatsRow.rows(count, keys: count))
            let meter = Meter()
            for _ in 0..<statements { try libpq.bulkUpsert(rows) }
            return .init(operations: statements * count, cost: meter.cost)
        case .w8:
            try libpq.execute(CopiedRow.createTable)
            try libpq.execute("TRUNCATE copied")
            try libpq.execute(CopiedRow.fillTable(count))
            let meter = Meter()
            for _ in 0..<statements {
                if try libpq.copyOut(CopiedRow.copyOut) != count { throw Selecting.WrongAnswer() }
            }
            return .init(operations: statements * count, cost: meter.cost)
        case .w1b, .w1a, .w1m, .w1g, .w1l, .w1s, .w3b, .w1o, .w2o, .w10, .encode, .decode, .requests, .replies,
            .replies1,
            .datarows:
            throw ValidationError(
                "libpq has no \(name) here; --libpq takes w1u, w1t, w2, w3, w4sync, w4one, w5, w6, w7 and w8.")
        }
    }
}
