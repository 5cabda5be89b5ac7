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

/// Nobody may write: a CancelRequest is under way.
struct CancelGate: Sendable {
    /// The gate's own number as a writer, which no caller has.
    let number: Int
    /// The request that is to be stopped.
    let target: Int
    /// Who had the connection for itself, and has it again afterwards.
    var lease: Int?
    /// A CancelRequest may have been sent whose connection the server has not closed yet.
    var mayArrive = false
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
            if sendsRequest, isWaitedFor, let closed = closeGate(for: number, &state) {
                state.stopReasons[number] = reason
                state.noteFlight(number)
                gate = closed
                return .unclaimed
            }
            return state.queue.update(number) { request -> InFlight.Waiter in
                switch request.waiter {
                case .unclaimed:
                    request.waiter = .cancelled
                    return .unclaimed
                case .continuation, .thread:
                    defer { request.waiter = .abandoned }
                    return request.waiter
                case .cancelled, .abandoned: return .unclaimed
                }
            } ?? .unclaimed
        }
        resume(waiter, Reply(error: reason.error(outcome)))
        if let gate { startCancelling(gate) }
    }

    /// Puts a Sync in the place of the newest request, if not one byte of it has left and nobody can depend on it. The place in the
    /// queue stays, and so do all numbers.
    ///
    /// It is not the head, which the reader may have turned to already; it is not a piece of something larger; and nobody else has
    /// bound to a statement that it was to parse.
    ///
    /// - Returns: who waited for it; nil if it stays.
    private func takeBack(_ number: Int, _ state: inout ConnectionState) -> InFlight.Waiter? {
        guard state.closed == nil, state.queue.count > 1, number == state.queue.nextNumber &- 1 else { return nil }
        let encoded = state.encodedBytes
        let pending = state.pending.count
        let found = state.queue.update(number) { request -> (waiter: InFlight.Waiter, start: Int)? in
            guard case .none = request.collector, request.waiter.isUnanswered,
                request.request.parts == .executesAndSyncs, encoded &- request.startOffset <= pending
            else { return nil }
            defer { request.waiter = .abandoned }
            return (request.waiter, request.startOffset)
        }
        guard let found = found ?? nil else { return nil }
        let place = pending &- (encoded &- found.start)
        state.pending.truncate(to: place)
        state.outbound.tookBackExecution()
        let sync = state.outbound.sync(into: &state.pending)
        state.encodedBytes = found.start &+ (state.pending.count &- place)
        _ = state.queue.update(number) { $0.request = sync }
        return found.waiter
    }

    // MARK: The gate

    /// Under the lock: from here on nobody writes. nil if the request is not the only one in flight, or is being stopped already.
    private func closeGate(for number: Int, _ state: inout ConnectionState) -> CancelGate? {
        guard state.closed == nil, state.cancelGate == nil, state.queue.count == 1,
            number == state.queue.nextNumber &- 1
        else { return nil }
        state.roomNumber &+= 1
        let gate = CancelGate(number: state.roomNumber, target: number, lease: state.exclusiveWriter)
        state.exclusiveWriter = gate.number
        state.cancelGate = gate
        return gate
    }

    private enum GateState {
        case open
        case closed
        /// The connection is closed.
        case gone
    }

    /// Opens the gate if the request has ended and no CancelRequest can arrive any more.
    @discardableResult
    private func openGate(_ gate: CancelGate?) -> GateState {
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

    private func startCancelling(_ gate: CancelGate) {
        let end = Deadline(after: limits.cancelTimeout)
        // In a task of its own: the caller's may be cancelled, and this one must come to an end. On the loop, because a request to
        // cancel is wanted most when everything else is busy; it hardly computes.
        Task.detached(executorPreference: loop) { await self.stopRunning(gate, until: end) }
    }

    /// How long a request that was cancelled is given before the server is asked again; twice as long each time.
    private static let pauseBeforeAgain = Duration.milliseconds(50)
    /// The same for the statements of a pipeline.
    private static let pauseInPipeline = Duration.milliseconds(10)
    /// How often the end of the request is looked for, when its waiter does not tell.
    private static let lookInterval = Duration.milliseconds(2)

    /// Asks the server until the request has ended; closes the connection if it does not.
    private nonisolated(nonsending) func stopRunning(_ gate: CancelGate, until end: Deadline) async {
        var pause = ConnectionCore.pauseBeforeAgain
        var next = Deadline.now
        let request = CancelRequest(self)
        // A request may still arrive, and the gate is not opened any more.
        var isInDoubt = false
        while case .closed = openGate(gate) {
            if isInDoubt, hasEnded { return closeBehindCancelRequest() }
            if end.hasPassed { return giveUp(gate) }
            guard next.hasPassed, let request, beginSending(gate) else {
                try? await loop.sleep(until: min(end, Deadline(after: ConnectionCore.lookInterval)))
                continue
            }
            if case .unanswered = await request.send(until: end, loop: loop) { isInDoubt = true }
            if !isInDoubt { hasArrived(gate) }
            let isPipeline = isPipeline(gate)
            next = Deadline(after: isPipeline ? ConnectionCore.pauseInPipeline : pause)
            if !isPipeline { pause = pause * 2 }
        }
    }

    /// Of a pipeline each statement is stopped by a request of its own.
    private func isPipeline(_ gate: CancelGate) -> Bool {
        state.withLock { state in
            state.queue.update(gate.target) { request in
                if case .flight(let flight) = request.collector { flight.items.count > 1 } else { false }
            } ?? false
        }
    }

    /// There is no telling when the request ends, or what a CancelRequest still stops.
    private func giveUp(_ gate: CancelGate) {
        let stopped = state.withLock { state -> (InFlight.Waiter, StopReason)? in
            guard let reason = state.stopReasons[gate.target] else { return nil }
            let waiter = state.queue.update(gate.target) { request -> InFlight.Waiter? in
                switch request.waiter {
                case .continuation, .thread:
                    defer { request.waiter = .abandoned }
                    return request.waiter
                case .unclaimed, .cancelled, .abandoned: return nil
                }
            }
            return (waiter ?? nil).map { ($0, reason) }
        }
        fail(
            PostgresError(
                code: .connectionClosed,
                message:
                    "the connection to \(server.address) was closed, because cancelling a statement had no effect within \(limits.cancelTimeout)",
                outcome: .unknown))
        if let (waiter, reason) = stopped { resume(waiter, Reply(error: reason.error(.unknown))) }
    }

    // MARK: What the waiter learns

    /// After a wait that may have been stopped: the reply in the words of whoever stopped it.
    func settleStop(of number: Int, _ reply: inout Reply) -> StopReason? {
        let (reason, flight) = state.withLock {
            ($0.stopReasons.removeValue(forKey: number), $0.stoppedFlights.removeValue(forKey: number))
        }
        guard let reason else { return nil }
        openGate(nil)
        if let error = reply.error {
            if error.code == .queryCanceled { reply = Reply(error: reason.error(stopped: error)) }
        } else if let flight {
            settleStop(of: [flight], reason)
        }
        return reason
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

    /// Ends a stream before its time. Its rows are thrown away from here on.
    ///
    /// - Returns: what its consumer is to be told, once that is known.
    nonisolated(nonsending) func stop(_ stream: RowStream, _ reason: StopReason) async -> PostgresError {
        if let gate = beginToStop(stream) {
            startCancelling(gate)
            while !isFinished(stream) { await waitForEnd(of: stream) }
            openGate(gate)
            return settle(stream, streamError(stream, reason))
        }
        return settle(stream, reason.error(.unknown))
    }

    func stopBlocking(_ stream: RowStream, _ reason: StopReason) -> PostgresError {
        if let gate = beginToStop(stream) {
            startCancelling(gate)
            while !isFinished(stream) { waitForRowsBlocking(stream) }
            openGate(gate)
            return settle(stream, streamError(stream, reason))
        }
        return settle(stream, reason.error(.unknown))
    }

    private func beginToStop(_ stream: RowStream) -> CancelGate? {
        let gate = state.withLock { state -> CancelGate? in
            guard !stream.isFinished, stream.error == nil, state.openStream === stream else { return nil }
            return closeGate(for: state.queue.nextNumber &- 1, &state)
        }
        abandon(stream)
        return gate
    }

    /// Or as good as finished: the connection is closed.
    private func isFinished(_ stream: RowStream) -> Bool { state.withLock { $0.closed != nil || stream.isFinished } }

    /// Who goes on reading gets the same error, and not an end.
    private func settle(_ stream: RowStream, _ error: PostgresError) -> PostgresError {
        state.withLock { _ in stream.error = error }
        return error
    }

    private func streamError(_ stream: RowStream, _ reason: StopReason) -> PostgresError {
        let (isFinished, error) = state.withLock { _ in (stream.isFinished, stream.end?.error) }
        guard isFinished else { return reason.error(.unknown) }
        return switch error?.code {
        case nil: reason.error(.succeeded)
        case .queryCanceled: error.map { reason.error(stopped: $0) } ?? reason.error(.rejected)
        default: error.flatMap { $0.server == nil ? nil : $0 } ?? reason.error(.unknown)
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
        return try await Task.detached(executorPreference: loop) {
            await self.cancelOnce(request, gate, until: end)
        }.value.get()
    }

    private nonisolated(nonsending) func cancelOnce(
        _ request: CancelRequest, _ gate: CancelGate, until end: Deadline
    ) async -> Result<Bool, PostgresError> {
        if beginSending(gate) {
            switch await request.send(until: end, loop: loop) {
            case .delivered: hasArrived(gate)
            case .unanswered: break
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
        while case .closed = openGate(gate) {
            if end.hasPassed {
                giveUp(gate)
                return .failure(PostgresError.timedOut(.unknown))
            }
            try? await loop.sleep(until: min(end, Deadline(after: ConnectionCore.lookInterval)))
        }
        return .success(true)
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
