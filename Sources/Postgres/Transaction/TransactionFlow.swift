import PostgresProtocol
import PostgresTransport
import Synchronization

/// One transaction on a leased connection: what was sent of it, and what rides with the next statement.
///
/// *Theory of operation.* Nothing is sent for its own sake. BEGIN, SAVEPOINT and RELEASE are *leads*: they wait in `leads` until
/// a statement comes, and go out before it in one atomic group, so that a failed BEGIN lets nothing run outside the transaction.
/// Whoever takes the leads has them for itself until the reply is there; meanwhile other statements wait, for theirs must come
/// behind. Without leads the flow *is plain*, and statements go straight into the queue, each with a Sync of its own.
///
/// A lead whose fate is not known (the wait for it was cancelled) or that failed *dooms* the flow: nothing more is sent but what
/// rolls it back. Rolling back to a savepoint proves that everything up to it is there, and so lifts a doom from inside it.
///
/// Each level has a number of the connection's lease. Opening a savepoint moves the lease to a new number, and closing moves it
/// back: so a statement of an outer level, or one that comes too late, is refused where it would enter the queue, and no order
/// of tasks can put it behind the COMMIT.
///
/// Only bookkeeping is here; `+Sending` and `+Blocking` do what it says.
final class TransactionFlow: Sendable {
    let core: ConnectionCore
    private let plain = Atomic<Bool>(false)
    private let state: Lock<State>

    /// A statement that waits for the next one.
    struct Lead: Sendable {
        let query: PostgresQuery
        /// The number of the savepoint that it opens.
        var opens: Int?
    }

    /// A nested transaction.
    struct Savepoint: Sendable {
        /// Its lease number, by which it is known too.
        let writer: Int
        let outer: Int
        let name: String
        /// How many failures there had been before it.
        let failures: Int
    }

    enum End: Sendable {
        /// Nothing was sent, or everything was rolled back.
        case rolledBack
        case committed
        /// COMMIT was sent and not answered.
        case unknown
    }

    private struct State {
        var leads: [Lead]
        var isClaimed = false
        var waiting: [(number: Int, waiter: InFlight.Waiter)] = []
        var waitNumber = 0
        var doom: PostgresError?
        /// Whether the server may have an open transaction.
        var isBegun = false
        var writer: Int
        var depth = 0
        /// Statements that failed, or whose end is not known to this object.
        var failures = 0
        var end: End?
        /// Why it did not end with success.
        var endError: PostgresError?
        var connection: (any AnyObject & Sendable)?
    }

    init(_ core: ConnectionCore, connection: any AnyObject & Sendable, begin: PostgresQuery, writer: Int) {
        self.core = core
        state = Lock(State(leads: [Lead(query: begin)], writer: writer, connection: connection))
    }

    /// Keeps the connection open as long as the transaction is in use, and no longer: a task that was made in its body, and every
    /// task that this makes, has the flow among its task-local values.
    var connection: any AnyObject & Sendable { state.withLock { $0.connection } ?? core }

    /// Whether statements need no lead.
    var isPlain: Bool { plain.load(ordering: .acquiring) }
    var writer: Int { state.withLock { $0.writer } }
    var isBegun: Bool { state.withLock { $0.isBegun } }
    var end: End? { state.withLock { $0.end } }
    var endError: PostgresError? { state.withLock { $0.endError } }
    var doom: PostgresError? { state.withLock { $0.doom } }

    /// Another statement whose success cannot be taken for granted.
    func noteFailure() { state.withLock { $0.failures &+= 1 } }

    /// An error on its way to the user.
    func noted(_ error: PostgresError) -> PostgresError {
        guard error.code == .transactionEnded else {
            if error.outcome != .notSent { noteFailure() }
            return error
        }
        return end == nil
            ? error.with(
                message: "a transaction nested in this one is open", hint: "use the innermost transaction's value")
            : error.with(message: "the transaction has ended", hint: "use its value inside the body only")
    }

    private func update(_ state: inout State) {
        plain.store(
            state.isBegun && state.leads.isEmpty && !state.isClaimed && state.doom == nil, ordering: .releasing)
    }

    // MARK: Leads

    /// The leads to send before a statement; nil if another statement has them, and one has to wait.
    ///
    /// - Parameter closing: whether this is the end, which a doomed flow needs too.
    func claim(closing: Bool = false) throws(PostgresError) -> [Lead]? {
        try state.withLock { state throws(PostgresError) in
            if state.isClaimed { return nil }
            if let doom = state.doom, !closing {
                throw PostgresError(
                    code: .inFailedSqlTransaction, message: "the transaction could not be begun: \(doom.message)",
                    outcome: .notSent, underlying: doom)
            }
            state.isClaimed = true
            update(&state)
            defer { state.leads = [] }
            return state.leads
        }
    }

    /// Registers who waits for the leads; false if they are free.
    func wait(_ number: Int, _ waiter: InFlight.Waiter, evenIfCancelled: Bool) -> Bool {
        state.withLock { state in
            guard state.isClaimed, evenIfCancelled || !waiter.isCancelledTask else { return false }
            state.waiting.append((number, waiter))
            return true
        }
    }

    func nextWaitNumber() -> Int {
        state.withLock { state in
            state.waitNumber &+= 1
            return state.waitNumber
        }
    }

    func stopWaiting(_ number: Int) {
        let found = state.withLock { state -> InFlight.Waiter? in
            guard let index = state.waiting.firstIndex(where: { $0.number == number }) else { return nil }
            return state.waiting.remove(at: index).waiter
        }
        if let found { core.resume(found, Reply()) }
    }

    private func release(_ change: (inout State) -> Void) {
        let woken = state.withLock { state in
            state.isClaimed = false
            change(&state)
            update(&state)
            defer { state.waiting = [] }
            return state.waiting
        }
        for (_, waiter) in woken { core.resume(waiter, Reply()) }
    }

    /// Nothing was sent.
    func giveBack(_ leads: [Lead]) { release { $0.leads = leads + $0.leads } }

    /// What became of leads and the statements behind them, which were one group.
    func settle(_ leads: [Lead], _ replies: [Reply]) {
        let failed = replies.firstIndex { reply in
            switch reply.error?.outcome {
            case nil, .succeeded, .aborted: false
            case .rejected, .unknown, .notSent: true
            }
        }
        release { state in
            guard let failed, let error = replies[failed].error else {
                state.isBegun = true
                return
            }
            if error.outcome == .unknown || failed < leads.count { state.doom = error }
            // A BEGIN that the server refused began nothing.
            if replies[failed].end.status != .idle { state.isBegun = true }
        }
    }

    /// What became of leads that were sent with the end of the transaction: its fate is settled elsewhere.
    func settleEnd() { release { $0.isBegun = true } }

    // MARK: Savepoints

    /// - Throws: if `outer` is not the innermost level.
    func openSavepoint(in outer: Int) throws(PostgresError) -> Savepoint {
        let writer = core.nextWriter()
        guard core.moveLease(from: outer, to: writer) else { throw noted(.leaseEnded) }
        return state.withLock { state in
            state.depth += 1
            state.writer = writer
            let name = "postgres_swift_\(state.depth)"
            state.leads.append(Lead(query: "SAVEPOINT \(unsafeSQL: name)", opens: writer))
            update(&state)
            return Savepoint(writer: writer, outer: outer, name: name, failures: state.failures)
        }
    }

    /// From here on nothing gets into the queue but what ends this level.
    ///
    /// - Returns: the number to end it with; nil if it is over.
    func beginEnd(of writer: Int) -> Int? {
        let last = core.nextWriter()
        guard core.moveLease(from: writer, to: last) else { return nil }
        state.withLock { $0.writer = last }
        return last
    }

    /// The outer level is the innermost again.
    func close(_ savepoint: Savepoint, _ last: Int) {
        state.withLock { state in
            state.depth -= 1
            state.writer = savepoint.outer
        }
        _ = core.moveLease(from: last, to: savepoint.outer)
    }

    /// Takes back a SAVEPOINT that was not sent, and what was to follow it.
    ///
    /// - Returns: false if it was sent.
    func takeBack(_ savepoint: Savepoint) -> Bool {
        state.withLock { state in
            guard let index = state.leads.firstIndex(where: { $0.opens == savepoint.writer }) else { return false }
            state.leads.removeSubrange(index...)
            update(&state)
            return true
        }
    }

    /// Lets RELEASE ride with the next statement, if it cannot fail: a doubtful one has to be asked for at once.
    func releaseLater(_ savepoint: Savepoint) -> Bool {
        state.withLock { state in
            guard state.failures == savepoint.failures, state.doom == nil else { return false }
            state.leads.append(Lead(query: savepoint.releaseQuery))
            update(&state)
            return true
        }
    }

    /// The server is back at a savepoint: everything up to it is certain, and nothing behind it counts.
    func rolledBack(to savepoint: Savepoint) {
        release { state in
            state.leads = []
            state.doom = nil
            state.isBegun = true
            state.failures = savepoint.failures
        }
    }

    /// Nobody knows where the server stands.
    func doom(_ error: PostgresError) {
        release { state in
            state.doom = error
            state.isBegun = true
        }
    }

    // MARK: The end

    /// What became of a transaction that was to be committed.
    struct Committed: Sendable {
        /// One for each of the last statements.
        var replies: [Reply] = []
        /// Why it was not committed, or why that is not known.
        var error: PostgresError?
    }

    enum EndPlan {
        /// Nothing was sent: nothing is to be ended.
        case nothing
        case doomed(PostgresError)
        case group
    }

    /// For a caller that has claimed the leads.
    func planEnd(_ leads: [Lead], _ items: [PostgresPipeline.Item]) -> EndPlan {
        if let doom {
            giveBack([])
            return .doomed(doom)
        }
        if isBegun || !items.isEmpty { return .group }
        giveBack([])
        return .nothing
    }

    func finish(_ end: End, _ last: Int, _ error: PostgresError? = nil) {
        var connection: (any AnyObject & Sendable)?
        state.withLock { state in
            state.end = end
            state.endError = error
            swap(&state.connection, &connection)
        }
        core.endLease(last)
        withExtendedLifetime(connection) {}
    }
}

extension TransactionFlow.Savepoint {
    var releaseQuery: PostgresQuery { "RELEASE SAVEPOINT \(unsafeSQL: name)" }
    /// Both in one message: the savepoint is of no more use.
    var rollBackText: String { "ROLLBACK TO SAVEPOINT \(name); RELEASE SAVEPOINT \(name)" }
}

extension TransactionFlow {
    /// How a group with a COMMIT at its end went.
    enum CommitOutcome {
        case committed
        /// The server has ended the transaction, without effect.
        case rolledBack(PostgresError)
        /// It is still open, and failed.
        case open(PostgresError)
        case unknown(PostgresError)
    }

    /// COMMIT of a failed transaction is a success whose tag reads ROLLBACK: only the tag tells.
    static func outcome(ofCommit replies: [Reply]) -> CommitOutcome {
        guard let last = replies.last else { return .committed }
        guard let error = last.error else {
            if last.end.tag == StatementResult.commitTag { return .committed }
            return .rolledBack(
                PostgresError(
                    code: .inFailedSqlTransaction,
                    message: "COMMIT was answered by ROLLBACK: a statement of the transaction had failed",
                    outcome: .aborted, hint: "let the error of a statement end the body, or nest a transaction"))
        }
        if error.outcome == .unknown {
            return .unknown(
                error.with(message: "the effect of COMMIT is not known, for its answer did not come: \(error.message)"))
        }
        if error.outcome == .notSent { return .open(error) }
        let cause = replies.lazy.compactMap(\.error).first { $0.outcome != .aborted && $0.outcome != .succeeded }
        if let cause, cause.outcome == .unknown { return .unknown(cause) }
        return last.end.status == .idle ? .rolledBack(cause ?? error) : .open(cause ?? error)
    }
}
