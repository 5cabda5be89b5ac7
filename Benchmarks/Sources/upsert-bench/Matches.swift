import Measurement
import Postgres
import PostgresUpsert

/// How much is done in a round.
struct RoundSize {
    var selects = 5000
    var upserts = 2000
    var streamed = 200_000
    var bulk = 10_000
    var bulkStatements = 3

    static let smoke = Self(selects: 200, upserts: 100, streamed: 2000, bulk: 500, bulkStatements: 1)
}

extension Match {
    static func selectOverUnixSocket(_ server: BenchmarkServer, _ size: RoundSize) async throws -> Match {
        let count = size.selects
        // A connection for each: it adapts to how it is called, which must not carry over.
        let plain = try await server.connect()
        let observed = try await server.connect(observer: SilentObserver())
        let fromActor = try await server.connect()
        let fromMainActor = try await server.connect()
        let ofTasks = try await server.connect()
        let ofTasksOnLoop = try await server.connect()
        let libpq = try server.connectLibPQ()
        let caller = Selecting.Caller()
        return Match(
            "sequential SELECT $1::int4",
            [
                Contender(.libpq, operations: count) { try libpq.select(count) },
                Contender(.compared("sequential SELECT, async", limit: 1.10, stretch: 1.00), operations: count) {
                    try await Selecting.asynchronously(plain, count)
                },
                Contender(.aside("ours, async, with an observer that does nothing"), operations: count) {
                    try await Selecting.asynchronously(observed, count)
                },
                Contender(.compared("sequential SELECT, from an actor", limit: 1.20, stretch: 1.05), operations: count)
                { try await caller.select(fromActor, count) },
                Contender(
                    .compared("sequential SELECT, from @MainActor", limit: 1.20, stretch: 1.05), operations: count
                ) { try await Selecting.onMainActor(fromMainActor, count) },
                Contender(.compared("1,000 child tasks, global executor", limit: 0.8, stretch: 0.4), operations: count)
                { try await Selecting.inTasks(ofTasks, count) },
                Contender(.compared("1,000 child tasks, on the loop", limit: 0.8, stretch: 0.4), operations: count) {
                    try await Selecting.inTasksOnTheLoop(ofTasksOnLoop, count)
                },
            ])
    }

    /// Both from a thread that is begun for each round: on a virtual machine the wakes of a fresh thread cost more than those of
    /// one that has been waiting, whoever calls.
    static func selectFromOwnThread(_ server: BenchmarkServer, _ size: RoundSize) async throws -> Match {
        let count = size.selects
        let blocking = try await onOwnThread { try server.connectBlocking() }
        let libpq = try LibPQWorker(server, StatsRow.rows(1, keys: 1))
        return Match(
            "sequential SELECT $1::int4 from a thread of its own", countsSends: false,
            [
                Contender(.libpq, operations: count) { try await onOwnThread { try libpq.select(count) } },
                Contender(.compared("sequential SELECT, blocking API", limit: 1.05, stretch: 0.95), operations: count) {
                    try await onOwnThread { try Selecting.blocking(blocking, count) }
                },
            ])
    }

    static func selectOverTCP(_ server: BenchmarkServer, _ size: RoundSize) async throws -> Match {
        let count = size.selects
        let db = try await server.connect(over: .tcp)
        let libpq = try server.connectLibPQ(over: .tcp)
        return Match(
            "sequential SELECT $1::int4 over TCP",
            [
                Contender(.libpq, operations: count) { try libpq.select(count) },
                Contender(.compared("sequential SELECT, async, TCP", limit: 1.10, stretch: 1.00), operations: count) {
                    try await Selecting.asynchronously(db, count)
                },
            ])
    }

    static func sequentialUpsert(_ server: BenchmarkServer, _ size: RoundSize) async throws -> Match {
        let rows = StatsRow.rows(size.upserts, keys: 10)
        let libpqRows = try LibPQ.Rows(rows)
        let db = try await server.connect()
        let libpq = try server.connectLibPQ()
        return Match(
            "sequential upsert", tidyUp: { try await db.execute("VACUUM stats") },
            [
                Contender(.libpq, operations: rows.count) { try libpq.upsert(libpqRows, rows.count) },
                Contender(.compared("sequential upsert, typed API", limit: 1.20, stretch: 1.05), operations: rows.count)
                { for row in rows { try await db.upsert(row) } },
            ])
    }

    static func pipelinedUpserts(_ server: BenchmarkServer, _ size: RoundSize) async throws -> Match {
        let rows = StatsRow.rows(min(size.upserts, 1000), keys: 1000)
        let flights = max(size.upserts / rows.count, 1)
        let upsert = StatsRow.upsert
        let libpqRows = try LibPQ.Rows(rows)
        let db = try await server.connect()
        let libpq = try server.connectLibPQ()
        return Match(
            "pipeline of 1,000 upserts, a Sync each", tidyUp: { try await db.execute("VACUUM stats") },
            [
                Contender(.libpq, operations: rows.count * flights) {
                    for _ in 0..<flights { try libpq.pipeline(libpqRows, rows.count) }
                },
                Contender(
                    .compared("explicit pipeline of 1,000 upserts", limit: 0.75, stretch: 0.35),
                    operations: rows.count * flights
                ) {
                    for _ in 0..<flights {
                        var pipeline = PostgresPipeline(.isolated)
                        pipeline.reserveCapacity(rows.count)
                        for row in rows { pipeline.add(upsert(row).query) }
                        try await db.run(pipeline).check()
                    }
                },
            ])
    }

    static func streamedRows(_ server: BenchmarkServer, _ size: RoundSize) async throws -> Match {
        let count = size.streamed
        let db = try await server.connect()
        let libpq = try server.connectLibPQ()
        return Match(
            "five columns streamed; libpq in single-row mode", unit: "row",
            [
                Contender(.libpq, operations: count) { try libpq.readRows(count) },
                Contender(.compared("five-column rows, streamed", limit: 0.6, stretch: 0.4), operations: count) {
                    try await Reading.rows(db, count)
                },
            ])
    }

    static func bulkUpsert(_ server: BenchmarkServer, _ size: RoundSize) async throws -> Match {
        let ascending = StatsRow.rows(size.bulk, keys: size.bulk)
        var generator = SplitMix64(seed: 2)
        let shuffled = ascending.shuffled(using: &generator)
        let libpqRows = try LibPQ.Rows(ascending)
        let arrays = try LibPQ.Arrays(ascending)
        let db = try await server.connect()
        let libpq = try server.connectLibPQ()
        let statements = size.bulkStatements
        return Match(
            "bulk upsert by unnest, arrays packed in C", unit: "row", tidyUp: { try await db.execute("VACUUM stats") },
            [
                Contender(.libpq, operations: ascending.count * statements) {
                    for _ in 0..<statements { try libpq.bulkUpsert(libpqRows) }
                },
                Contender(
                    .aside("libpq, arrays ready made before the clock starts"), operations: ascending.count * statements
                ) {
                    for _ in 0..<statements { try libpq.bulkUpsert(arrays) }
                },
                Contender(
                    .compared("bulk upsert, keys ascending", limit: 1.5, stretch: 1.2),
                    operations: ascending.count * statements
                ) { for _ in 0..<statements { try await db.upsert(ascending) } },
                Contender(
                    .compared("bulk upsert, keys in random order", limit: 4, stretch: 2.5),
                    operations: ascending.count * statements
                ) { for _ in 0..<statements { try await db.upsert(shuffled) } },
            ])
    }
}
