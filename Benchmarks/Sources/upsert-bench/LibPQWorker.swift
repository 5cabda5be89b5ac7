import Measurement

/// A libpq connection that travels from thread to thread, with the rows that are its part.
///
/// Unchecked: `LibPQ` and its rows are no more than memory and a socket, bound to no thread; and each is used by the one thread that
/// an iteration makes for it, which has ended before the next begins.
final class LibPQWorker: @unchecked Sendable {
    private let libpq: LibPQ
    private let rows: LibPQ.Rows
    private let count: Int

    init(_ server: BenchmarkServer, _ part: [StatsRow]) throws(LibPQ.Failure) {
        libpq = try server.connectLibPQ()
        rows = try LibPQ.Rows(part)
        count = part.count
    }

    func select(_ count: Int) throws(LibPQ.Failure) { try libpq.select(count) }

    func upsert() throws(LibPQ.Failure) -> Tally { try libpq.tallyUpserts(rows, count) }

    func upsertNaively() throws(LibPQ.Failure) -> Tally { try libpq.tallyNaiveUpserts(rows, count) }

    /// A Sync each.
    func pipeline() throws(LibPQ.Failure) -> Tally {
        var tally = Tally(operations: count)
        let start = monotonicNanoseconds()
        try libpq.pipeline(rows, count, syncEach: true, &tally)
        tally.latencies.append(monotonicNanoseconds() &- start)
        return tally
    }
}

extension [LibPQWorker] {
    /// Each on a thread of its own, which is begun within the time that is taken.
    func together(_ work: @escaping @Sendable (LibPQWorker) throws -> Tally) async throws -> Tally {
        try await withThrowingTaskGroup(of: Tally.self) { group in
            for worker in self {
                group.addTask { try await onOwnThread { try work(worker) } }
            }
            return try await group.reduce(into: Tally()) { $0 += $1 }
        }
    }
}
