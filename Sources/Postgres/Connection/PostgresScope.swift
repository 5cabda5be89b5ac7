import PostgresTransport
import Synchronization

/// What a piece of work asks of every wait in it. It travels with the task, and is read only where a call is about to suspend.
struct PostgresScope: Sendable {
    var deadline = Deadline.never
    var cancellation: PostgresConfiguration.Cancellation?

    @TaskLocal fileprivate static var bound: PostgresScope?
    /// Whether there has ever been one. Who sets none pays for a look at this, and not for one at the task's values. Whoever is in a
    /// scope sees it set: it is set by the same thread, or by one that made the task afterwards.
    fileprivate static let isInUse = Atomic<Bool>(false)

    static var current: PostgresScope? { isInUse.load(ordering: .relaxed) ? bound : nil }

    /// The current one, with a deadline that is no later than this.
    static func ending(after timeout: Duration) -> PostgresScope {
        var scope = current ?? PostgresScope()
        scope.deadline = min(scope.deadline, Deadline(after: timeout))
        return scope
    }

    /// Whether the time of the work that is going on is up.
    static var hasEnded: Bool { current?.deadline.hasPassed ?? false }
}

/// Bounds the time of all that `body` asks of PostgreSQL, on any connection, also in its child tasks.
///
/// ```swift
/// let total = try await withPostgresTimeout(.seconds(2)) {
///     try await db.query("SELECT count(*) FROM events", as: Int.self).one()
/// }
/// ```
/// At the deadline, each wait ends with the code `timedOut`: for a connection, for a turn on one, for the server, for a notification.
/// - What waits to be sent is not sent: the outcome is `notSent`.
/// - A statement, pipeline, stream or COPY that is alone in flight is cancelled (manual, "Canceling Requests in Progress"), and what
///   the server says within ``PostgresConfiguration/cancelTimeout`` counts: the outcome is `rejected` if it was stopped; if it ended
///   before, its result is returned. If the server does not answer, the connection is closed, and the outcome is `unknown`.
/// - A statement with others in flight on its connection is not cancelled, because that could stop one of the others: the outcome is
///   `unknown`, at once, and its result is thrown away. If it is next and nothing comes from the server for `cancelTimeout`,
///   the connection is closed.
/// - A COPY in is given up, and nothing was copied, unless all of it had been sent.
/// - COMMIT is not sent any more, and the transaction is rolled back. One that was sent is cancelled, as a statement is; if the
///   connection has to be closed, the outcome is `unknown`, for the server may have committed.
/// - ROLLBACK, the end of a cursor, and the like have at least `cancelTimeout`, also behind the deadline; then the connection is
///   closed, which has the same effect.
///
/// Work between the waits is not interrupted, and a reply that comes without a suspension is never late. Inside another timeout the
/// earlier deadline holds.
@discardableResult
public func withPostgresTimeout<Result, Failure: Error>(
    _ timeout: Duration, _ body: () async throws(Failure) -> Result
) async throws(Failure) -> Result {
    try await within(.ending(after: timeout), body)
}

/// Bounds the time of all that `body` asks of PostgreSQL, for the blocking API: as the form with `await`.
///
/// ```swift
/// let total = try withPostgresTimeout(.seconds(2)) {
///     try db.query("SELECT count(*) FROM events", as: Int.self).one()
/// }
/// ```
/// It holds on the calling thread, and in tasks that `body` makes.
// Disfavoured, so that in asynchronous code a closure whose `async` is left to the compiler goes to the other form.
@discardableResult @_disfavoredOverload
public func withPostgresTimeout<Result, Failure: Error>(
    _ timeout: Duration, _ body: () throws(Failure) -> Result
) throws(Failure) -> Result {
    PostgresScope.isInUse.store(true, ordering: .relaxed)
    // A task-local's own way to bind a value does not know typed errors.
    let result = PostgresScope.$bound.withValue(.ending(after: timeout)) { () -> Swift.Result<Result, Failure> in
        do throws(Failure) { return .success(try body()) } catch { return .failure(error) }
    }
    return try result.get()
}

/// The time left of ``withPostgresTimeout(_:_:)``, for whoever waits for something else than a connection inside of it: zero when it is
/// up, nil when there is none.
public func remainingPostgresTimeout() -> Duration? { PostgresScope.current?.deadline.remaining }

/// Sets what cancelling a task does to its statement, for all of `body`: see ``PostgresConfiguration/cancellation``.
@discardableResult
public func withPostgresCancellation<Result, Failure: Error>(
    _ cancellation: PostgresConfiguration.Cancellation, _ body: () async throws(Failure) -> Result
) async throws(Failure) -> Result {
    var scope = PostgresScope.current ?? PostgresScope()
    scope.cancellation = cancellation
    return try await within(scope, body)
}

private func within<Result, Failure: Error>(
    _ scope: PostgresScope, _ body: () async throws(Failure) -> Result
) async throws(Failure) -> Result {
    PostgresScope.isInUse.store(true, ordering: .relaxed)
    // A task-local's own way to bind a value does not know typed errors.
    let result = await PostgresScope.$bound.withValue(scope) { () async -> Swift.Result<Result, Failure> in
        do throws(Failure) { return .success(try await body()) } catch { return .failure(error) }
    }
    return try result.get()
}

/// When a wait ends, and what cancelling the task does.
struct WaitLimits: Sendable {
    /// What the configuration says.
    struct Defaults: Sendable {
        let queryTimeout: Duration?
        let cancelTimeout: Duration
        let cancellation: PostgresConfiguration.Cancellation

        init(_ configuration: PostgresConfiguration) {
            queryTimeout = configuration.queryTimeout
            cancelTimeout = configuration.cancelTimeout
            cancellation = configuration.cancellation
        }
    }

    /// nil: without bound.
    var deadline: Deadline?
    var cancellation: PostgresConfiguration.Cancellation

    /// How long a thread of the blocking API reads for itself: with a deadline only briefly, and then the loop does.
    var blockingBound: ConnectionCore.ReadBound { deadline == nil ? .unbounded : .poll }

    /// Without a bound, and a cancelled task does not concern the server.
    var isPlain: Bool { deadline == nil && cancellation == .finish }
}

extension ConnectionCore {
    /// Of a wait that begins now.
    func waitLimits() -> WaitLimits {
        var limits = WaitLimits(
            deadline: limits.queryTimeout.map { Deadline(after: $0) }, cancellation: limits.cancellation)
        guard let scope = PostgresScope.current else { return limits }
        limits.cancellation = scope.cancellation ?? limits.cancellation
        if !scope.deadline.isNever { limits.deadline = min(limits.deadline ?? .never, scope.deadline) }
        return limits
    }

    /// Until when to wait for what has to happen, such as ROLLBACK: past any deadline, and of a cancelled task, `cancelTimeout` at
    /// least. nil: without bound.
    func endDeadline() -> Deadline? {
        if Task.isCancelled { return Deadline(after: limits.cancelTimeout) }
        return waitLimits().deadline.map { max($0, Deadline(after: limits.cancelTimeout)) }
    }

    /// The same as limits, for what has to be waited for although the caller's own time is up.
    func endLimits() -> WaitLimits { WaitLimits(deadline: endDeadline(), cancellation: .finish) }
}
