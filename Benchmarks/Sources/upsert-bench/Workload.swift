import ArgumentParser
import Measurement
import MessageCosts
import Postgres
import PostgresUpsert

/// The workloads done by this library.
struct Workload: Sendable {
    /// What was done in the timed part.
    struct Finished: Sendable {
        var operations: Int
        var cost: Cost
        var latencies: [UInt64] = []
        var duplicateKeyErrors: Int?
    }

    private let server: WorkloadServer
    private let statements: Int

    init(_ server: WorkloadServer, statements: Int) {
        self.server = server
        self.statements = statements
    }

    static func warmUp(_ count: Int) -> Int { min(count, 500) }

    func run(_ name: WorkloadCommand.Name, _ count: Int) async throws -> Finished {
        if name == .w3b { return try await concurrently(rounds: count) }
        if let messages = MessageWork(name) { return try alone(count) { try messages.run($0) } }
        var configuration = try PostgresConfiguration(url: name == .w1t ? server.tcpURL : server.url)
        if name == .w1s { configuration.callerReadsBelowLatency = .zero }
        if name == .w1o || name == .w2o { configuration.observer = SilentObserver() }
        let db = try await PostgresConnection.connect(configuration)
        defer { db.close() }
        switch name {
        case .w1u, .w1t, .w1s, .w1o: return try await select(db, count)
        case .w1a: return try await Caller().select(self, db, count)
        case .w1m: return try await selectOnMainActor(db, count)
        case .w1g: return try await inTasks(db, count) { try await Selecting.inTasks(db, $0) }
        case .w1l: return try await inTasks(db, count) { try await Selecting.inTasksOnTheLoop(db, $0) }
        case .w2, .w2o:
            return try await each(count) { (row) throws(PostgresError) in try await db.upsert(row) }
        case .w3:
            return try await each(count) { (row) throws(PostgresError) in try await db.upsertNaively(row) }
        case .w4sync: return try await pipeline(db, count, .isolated)
        case .w4one: return try await pipeline(db, count, .atomic)
        case .w5:
            try await Reading.rows(db, 1)
            let meter = Meter()
            try await Reading.rows(db, count)
            return Finished(operations: count, cost: meter.cost)
        case .w6: return try await copy(db, count)
        case .w7: return try await bulk(db, count)
        case .w8: return try await copyOut(db, count)
        case .w10: return try await coalesced(db, count)
        case .encode: return try alone(count) { try Values.upsert.run($0) }
        case .decode:
            let rows = Values.binary(try await Values.binaryRows(db))
            return try alone(count) { try rows.run($0) }
        case .w1b, .w3b, .requests, .replies, .replies1, .datarows:
            throw ValidationError("\(name) is not of this kind.")
        }
    }

    private func select(_ db: PostgresConnection, _ count: Int) async throws -> Finished {
        try await Selecting.asynchronously(db, Self.warmUp(count))
        var latencies = [UInt64](repeating: 0, count: count)
        let meter = Meter()
        try await Selecting.asynchronously(db, &latencies)
        return Finished(operations: count, cost: meter.cost, latencies: latencies)
    }

    private actor Caller {
        func select(_ workload: Workload, _ db: PostgresConnection, _ count: Int) async throws -> Finished {
            try await workload.select(db, count)
        }
    }

    @MainActor
    private func selectOnMainActor(_ db: PostgresConnection, _ count: Int) async throws -> Finished {
        try await select(db, count)
    }

    /// On the calling thread.
    func selectBlocking(_ count: Int) throws -> Finished {
        let db = try PostgresBlockingConnection.connect(server.url)
        defer { db.close() }
        try Selecting.blocking(db, Self.warmUp(count))
        var latencies = [UInt64](repeating: 0, count: count)
        let meter = Meter()
        try Selecting.blocking(db, &latencies)
        return Finished(operations: count, cost: meter.cost, latencies: latencies)
    }

    private func inTasks(
        _ db: PostgresConnection, _ count: Int, _ work: (Int) async throws -> Void
    ) async throws -> Finished {
        try await work(min(count, 1000))
        let meter = Meter()
        try await work(count)
        return Finished(operations: count, cost: meter.cost)
    }

    private func each(
        _ count: Int, _ operation: (StatsRow) async throws(PostgresError) -> Void
    ) async throws -> Finished {
        let rows = StatsRow.rows(1000, keys: 10)
        for number in 0..<Self.warmUp(count) { try await operation(rows[number % rows.count]) }
        var latencies: [UInt64] = []
        latencies.reserveCapacity(count)
        let meter = Meter()
        for number in 0..<count {
            let start = monotonicNanoseconds()
            try await operation(rows[number % rows.count])
            latencies.append(monotonicNanoseconds() &- start)
        }
        return Finished(operations: count, cost: meter.cost, latencies: latencies)
    }

    private func pipeline(
        _ db: PostgresConnection, _ count: Int, _ sync: PostgresPipeline.Sync
    ) async throws -> Finished {
        let rows = StatsRow.rows(1000, keys: 1000)
        let upsert = StatsRow.upsert
        func flight(_ count: Int) async throws {
            var pipeline = PostgresPipeline(sync)
            pipeline.reserveCapacity(count)
            for number in 0..<count { pipeline.add(upsert(rows[number % rows.count]).query) }
            try await db.run(pipeline).check()
        }
        try await flight(1)
        let meter = Meter()
        try await flight(count)
        return Finished(operations: count, cost: meter.cost)
    }

    /// Without a connection.
    private func alone(_ count: Int, _ work: (Int) throws -> Void) throws -> Finished {
        try work(1000)
        let meter = Meter()
        try work(count)
        return Finished(operations: count, cost: meter.cost)
    }

    private func copy(_ db: PostgresConnection, _ count: Int) async throws -> Finished {
        let rows = CopiedRow.rows(count).map { ($0.key, $0.text, $0.number) }
        let columns = ["key", "text", "number"]
        try await db.execute("\(unsafeSQL: CopiedRow.createTable)")
        try await db.execute("TRUNCATE copied")
        try await db.copy(into: "copied", columns: columns, rows: rows.prefix(2))
        let meter = Meter()
        for _ in 0..<statements { try await db.copy(into: "copied", columns: columns, rows: rows) }
        return Finished(operations: statements * count, cost: meter.cost)
    }

    private func copyOut(_ db: PostgresConnection, _ count: Int) async throws -> Finished {
        try await db.execute("\(unsafeSQL: CopiedRow.createTable)")
        try await db.execute("TRUNCATE copied")
        try await db.execute("\(unsafeSQL: CopiedRow.fillTable(count))")
        let meter = Meter()
        for _ in 0..<statements {
            if try await CopiedRow.read(from: db) != count { throw Selecting.WrongAnswer() }
        }
        return Finished(operations: statements * count, cost: meter.cost)
    }

    private func bulk(_ db: PostgresConnection, _ count: Int) async throws -> Finished {
        let rows = StatsRow.rows(count, keys: count)
        try await db.upsert(rows.prefix(2))
        let meter = Meter()
        for _ in 0..<statements { try await db.upsert(rows) }
        return Finished(operations: statements * count, cost: meter.cost)
    }

    private func coalesced(_ db: PostgresConnection, _ count: Int) async throws -> Finished {
        try await db.execute("DROP TABLE IF EXISTS counters")
        try await db.execute(Counter.createTable)
        let writer = Coalescing.merged.writer(over: PostgresClient(try PostgresConfiguration(url: server.url)))
        func increment(_ count: Int) async -> Tally {
            let rows = Counter.drawn(count, keys: 5)
            let parts = (0..<64).map { task in stride(from: task, to: rows.count, by: 64).map { rows[$0] } }
            return await Scenario.together(parts.map { _ in writer }, parts: parts) { writer, row in
                try await writer.upsert(row)
            }
        }
        _ = await increment(1000)
        let meter = Meter()
        let total = await increment(count)
        if let error = total.unexpected { throw error }
        return Finished(operations: total.operations, cost: meter.cost, latencies: total.latencies)
    }

    /// Ten connections that come to the same five keys together, in each round on an empty table.
    private func concurrently(rounds: Int) async throws -> Finished {
        let keeper = try await PostgresConnection.connect(server.url)
        var connections: [PostgresConnection] = []
        for _ in 0..<10 { connections.append(try await PostgresConnection.connect(server.url)) }
        let rows = StatsRow.rows(5, keys: 5)
        var total = Tally()
        let meter = Meter()
        for _ in 0..<rounds {
            try await keeper.execute("TRUNCATE stats")
            total += await Scenario.together(connections, parts: connections.map { _ in rows }) { db, row in
                try await db.upsertNaively(row)
            }
        }
        if let error = total.unexpected { throw error }
        return Finished(operations: total.operations, cost: meter.cost, duplicateKeyErrors: total.duplicateKeyErrors)
    }
}

extension MessageWork {
    fileprivate init?(_ name: WorkloadCommand.Name) {
        switch name {
        case .requests: self = .requestOfUpsert
        case .replies: self = .replyOfUpsert
        case .replies1: self = .replyOfSelect
        case .datarows: self = .rows
        default: return nil
        }
    }
}

/// Told of everything, and lets it be.
struct SilentObserver: PostgresObserver {}
