import PostgresProtocol
import PostgresTransport
import Synchronization

/// Stopping what runs.
///
/// *Theory of operation.* A CancelRequest names the server's process, not a statement: it stops whatever that process runs when it
/// arrives. So it is sent only while its request is the only one in flight, and from then on nobody may write: the gate takes the
/// place of whoever has the connection for itself (`exclusiveWriter`), and gives it back when two things have happened in any
/// order: the server has closed the connection that carried the request, so it has arrived for good, and the request's
/// ReadyForQuery has come. If they do not happen within `cancelTimeout`, the connection is closed.
///
/// A CancelRequest that arrives before its statement has begun is lost, and of a pipeline it stops one statement; so it is sent
/// again while the request lives.
///
/// Two things may be written in spite of the gate, because without them the request would never end: the rest of an atomic
/// pipeline that was sent in part, up to its Sync, and the CopyFail of a COPY in, for a server that waits for data does not look
/// whether it is cancelled. Both are part of what is being cancelled.

/// Nobody else may write: a CancelRequest is under way.
struct CancelGate: Sendable {
    /// The gate's own number as a writer, which no caller has.
    let number: Int
    /// The request that is to be stopped.
    let target: Int
    /// Who had the connection for itself, and has it again afterwards.
    var lease: Int?
    /// A CancelRequest may have been sent whose connection the server has not closed yet.
    var mayArrive = false
    /// If the target is a piece of a pipeline: the first piece.
    var pipeline: Flight?
    /// Of a pipeline each statement is stopped by a request of its own.
    var hasSeveral = false

    /// Whether this is the writer of an atomic pipeline that is being cancelled and was not sent to its end.
    func admits(_ writer: Int?) -> Bool {
        guard let pipeline, pipeline.isUnfinished else { return false }
        return writer != nil && lease == writer
    }
}

/// A request that is being stopped.
struct Stopped: Sendable {
    let reason: StopReason
    /// Of several statements, each has a reply of its own.
    let flight: Flight?
}

/// Why a request is not waited for any longer.
enum StopReason: Sendable {
    case timedOut
    case cancelled

    /// The error of a statement of which nothing more is known than the outcome.
    func error(_ outcome: PostgresError.Outcome) -> PostgresError {
        switch self {
        case .cancelled: .cancelled(outcome)
        case .timedOut: .timedOut(outcome)
        }
    }

    /// The server's report of a statement that was stopped, in the words of whoever wanted that.
    func error(stopped error: PostgresError) -> PostgresError {
        let own = self.error(.rejected)
        return PostgresError(
            code: own.code, message: own.message, outcome: error.outcome, server: error.server, sql: error.sql,
            hint: own.hint)
    }
}

extension PostgresError {
    static func timedOut(_ outcome: Outcome) -> PostgresError {
        let message =
            switch outcome {
            case .notSent: "the deadline passed before the statement could be sent"
            case .rejected: "the deadline passed, and the statement was cancelled"
            case .succeeded:
                "the deadline passed; the statement ended before it could be cancelled, and its rows are lost"
            case .aborted, .unknown: "the deadline passed while the statement was on its way"
            }
        return PostgresError(code: .timedOut, message: message, outcome: outcome)
    }
}

extension ConnectionCore {
    /// The wait for a request is to end. What that means depends on how far the request got; its waiter is resumed in any case, here
    /// or when a CancelRequest has had its effect.
    ///
    /// - Parameter sendsRequest: whether the server is to be asked.
    func stop(_ number: Int, _ reason: StopReason, sendsRequest: Bool) {
        var outcome = PostgresError.Outcome.unknown
        var gate: CancelGate?
        let waiter = state.withLock { state -> InFlight.Waiter in
            // It has been stopped before, and ends within the bound that was set then.
            if state.cancelGate?.target == number { return .unclaimed }
            if let unsent = takeBack(number, &state) {
                outcome = .notSent
                // Its caller is about to suspend, and finds this instead.
                if case .unclaimed = unsent { state.parked[number] = Reply(error: reason.error(.notSent)) }
                return unsent
            }
            let isWaitedFor = state.queue.update(number) { $0.waiter.isUnanswered } ?? false
            // Of a statement that nobody waits for any more, the deadline stands.
            if sendsRequest, isWaitedFor || reason == .timedOut, let closed = closeGate(for: number, &state) {
                if isWaitedFor { state.stopped[number] = Stopped(reason: reason, flight: closed.pipeline) }
                gate = closed
                return .unclaimed
            }
            return leave(number, reason, &state)
        }
        resume(waiter, Reply(error: reason.error(outcome)))
        if let gate { startCancelling(gate) }
        if reason == .timedOut { watchOverdue() }
    }

    /// Nobody waits for the request any longer.
    ///
    /// - Returns: who did.
    func leave(_ number: Int, _ reason: StopReason, _ state: inout ConnectionState) -> InFlight.Waiter {
        if reason == .timedOut { state.noteOverdue(number) }
        return state.queue.update(number) { request -> InFlight.Waiter in
            switch request.waiter {
            case .unclaimed:
                request.waiter = .cancelled
                return .unclaimed
            case .continuation, .thread:
                defer { request.waiter = reason == .timedOut ? .overdue : .abandoned }
                return request.waiter
            case .abandoned:
                if reason == .timedOut { request.waiter = .overdue }
                return .unclaimed
            case .cancelled, .overdue: return .unclaimed
            }
        } ?? .unclaimed
    }

    // MARK: The gate

    /// Under the lock: from here on nobody else writes. nil if something else than this is in flight, or if it is being stopped already.
    ///
    /// - Parameter number: the request, or the last piece of a pipeline so far.
    func closeGate(for number: Int, _ state: inout ConnectionState) -> CancelGate? {
        guard state.closed == nil, state.cancelGate == nil, number == state.queue.nextNumber &- 1 else { return nil }
        let pipeline = state.pipeline(of: number)
        guard state.queue.count == 1 || (pipeline != nil && state.hasOnly(pipeline)) else { return nil }
        state.roomNumber &+= 1
        var gate = CancelGate(
            number: state.roomNumber, target: number, lease: state.exclusiveWriter, pipeline: pipeline)
        if let pipeline {
            gate.hasSeveral = pipeline.items.count > 1 || state.queue.count > 1 || pipeline.isUnfinished
        }
        state.exclusiveWriter = gate.number
        state.cancelGate = gate
        readForCancelling(&state)
        return gate
    }

    /// Those who write what the gate lets through may be waiting for room.
    private func wakeAdmitted() { wake(state.withLock { $0.cancelGate == nil ? [] : $0.takeRoomWaiters() }) }

    enum GateState {
        case open
        case closed
        /// The connection is closed.
        case gone
    }

    /// Opens the gate if the request has ended and no CancelRequest can arrive any more.
    @discardableResult
    func openGate(_ gate: CancelGate?) -> GateState {
        var woken: [ConnectionState.RoomWaiter] = []
        defer { wake(woken) }
        return state.withLock { state in
            guard let current = state.cancelGate, gate == nil || gate?.number == current.number else { return .open }
            if state.closed != nil { return .gone }
            guard state.queue.isEmpty, !current.mayArrive else { return .closed }
            state.cancelGate = nil
            state.exclusiveWriter = current.lease
            woken = state.takeRoomWaiters()
            return .open
        }
    }

    /// In one step with the look at the gate: no moment may lie between in which it opens, and another request follows.
    ///
    /// - Returns: whether a CancelRequest may be sent now.
    private func beginSending(_ gate: CancelGate) -> Bool {
        state.withLock { state in
            guard state.cancelGate?.number == gate.number, state.closed == nil, !state.queue.isEmpty else {
                return false
            }
            state.cancelGate?.mayArrive = true
            return true
        }
    }

    private func hasArrived(_ gate: CancelGate) {
        state.withLock { state in
            if state.cancelGate?.number == gate.number { state.cancelGate?.mayArrive = false }
        }
    }

    // MARK: Sending

    /// - Parameter pause: how long the request is given to end without being asked.
    func startCancelling(_ gate: CancelGate, after pause: Duration = .zero) {
        let end = Deadline(after: limits.cancelTimeout)
        wakeAdmitted()
        // In a task of its own: the caller's may be cancelled, and this one must come to an end. On the loop, because a request to
        // cancel is wanted most when everything else is busy; it hardly computes.
        Task.detached(executorPreference: loop) {
            await self.stopRunning(gate, from: Deadline(after: pause), until: end)
        }
    }

    /// How long a request that was cancelled is given before the server is asked again; twice as long each time.
    static let pauseBeforeAgain = Duration.milliseconds(50)
    /// The same for the statements of a pipeline.
    private static let pauseInPipeline = Duration.milliseconds(10)
    /// How often the end of the request is looked for, when its waiter does not tell.
    static let lookInterval = Duration.milliseconds(2)

    private enum Look {
        case runs
        case hasEnded
        case isGivenUp
    }

    /// Whether the request has ended. Then the gate is opened, or, if it cannot be, the connection is closed; so it is at `end`.
    ///
    /// - Parameter isInDoubt: whether a request to cancel may still arrive, so that the gate is not opened any more.
    private func look(at gate: CancelGate, isInDoubt: Bool, until end: Deadline) -> Look {
        guard case .closed = openGate(gate) else { return .hasEnded }
        if isInDoubt, hasEnded {
            closeBehindCancelRequest()
            return .hasEnded
        }
        guard end.hasPassed else { return .runs }
        giveUp(gate)
        return .isGivenUp
    }

    /// Asks the server until the request has ended; closes the connection if it does not.
    private nonisolated(nonsending) func stopRunning(
        _ gate: CancelGate, from start: Deadline, until end: Deadline
    ) async {
        var pause = ConnectionCore.pauseBeforeAgain
        var next = start
        let request = CancelRequest(self)
        var isInDoubt = false
        while case .runs = look(at: gate, isInDoubt: isInDoubt, until: end) {
            guard next.hasPassed, let request, beginSending(gate) else {
                try? await loop.sleep(until: min(end, Deadline(after: ConnectionCore.lookInterval)))
                continue
            }
            if case .unanswered = await request.send(until: end, loop: loop) { isInDoubt = true }
            if !isInDoubt { hasArrived(gate) }
            next = Deadline(after: gate.hasSeveral ? ConnectionCore.pauseInPipeline : pause)
            if !gate.hasSeveral { pause = pause * 2 }
        }
    }

    /// There is no telling when the request ends, or what a CancelRequest still stops.
    private func giveUp(_ gate: CancelGate) {
        let reason = state.withLock { $0.stopped[gate.target]?.reason }
        close(
            because: "cancelling a statement had no effect within \(limits.cancelTimeout)",
            telling: reason.map { (gate.target, $0) })
    }

    /// Closes the connection, on which something takes longer than anybody is to wait.
    ///
    /// - Parameter stopped: the request whose time is up. Its waiter is told so, and not that the connection is closed.
    func close(because cause: String, telling stopped: (number: Int, reason: StopReason)? = nil) {
        let waiter = state.withLock { state -> InFlight.Waiter? in
            guard let stopped else { return nil }
            return state.queue.update(stopped.number) { request -> InFlight.Waiter? in
                guard request.waiter.isWaiting else { return nil }
                defer { request.waiter = .abandoned }
                return request.waiter
            } ?? nil
        }
        fail(
            PostgresError(
                code: .connectionClosed,
                message: "the connection to \(server.address) was closed, because \(cause)", outcome: .unknown))
        if let waiter, let stopped { resume(waiter, Reply(error: stopped.reason.error(.unknown))) }
    }

    // MARK: What the waiter learns

    /// After a wait that may have been stopped: the reply in the words of whoever stopped it.
    func settleStop(of number: Int, _ reply: inout Reply) -> StopReason? {
        guard let stopped = state.withLock({ $0.stopped.removeValue(forKey: number) }) else { return nil }
        openGate(nil)
        if let error = reply.error {
            if error.code == .queryCanceled { reply = Reply(error: stopped.reason.error(stopped: error)) }
        } else if let flight = stopped.flight {
            // A reply without an error says that all of it has come.
            settleStop(of: [flight], stopped.reason)
        }
        return stopped.reason
    }

    /// The same for requests with several replies, which have all come.
    func settleStop(of flights: [Flight], _ reason: StopReason) {
        for flight in flights {
            for index in flight.replies.indices {
                guard let error = flight.replies[index].error, error.code == .queryCanceled else { continue }
                flight.replies[index].add(error: reason.error(stopped: error))
            }
        }
    }

    // MARK: Whatever runs

    /// libpq's `PQcancel`, with a promise: it stops what is in flight now, or nothing.
    nonisolated(nonsending) func cancelRunning() async throws(PostgresError) -> Bool {
        guard let request = CancelRequest(self) else {
            throw PostgresError(
                code: .unsupported, message: "the server gave no key to cancel with",
                hint: "some connection poolers do not; set statement_timeout instead")
        }
        let gate = try state.withLock { state throws(PostgresError) -> CancelGate? in
            if let closed = state.closed { throw closed.with(outcome: .notSent) }
            if state.queue.isEmpty || state.cancelGate != nil { return nil }
            if let gate = closeGate(for: state.queue.nextNumber &- 1, &state) { return gate }
            throw PostgresError(
                code: .unsupported,
                message:
                    "\(state.queue.count) requests are in flight, and one request to cancel could stop any of them",
                hint: "cancel the tasks instead")
        }
        guard let gate else { return false }
        let end = Deadline(after: limits.cancelTimeout)
        wakeAdmitted()
        failCopy(of: gate)
        return try await Task.detached(executorPreference: loop) {
            await self.cancelOnce(request, gate, until: end)
        }.value.get()
    }

    private nonisolated(nonsending) func cancelOnce(
        _ request: CancelRequest, _ gate: CancelGate, until end: Deadline
    ) async -> Result<Bool, PostgresError> {
        var isInDoubt = false
        if beginSending(gate) {
            switch await request.send(until: end, loop: loop) {
            case .delivered: hasArrived(gate)
            case .unanswered: isInDoubt = true
            case .notSent(let error):
                hasArrived(gate)
                leaveGate(gate)
                return .failure(
                    error as? PostgresError
                        ?? PostgresError(
                            code: .cannotConnect, message: "no connection for the request to cancel: \(error)",
                            underlying: error))
            }
        }
        while true {
            switch look(at: gate, isInDoubt: isInDoubt, until: end) {
            case .hasEnded: return .success(true)
            case .isGivenUp: return .failure(PostgresError.timedOut(.unknown))
            case .runs: try? await loop.sleep(until: min(end, Deadline(after: ConnectionCore.lookInterval)))
            }
        }
    }

    /// Nothing was sent that could arrive: the request runs on, and others may follow it.
    private func leaveGate(_ gate: CancelGate) {
        let woken = state.withLock { state -> [ConnectionState.RoomWaiter] in
            guard let current = state.cancelGate, current.number == gate.number else { return [] }
            state.cancelGate = nil
            state.exclusiveWriter = current.lease
            return state.takeRoomWaiters()
        }
        wake(woken)
    }
}
