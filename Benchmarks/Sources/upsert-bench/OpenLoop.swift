import Foundation
import Glibc
import Measurement
import Postgres

/// A statement that is due at fixed times, whether those before it have returned or not.
///
/// A caller that waits for each reply and then begins the next leaves out what a slow reply keeps others from: the omission is
/// coordinated with what is measured. Here the latency of a statement is counted from when it was due.
struct OpenLoop {
    struct Result: Sendable {
        var name: String
        var rate: Double
        var achieved: Double
        /// From when it was due.
        var responses: Latencies
        /// From when it was sent.
        var services: Latencies
    }

    let route: ProtocolServer.Route
    let statement: ProtocolStatement
    let connections: Int
    let rate: Double
    let seconds: Double

    func measure() async throws -> [Result] { [try await measureOurs(), try await measureLibPQ()] }

    /// A thread starts a task for each statement when that is due; those of a connection are pipelined if they overlap.
    private func measureOurs() async throws -> Result {
        var open: [PostgresConnection] = []
        for _ in 0..<connections {
            let db = try await route.connect()
            _ = try await db.query(statement.query)
            open.append(db)
        }
        defer { for db in open { db.close() } }
        let total = count * connections
        let interval = UInt64(1e9 / rate)
        let begin = monotonicNanoseconds() &+ 20_000_000
        let times = AsyncThrowingStream<(response: UInt64, service: UInt64), any Error> { [open, statement] stream in
            Thread.detachNewThread {
                for index in 0..<total {
                    let due = begin &+ UInt64(index) &* interval
                    Self.pause(until: due)
                    let db = open[index % open.count]
                    Task.detached {
                        do {
                            let sent = monotonicNanoseconds()
                            _ = try await db.query(statement.query)
                            let end = monotonicNanoseconds()
                            stream.yield((end &- due, end &- sent))
                        } catch {
                            stream.finish(throwing: error)
                        }
                    }
                }
            }
        }
        var responses: [UInt64] = []
        var services: [UInt64] = []
        for try await time in times {
            responses.append(time.response)
            services.append(time.service)
            if responses.count == total { break }
        }
        return result("ours, a task for each", [(responses, services)], since: begin)
    }

    /// A thread for each connection, which waits for each reply. The connections take turns.
    private func measureLibPQ() async throws -> Result {
        var open: [LibPQConnection] = []
        for _ in 0..<connections {
            let libpq = try LibPQConnection(route, statement)
            _ = try libpq.run(1)
            open.append(libpq)
        }
        let interval = UInt64(Double(connections) / rate * 1e9)
        let begin = monotonicNanoseconds() &+ 20_000_000
        let times = try await withThrowingTaskGroup(of: Times.self) { group in
            for (number, libpq) in open.enumerated() {
                let start = begin &+ interval / UInt64(connections) &* UInt64(number)
                group.addTask { [count] in
                    try await onOwnThread { try libpq.openLoop(start: start, interval: interval, count: count) }
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        return result("libpq, a thread for each connection", times, since: begin)
    }

    private typealias Times = (responses: [UInt64], services: [UInt64])

    /// Statements of a connection.
    private var count: Int { max(1, Int(rate * seconds / Double(connections))) }

    private func result(_ name: String, _ times: [Times], since begin: UInt64) -> Result {
        let taken = Double(monotonicNanoseconds() &- begin) / 1e9
        var result = Result(name: name, rate: rate, achieved: 0, responses: Latencies(), services: Latencies())
        for times in times {
            result.responses.record(times.responses)
            result.services.record(times.services)
        }
        result.achieved = Double(result.responses.count) / taken
        return result
    }

    /// As the libpq arm does it: the last stretch is waited for awake, because a sleep may end that much late.
    private static func pause(until due: UInt64) {
        let awake: UInt64 = 100_000
        if monotonicNanoseconds() &+ awake < due {
            let until = due &- awake
            var time = timespec(tv_sec: Int(until / 1_000_000_000), tv_nsec: Int(until % 1_000_000_000))
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nil)
        }
        while monotonicNanoseconds() < due {}
    }
}
