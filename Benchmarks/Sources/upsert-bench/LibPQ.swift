import CLibPQArms
import Postgres

/// A libpq connection with the statements prepared, and the work in C. Not for use from several threads at once.
final class LibPQ {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private let arm: OpaquePointer

    /// Such as "15.18".
    static var version: String {
        let number = Int(libpq_arm_version())
        return "\(number / 10000).\(number % 10000)"
    }

    /// What pipeline mode costs in calls of send, which depends on the version.
    static var sending: String {
        libpq_arm_queues_sync()
            ? "queues a pipeline's Syncs (PQsendPipelineSync)"
            : "sends once for each statement of a pipeline with a Sync each (PQpipelineSync; libpq 17 need not)"
    }

    /// Calls of send by the calling thread so far, which is the one that libpq sends on.
    static var sendCalls: Int { Int(libpq_arm_send_calls()) }

    /// Without any statement prepared.
    init(bare url: String) throws(Failure) {
        guard let arm = libpq_arm_connect(url) else { throw Failure(description: "libpq: out of memory") }
        self.arm = arm
        try check(libpq_arm_error(arm) == nil)
    }

    /// - Parameter schema: where the table is; nil leaves it to the server's search_path.
    convenience init(_ url: String, schema: String?) throws(Failure) {
        try self.init(bare: url)
        if let schema { try execute("SET search_path TO \"\(schema)\"") }
        let statements = [
            "select": SQLText.select, "upsert": SQLText.upsert, "exists": SQLText.exists, "update": SQLText.update,
            "insert": SQLText.insert, "bulk": SQLText.bulkUpsert,
        ]
        for (name, sql) in statements { try check(libpq_arm_prepare(arm, name, sql)) }
        try prepareRows()
    }

    /// For `readRows`.
    func prepareRows() throws(Failure) { try check(libpq_arm_prepare(arm, "rows", SQLText.fiveColumns)) }

    deinit { libpq_arm_close(arm) }

    private func check(_ isGood: Bool) throws(Failure) {
        if isGood { return }
        throw Failure(description: libpq_arm_error(arm).map { String(cString: $0) } ?? "libpq failed")
    }

    // What hands out a pointer lives until the call that takes it has returned: Swift by itself keeps it to its last use only.

    func call(_ work: (OpaquePointer) -> Bool) throws(Failure) {
        try withExtendedLifetime(self) { () throws(Failure) in try check(work(arm)) }
    }

    private func timedCall(
        _ count: Int, _ latencies: inout [UInt64],
        _ work: (OpaquePointer, Int32, UnsafeMutablePointer<UInt64>?) -> Bool
    ) throws(Failure) {
        var times = [UInt64](repeating: 0, count: count)
        try call { arm in
            times.withUnsafeMutableBufferPointer { work(arm, Int32(clamping: count), $0.baseAddress) }
        }
        latencies += times
    }

    func execute(_ sql: String) throws(Failure) { try call { libpq_arm_execute($0, sql) } }

    func select(_ count: Int, latencies: inout [UInt64]) throws(Failure) {
        try timedCall(count, &latencies) { arm, count, times in libpq_arm_select(arm, count, times) }
    }

    func select(_ count: Int) throws(Failure) { try call { libpq_arm_select($0, Int32(clamping: count), nil) } }

    func upsert(_ rows: Rows, _ count: Int, latencies: inout [UInt64]) throws(Failure) {
        try timedCall(count, &latencies) { arm, count, times in
            rows.withPointer { libpq_arm_upsert(arm, $0, count, times) }
        }
    }

    func upsert(_ rows: Rows, _ count: Int) throws(Failure) {
        try call { arm in rows.withPointer { libpq_arm_upsert(arm, $0, Int32(clamping: count), nil) } }
    }

    /// - Returns: how many failed for a duplicate key.
    func upsertNaively(_ rows: Rows, _ count: Int, latencies: inout [UInt64]) throws(Failure) -> Int {
        var duplicates: Int64 = 0
        try timedCall(count, &latencies) { arm, count, times in
            rows.withPointer { libpq_arm_naive(arm, $0, count, times, &duplicates) }
        }
        return Int(duplicates)
    }

    func pipeline(_ rows: Rows, _ count: Int, syncEach: Bool = true) throws(Failure) {
        try call { arm in rows.withPointer { libpq_arm_pipeline(arm, $0, Int32(clamping: count), syncEach) } }
    }

    func bulkUpsert(_ arrays: Arrays) throws(Failure) {
        try call { arm in arrays.withPointer { libpq_arm_bulk(arm, $0) } }
    }

    /// Packs the rows into arrays in C, then sends them.
    func bulkUpsert(_ rows: Rows) throws(Failure) {
        try call { arm in rows.withPointer { libpq_arm_bulk_rows(arm, $0) } }
    }

    func readRows(_ count: Int) throws(Failure) {
        var checksum = 0.0
        try call { libpq_arm_read_rows($0, Int32(clamping: count), &checksum) }
    }

    /// Rows as C strings.
    final class Rows {
        private let rows: OpaquePointer

        init(_ values: [StatsRow]) throws(Failure) {
            guard !values.isEmpty, let rows = libpq_rows_new(Int32(clamping: values.count)) else {
                throw Failure(description: "libpq: no rows")
            }
            self.rows = rows
            for value in values where !libpq_rows_add(rows, value.statsType, value.data.text) {
                throw Failure(description: "libpq: out of memory")
            }
        }

        deinit { libpq_rows_free(rows) }

        func withPointer<Result>(_ body: (OpaquePointer) -> Result) -> Result {
            withExtendedLifetime(self) { body(rows) }
        }
    }

    /// Rows as binary arrays.
    final class Arrays {
        private let arrays: OpaquePointer

        init(_ values: [StatsRow]) throws(Failure) {
            guard let arrays = try Rows(values).withPointer({ libpq_arrays_new($0) }) else {
                throw Failure(description: "libpq: out of memory")
            }
            self.arrays = arrays
        }

        deinit { libpq_arrays_free(arrays) }

        func withPointer<Result>(_ body: (OpaquePointer) -> Result) -> Result {
            withExtendedLifetime(self) { body(arrays) }
        }
    }
}
