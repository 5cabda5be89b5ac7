import PostgresTransport

/// What a piece of work asks of every wait in it. It travels with the task, and is read only where a call is about to suspend.
struct PostgresScope: Sendable {
    var deadline = Deadline.never
    var cancellation: PostgresConfiguration.Cancellation?

    @TaskLocal static var current: PostgresScope?
}

/// Bounds the time of all that `body` asks of PostgreSQL, on any connection, also in its child tasks.
///
/// ```swift
/// let total = try await withPostgresTimeout(.seconds(2)) {
///     try await db.query("SELECT count(*) FROM events", as: Int.self).one()
/// }
/// ```
/// At the deadline, each wait for the server ends with the code `timedOut`:
/// - What waits to be sent is not sent: the outcome is `notSent`.
/// - A statement that is the only one in flight is cancelled (manual, "Canceling Requests in Progress"), and what the server says
///   within ``PostgresConfiguration/cancelTimeout`` counts: the outcome is `rejected` if the statement was stopped; if it ended before,
///   its result is returned. If the server does not answer, the connection is closed, and the outcome is `unknown`.
/// - A statement with others in flight on its connection runs to its end, and its result is thrown away: a request to cancel could
///   stop one of the others. The outcome is `unknown`, at once.
///
/// COPY, COMMIT, ROLLBACK and pipelines that are a transaction of their own are not bounded.
///
/// Work between the waits is not interrupted, and a reply that comes without a suspension is never late. Inside another timeout the
/// earlier deadline holds.
@discardableResult
public func withPostgresTimeout<Result, Failure: Error>(
    _ timeout: Duration, _ body: () async throws(Failure) -> Result
) async throws(Failure) -> Result {
    var scope = PostgresScope.current ?? PostgresScope()
    scope.deadline = min(scope.deadline, Deadline(after: timeout))
    return try await within(scope, body)
}

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
    // A task-local's own way to bind a value does not know typed errors.
    let result = await PostgresScope.$current.withValue(scope) { () async -> Swift.Result<Result, Failure> in
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
}
