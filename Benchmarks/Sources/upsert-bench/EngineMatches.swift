import Measurement
import Postgres
import PostgresUpsert

/// How much of the engine's work is done in a round.
struct EngineSize {
    var selects = 6400
    var flight = 1000
    var flights = 4
    var copied = 200_000
    var checkouts = 100_000

    static let smoke = Self(selects: 640, flight: 100, flights: 1, copied: 2000, checkouts: 1000)
}

extension Match {
    /// Pipelines of isolated statements and atomic ones, each against libpq's with its Syncs in the same places.
    static func pipelines(_ server: BenchmarkServer, _ size: EngineSize, _ sync: PostgresPipeline.Sync) async throws
        -> Match
    {
        let rows = StatsRow.rows(size.flight, keys: size.flight)
        let upsert = StatsRow.upsert
        let libpqRows = try LibPQ.Rows(rows)
        let db = try await server.connect()
        let libpq = try server.connectLibPQ()
        let isIsolated = sync == .isolated
        return Match(
            "pipeline of \(size.flight) upserts, \(isIsolated ? "a Sync each" : "one Sync")",
            tidyUp: { try await db.execute("VACUUM stats") },
            [
                Contender(.libpq, operations: rows.count * size.flights) {
                    for _ in 0..<size.flights { try libpq.pipeline(libpqRows, rows.count, syncEach: isIsolated) }
                },
                Contender(
                    .compared("pipeline, \(isIsolated ? "isolated" : "atomic")", limit: 0.75, stretch: 0.35),
                    operations: rows.count * size.flights
                ) {
                    for _ in 0..<size.flights {
                        var pipeline = PostgresPipeline(sync)
                        pipeline.reserveCapacity(rows.count)
                        for row in rows { pipeline.add(upsert(row).query) }
                        try await db.run(pipeline).check()
                    }
                },
            ])
    }

    /// Many tasks on one connection, and 64 over a pool of 8, against one statement after the other in libpq.
    static func manyTasks(_ server: BenchmarkServer, _ size: EngineSize) async throws -> Match {
        let count = size.selects
        let ofTasks = try await server.connect()
        let ofTasksOnLoop = try await server.connect()
        let libpq = try server.connectLibPQ()
        var options = PostgresClient.Options()
        options.maximumConnections = 8
        let pool = PostgresClient(try server.configuration(), pool: options)
        let poolOnLoop = PostgresClient(try server.configuration(), pool: options)
        return Match(
            "SELECT $1::int4 by many tasks",
            [
                Contender(.libpq, operations: count) { try libpq.select(count) },
                Contender(.compared("1,000 child tasks, one connection", limit: 0.8, stretch: 0.4), operations: count) {
                    try await Selecting.inTasks(ofTasks, count)
                },
                Contender(
                    .compared("1,000 child tasks, on the loop", limit: 0.8, stretch: 0.4), operations: count
                ) { try await Selecting.inTasksOnTheLoop(ofTasksOnLoop, count) },
                Contender(.compared("64 tasks, pool of 8", limit: 1.3, stretch: 0.8), operations: count) {
                    try await Selecting.from(pool, tasks: 64, count)
                },
                Contender(.compared("64 tasks, pool of 8, on the loop", limit: 0.8, stretch: 0.4), operations: count) {
                    try await withTaskExecutorPreference(poolOnLoop.executor) {
                        try await Selecting.from(poolOnLoop, tasks: 64, count)
                    }
                },
            ])
    }

    static func copyIn(_ server: BenchmarkServer, _ size: EngineSize) async throws -> Match {
        let rows = CopiedRow.rows(size.copied)
        let tuples = rows.map { ($0.key, $0.text, $0.number) }
        let libpqRows = LibPQ.CopyRows(rows)
        let db = try await server.connect()
        try await db.execute("\(unsafeSQL: CopiedRow.createTable)")
        let libpq = try server.connectLibPQ()
        let columns = ["key", "text", "number"]
        return Match(
            "COPY FROM in binary form", unit: "row", tidyUp: { try await db.execute("TRUNCATE copied") },
            [
                Contender(.libpq, operations: rows.count) {
                    try libpq.copyIn("COPY copied FROM STDIN (FORMAT binary)", libpqRows)
                },
                Contender(.compared("COPY in, an array of tuples", limit: 1.2, stretch: 0.8), operations: rows.count) {
                    try await db.copy(into: "copied", columns: columns, rows: tuples)
                },
                Contender(.aside("COPY in, a lazy sequence of tuples"), operations: rows.count) {
                    try await db.copy(
                        into: "copied", columns: columns, rows: rows.lazy.map { ($0.key, $0.text, $0.number) })
                },
                Contender(.aside("COPY in, an AsyncSequence of tuples"), operations: rows.count) {
                    try await db.copy(into: "copied", columns: columns, rows: Later(rows))
                },
            ])
    }

    static func copyOut(_ server: BenchmarkServer, _ size: EngineSize) async throws -> Match {
        let db = try await server.connect()
        let libpq = try server.connectLibPQ()
        let count = size.copied
        try await db.execute("\(unsafeSQL: CopiedRow.createTable)")
        try await db.execute("TRUNCATE copied")
        try await db.execute("\(unsafeSQL: CopiedRow.fillTable(count))")
        return Match(
            "COPY TO in binary form", unit: "row",
            [
                Contender(.libpq, operations: count) {
                    if try libpq.copyOut(CopiedRow.copyOut) != count { throw Selecting.WrongAnswer() }
                },
                Contender(.compared("COPY out, rows as tuples", limit: 1.2, stretch: 0.8), operations: count) {
                    if try await CopiedRow.read(from: db) != count { throw Selecting.WrongAnswer() }
                },
            ])
    }
}

extension Selecting {
    /// So many tasks, each with its part of the statements, one after the other.
    static func from(_ client: PostgresClient, tasks: Int, _ count: Int) async throws {
        try await withThrowingDiscardingTaskGroup { group in
            for task in 0..<tasks {
                group.addTask {
                    for number in stride(from: task, to: count, by: tasks) {
                        let number = Int32(clamping: number)
                        if try await client.query("SELECT \(number)::int4", as: Int32.self).one() != number {
                            throw WrongAnswer()
                        }
                    }
                }
            }
        }
    }
}

/// Rows that come one by one, as from a file or another connection.
struct Later: AsyncSequence, AsyncIteratorProtocol {
    private var rows: IndexingIterator<[CopiedRow]>
    init(_ rows: [CopiedRow]) { self.rows = rows.makeIterator() }
    func makeAsyncIterator() -> Self { self }
    mutating func next() async -> (Int32, String, Double)? { rows.next().map { ($0.key, $0.text, $0.number) } }
}
