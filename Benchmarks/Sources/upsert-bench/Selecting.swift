import Measurement
import Postgres

/// `SELECT $1::int4`, one after the other, with each way of calling. Wrong answers are errors.
enum Selecting {
    struct WrongAnswer: Error {}

    // Nonisolated and nonsending: it runs where its caller runs, be that a task, an actor or the main actor.
    static func asynchronously(_ db: PostgresConnection, _ count: Int) async throws {
        for number in 0..<Int32(clamping: count) {
            if try await db.query("SELECT \(number)::int4", as: Int32.self).one() != number { throw WrongAnswer() }
        }
    }

    /// Each on the next of the connections.
    static func inTurn(_ connections: [PostgresConnection], _ count: Int) async throws {
        for number in 0..<Int32(clamping: count) {
            let db = connections[Int(number) % connections.count]
            if try await db.query("SELECT \(number)::int4", as: Int32.self).one() != number { throw WrongAnswer() }
        }
    }

    /// As many as there are latencies to fill in. Nothing but the call is between two readings of the clock.
    static func asynchronously(_ db: PostgresConnection, _ latencies: inout [UInt64]) async throws {
        for index in latencies.indices {
            let number = Int32(truncatingIfNeeded: index)
            let start = monotonicNanoseconds()
            let answer = try await db.query("SELECT \(number)::int4", as: Int32.self).one()
            latencies[index] = monotonicNanoseconds() &- start
            if answer != number { throw WrongAnswer() }
        }
    }

    static func blocking(_ db: PostgresBlockingConnection, _ count: Int) throws {
        for number in 0..<Int32(clamping: count) {
            if try db.query("SELECT \(number)::int4", as: Int32.self).one() != number { throw WrongAnswer() }
        }
    }

    static func blocking(_ db: PostgresBlockingConnection, _ latencies: inout [UInt64]) throws {
        for index in latencies.indices {
            let number = Int32(truncatingIfNeeded: index)
            let start = monotonicNanoseconds()
            let answer = try db.query("SELECT \(number)::int4", as: Int32.self).one()
            latencies[index] = monotonicNanoseconds() &- start
            if answer != number { throw WrongAnswer() }
        }
    }

    actor Caller {
        func select(_ db: PostgresConnection, _ count: Int) async throws { try await asynchronously(db, count) }
    }

    @MainActor
    static func onMainActor(_ db: PostgresConnection, _ count: Int) async throws {
        try await asynchronously(db, count)
    }

    /// A child task each, a thousand at a time, on one connection.
    static func inTasks(_ db: PostgresConnection, _ count: Int) async throws {
        var first = 0
        while first < count {
            let last = min(first + 1000, count)
            try await withThrowingDiscardingTaskGroup { group in
                for number in first..<last {
                    let number = Int32(clamping: number)
                    group.addTask {
                        if try await db.query("SELECT \(number)::int4", as: Int32.self).one() != number {
                            throw WrongAnswer()
                        }
                    }
                }
            }
            first = last
        }
    }

    /// The same, all of it on the thread that reads the connection.
    static func inTasksOnTheLoop(_ db: PostgresConnection, _ count: Int) async throws {
        try await withTaskExecutorPreference(db.executor) { try await inTasks(db, count) }
    }
}

/// Five columns of a row, read by type.
enum Reading {
    static func rows(_ db: PostgresConnection, _ count: Int) async throws {
        let rows = try await db.stream(
            "SELECT i, i * 2::int8, 'row ' || i, i::float8, now() FROM generate_series(1, \(Int32(clamping: count))) AS i",
            as: (Int32, Int64, String, Double, PostgresTimestamp).self)
        var read = 0
        var checksum = 0
        for try await (small, large, text, double, time) in rows {
            checksum &+= Int(small) &+ Int(large) &+ text.utf8.count &+ Int(double) &+ Int(time.microseconds & 1)
            read += 1
        }
        if read != count || checksum == 0 { throw Selecting.WrongAnswer() }
    }
}
