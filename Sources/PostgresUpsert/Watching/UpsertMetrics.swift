public import Postgres

/// Counts and times upserts, other statements and the pool of one service: an observer for its configuration.
///
/// ```swift
/// let metrics = UpsertMetrics()
/// configuration.observer = metrics
/// ...
/// let alerts = thresholds.alerts(metrics.nextWindow(), pool: client.statistics)      // every minute
/// ```
/// A statement counts as an upsert if its text is an INSERT with ON CONFLICT, whoever wrote it, or a call of an `UpsertFunction`.
/// Those of a pipeline, which a batch of several statements is too, count one by one, each with the time of the pipeline: that is how
/// long its caller waited. Of rows that go by COPY the INSERT behind it counts.
public final class UpsertMetrics: PostgresObserver {
    /// Operations of one kind.
    public struct Series: Sendable, Hashable {
        /// Those that ended, well or not.
        public internal(set) var operations = 0
        /// Those that failed, by their code: an SQLSTATE, or one of the library's own.
        public internal(set) var errors: [PostgresError.Code: Int] = [:]
        /// Rows inserted, updated or deleted, by the command tags.
        public internal(set) var affected = 0
        /// From the call to its return, in nanoseconds, of those that succeeded.
        public internal(set) var duration = PostgresHistogram()

        init() {}

        /// How many failed.
        public var failures: Int { errors.values.reduce(0, +) }
        /// `unique_violation`: what an upsert is there to prevent.
        public var duplicateKeys: Int { errors[.uniqueViolation] ?? 0 }

        mutating func record(_ result: PostgresOperation.Result) {
            record(result.affected, result.error, result.duration)
        }

        mutating func record(_ affected: Int, _ error: PostgresError?, _ time: Duration) {
            operations &+= 1
            self.affected &+= affected
            if let error { errors[error.code, default: 0] &+= 1 } else { duration.record(time) }
        }

        mutating func add(_ other: Series) {
            operations &+= other.operations
            affected &+= other.affected
            errors.merge(other.errors, uniquingKeysWith: &+)
            duration.add(other.duration)
        }
    }

    /// What happened in a span of time.
    public struct Window: Sendable, Hashable {
        /// INSERT with ON CONFLICT.
        public internal(set) var upserts = Series()
        /// All other statements, also those of pipelines, scripts, streams and COPY.
        public internal(set) var others = Series()
        /// Waiting for a connection of a pool.
        public internal(set) var acquires = Series()
        /// Making connections.
        public internal(set) var connects = Series()
        /// Connections that pools closed, and why.
        public internal(set) var closes: [PostgresClient.CloseReason: Int] = [:]
        /// Connections that were held for too long.
        public internal(set) var leaks = 0
        /// How long it was.
        public internal(set) var length = Duration.zero

        init() {}

        mutating func add(_ other: Window) {
            upserts.add(other.upserts)
            others.add(other.others)
            acquires.add(other.acquires)
            connects.add(other.connects)
            closes.merge(other.closes, uniquingKeysWith: &+)
            leaks &+= other.leaks
            length += other.length
        }

        /// Upserts that succeeded, a second.
        public var throughput: Double {
            let seconds = length / .seconds(1)
            return seconds > 0 ? Double(upserts.operations - upserts.failures) / seconds : 0
        }
    }

    private struct State {
        var past = Window()
        var window = Window()
        var since = ContinuousClock.now
        /// Which texts are upserts. Bounded, as a program may make texts without end.
        var isUpsert: [String: Bool] = [:]
    }

    private let state = Lock(State())
    private let next: (any PostgresObserver)?

    /// - Parameter next: another observer to pass everything on to.
    public init(next: (any PostgresObserver)? = nil) { self.next = next }

    /// What happened since the last call, or since the beginning; from here on a new window counts.
    public func nextWindow() -> Window {
        state.withLock { state in
            let now = ContinuousClock.now
            state.window.length = state.since.duration(to: now)
            state.since = now
            state.past.add(state.window)
            defer { state.window = Window() }
            return state.window
        }
    }

    /// What happened since the beginning.
    public var total: Window {
        state.withLock { state in
            var window = state.window
            window.length = state.since.duration(to: .now)
            var total = state.past
            total.add(window)
            return total
        }
    }

    public var wantsParameters: Bool { next?.wantsParameters ?? false }

    public func began(_ operation: PostgresOperation) -> (any Sendable)? { next?.began(operation) }

    public func ended(_ operation: PostgresOperation, _ result: PostgresOperation.Result, _ context: (any Sendable)?) {
        let texts = operation.pipelined.map(\.sql)
        state.withLock { state in
            switch operation.kind {
            case .connect: state.window.connects.record(result)
            case .acquire: state.window.acquires.record(result)
            case .pipeline where !texts.isEmpty: Self.record(texts, result, &state)
            default:
                if let sql = operation.sql, Self.isUpsert(sql, &state) {
                    state.window.upserts.record(result)
                } else {
                    state.window.others.record(result)
                }
            }
        }
        next?.ended(operation, result, context)
    }

    public func happened(_ event: PostgresPoolEvent) {
        state.withLock { state in
            switch event {
            case .closed(let reason): state.window.closes[reason, default: 0] &+= 1
            case .leak: state.window.leaks &+= 1
            }
        }
        next?.happened(event)
    }

    /// The statements of a pipeline. One that failed as a whole has no results of them, and its error is that of each.
    private static func record(_ texts: [String], _ result: PostgresOperation.Result, _ state: inout State) {
        for (number, sql) in texts.enumerated() {
            let hasResult = result.statements.count == texts.count
            let affected = hasResult ? result.statements[number].affected : 0
            let error = hasResult ? result.statements[number].error : result.error
            if isUpsert(sql, &state) {
                state.window.upserts.record(affected, error, result.duration)
            } else {
                state.window.others.record(affected, error, result.duration)
            }
        }
    }

    private static func isUpsert(_ sql: String, _ state: inout State) -> Bool {
        if let known = state.isUpsert[sql] { return known }
        let isUpsert = isUpsert(sql)
        if state.isUpsert.count >= 1024 { state.isUpsert.removeAll() }
        state.isUpsert[sql] = isUpsert
        return isUpsert
    }

    /// An INSERT, also as the query of a WITH, that has an ON CONFLICT outside of quotes and comments, as far as words tell; or a call
    /// of a function that an `UpsertFunction` has made, as far as its name tells.
    static func isUpsert(_ sql: String) -> Bool {
        let words = sql.split { $0.isWhitespace || $0 == "(" || $0 == ")" || $0 == ";" }
        guard let first = words.first?.uppercased() else { return false }
        if first == "SELECT" { return words.contains { isFunctionName($0) } }
        guard first == "INSERT" || first == "WITH" else { return false }
        let isConflict = zip(words, words.dropFirst()).contains { left, right in
            left.uppercased() == "ON" && right.uppercased() == "CONFLICT"
        }
        return isConflict && words.contains { $0.uppercased() == "INSERT" }
    }

    /// `"public"."bump_page_5d0c8a9b1f2e3d4c"`
    private static func isFunctionName(_ word: Substring) -> Bool {
        guard word.utf8.last == UInt8(ascii: "\""), word.contains("\".\"") else { return false }
        let end = word.utf8.dropLast().suffix(17)
        return end.count == 17 && end.first == UInt8(ascii: "_")
            && end.dropFirst().allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    }
}
