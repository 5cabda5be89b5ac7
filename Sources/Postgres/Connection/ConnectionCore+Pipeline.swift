import PostgresProtocol
import PostgresTransport
import Synchronization

/// Where the Sync messages of a flight go.
enum SyncPlacement: Sendable, Equatable {
    /// One behind each statement.
    case isolated
    /// One at the end.
    case atomic
    /// One behind the first few statements, then behind each `size`, and one at the end: groups of one transaction.
    case groups(first: Int, size: Int)

    /// Whether a Sync rides with this statement. The one at the end is a request of its own.
    func isBehind(_ index: Int, of count: Int) -> Bool {
        switch self {
        case .isolated: true
        case .atomic: false
        case .groups(let first, let size):
            index < count - 1 && index >= first - 1 && (index - (first - 1)).isMultiple(of: size)
        }
    }
}

/// Many statements in one flight, sent in pieces (`+Pieces`), and what came of each.
extension ConnectionCore {
    /// Where a pipeline stands between its pieces.
    struct PipelineProgress {
        let items: [PostgresPipeline.Item]
        let modes: [ConnectionState.Mode]
        let sync: SyncPlacement
        let writer: Int
        /// Whether the writer is a lease, which outlives the pipeline.
        let isLeased: Bool
        var next = 0
        var flights: [Flight] = []
        /// The newest piece, if its replies are not there yet. All others are awaited through it: replies come in order.
        var unawaited: Int?
        /// Why not all pieces were sent.
        var end: PostgresError?
        /// Why they were not waited for: it was cancelled, or time was up.
        var stopped: StopReason?
        var mayBeCancelled = true
        /// The group was ended on our side, and has failed: the last flight is not of the pipeline.
        var isCutShort = false

        /// Why the group was cut short, for the statements of it that are stopped.
        var cutReason: StopReason { end?.code == .cancelled ? .cancelled : .timedOut }

        init(
            _ items: [PostgresPipeline.Item], _ modes: [ConnectionState.Mode], _ sync: SyncPlacement,
            writer: Int, isLeased: Bool
        ) {
            self.items = items
            self.modes = modes
            self.sync = sync
            self.writer = writer
            self.isLeased = isLeased
        }
    }

    /// The replies of a pipeline, and how each statement was last sent.
    private struct Rounds {
        let items: [PostgresPipeline.Item]
        let sync: SyncPlacement
        var modes: [ConnectionState.Mode]
        var replies: [Reply] = []
        /// No statement is sent more often: there are three ways to send one.
        var left = 2
    }

    /// One reply a statement, in order.
    ///
    /// - Parameter patience: whether cancelling the task ends the wait.
    /// - Throws: only when nothing was sent.
    nonisolated(nonsending) func run(
        _ items: [PostgresPipeline.Item], _ sync: SyncPlacement, as lease: Int? = nil, _ patience: Patience = .usual
    ) async throws(PostgresError) -> [Reply] {
        if items.isEmpty { return [] }
        var rounds = try begin(items, sync)
        rounds.replies = try await fly(items, rounds.modes, sync, lease, patience)
        while let again = nextRound(&rounds) {
            let modes = again.map { rounds.modes[$0] }
            guard let repeated = try? await fly(again.map { items[$0] }, modes, sync, lease, patience) else {
                break
            }
            for (index, reply) in zip(again, repeated) { rounds.replies[index] = reply }
        }
        return rounds.replies
    }

    /// The same on a thread of the blocking API.
    func runBlocking(
        _ items: [PostgresPipeline.Item], _ sync: SyncPlacement, as lease: Int? = nil, _ patience: Patience = .usual
    ) throws(PostgresError) -> [Reply] {
        if items.isEmpty { return [] }
        var rounds = try begin(items, sync)
        rounds.replies = try flyBlocking(items, rounds.modes, sync, lease, patience)
        while let again = nextRound(&rounds) {
            let modes = again.map { rounds.modes[$0] }
            guard let repeated = try? flyBlocking(again.map { items[$0] }, modes, sync, lease, patience) else { break }
            for (index, reply) in zip(again, repeated) { rounds.replies[index] = reply }
        }
        return rounds.replies
    }

    private func begin(
        _ items: [PostgresPipeline.Item], _ sync: SyncPlacement
    ) throws(PostgresError) -> Rounds {
        try check(items)
        return Rounds(items: items, sync: sync, modes: Array(repeating: .cached, count: items.count))
    }

    /// What can be told before anything is sent.
    func check(_ items: [PostgresPipeline.Item]) throws(PostgresError) {
        let found = state.withLock { state -> (index: Int, error: PostgresError)? in
            for index in items.indices {
                if let error = state.problem(of: items[index].query) { return (index, error) }
            }
            return nil
        }
        if let (index, error) = found {
            throw error.with(message: "statement \(index + 1) of the pipeline: \(error.message)")
        }
    }

    /// Which statements are worth sending once more, nil for none: those refused for a reason of the statement cache's or of
    /// inferred types, outside a transaction; of an atomic group all or none.
    private func nextRound(_ rounds: inout Rounds) -> [Int]? {
        // Groups are always of a transaction.
        if case .groups = rounds.sync { return nil }
        guard rounds.left > 0 else { return nil }
        rounds.left -= 1
        // Nobody waits for it any more.
        if rounds.replies.contains(where: { $0.error?.code == .cancelled || $0.error?.code == .timedOut }) {
            return nil
        }
        var found: [Int] = []
        for (index, reply) in rounds.replies.enumerated() where reply.error != nil {
            guard let mode = nextMode(after: reply, rounds.modes[index], rounds.items[index].query) else { continue }
            rounds.modes[index] = mode
            found.append(index)
        }
        if found.isEmpty { return nil }
        guard rounds.sync == .atomic else { return found }
        // What a COMMIT of the group's own has made lasting must not happen twice.
        let hasCommitted = rounds.replies.contains { $0.error == nil && $0.end.tag == StatementResult.commitTag }
        return hasCommitted ? nil : Array(rounds.items.indices)
    }

    // MARK: A flight

    nonisolated(nonsending) private func fly(
        _ items: [PostgresPipeline.Item], _ modes: [ConnectionState.Mode], _ sync: SyncPlacement,
        _ lease: Int?, _ patience: Patience
    ) async throws(PostgresError) -> [Reply] {
        var progress = PipelineProgress(items, modes, sync, writer: lease ?? nextWriter(), isLeased: lease != nil)
        progress.mayBeCancelled = patience == .usual
        let limits = limits(of: patience)
        var grace: Deadline?
        var next = progress.next
        while try sendPieces(&progress, blocking: false) {
            do {
                // A group that has begun goes on, cancelled or not, but then no longer than the server takes some of it now and then.
                if Task.isCancelled, grace == nil || next != progress.next {
                    grace = Deadline(after: self.limits.cancelTimeout)
                    next = progress.next
                }
                try await waitForRoom(
                    for: progress.writer, until: grace.map { min($0, limits.deadline ?? .never) } ?? limits.deadline,
                    evenIfCancelled: grace != nil)
            } catch {
                try giveUp(&progress, grace == nil ? error : error.ofCancelledTask)
                break
            }
        }
        if let number = progress.unawaited {
            if progress.isCutShort {
                let (reply, _) = await waitForEnd(of: number, until: .now, .asksServer, progress.cutReason)
                settle(&progress, reply, progress.cutReason)
            } else if patience != .usual {
                let (reply, reason) = await waitForEnd(of: number, until: limits.deadline, .asksServer)
                settle(&progress, reply, reason)
            } else {
                let (reply, reason) = await waitOrStop(for: number, limits)
                settle(&progress, reply, reason)
            }
        }
        return collect(progress)
    }

    private func flyBlocking(
        _ items: [PostgresPipeline.Item], _ modes: [ConnectionState.Mode], _ sync: SyncPlacement,
        _ lease: Int?, _ patience: Patience
    ) throws(PostgresError) -> [Reply] {
        var progress = PipelineProgress(items, modes, sync, writer: lease ?? nextWriter(), isLeased: lease != nil)
        progress.mayBeCancelled = false
        let limits = limits(of: patience)
        while try sendPieces(&progress, reading: limits.blockingBound, blocking: true) {
            do {
                try waitForRoomBlocking(for: progress.writer, until: limits.deadline)
            } catch {
                try giveUp(&progress, error)
                break
            }
        }
        if let number = progress.unawaited {
            if progress.isCutShort {
                let (reply, _) = waitForEndBlocking(of: number, until: .now, .asksServer)
                settle(&progress, reply, progress.cutReason)
            } else if patience != .usual {
                let (reply, reason) = waitForEndBlocking(of: number, until: limits.deadline, .asksServer)
                settle(&progress, reply, reason)
            } else {
                let (reply, reason) = waitOrStopBlocking(for: number, until: limits.deadline)
                settle(&progress, reply, reason)
            }
        }
        return collect(progress)
    }

    private func limits(of patience: Patience) -> WaitLimits {
        var limits = waitLimits()
        if patience == .hasToHappen { limits.deadline = endDeadline() }
        return limits
    }

    /// The wait for the last piece is over. Without the flight's replies, if it was stopped, or the connection broke.
    ///
    /// - Parameter reason: why a request to cancel was sent, if one was.
    private func settle(_ progress: inout PipelineProgress, _ reply: Reply, _ reason: StopReason? = nil) {
        guard let flight = progress.flights.last else { return }
        guard let error = reply.error else {
            if let reason { settleStop(of: progress.flights, reason) }
            return
        }
        // A flight that is not waited for is still in the hands of the reader.
        if error.code == .cancelled || error.code == .timedOut {
            progress.stopped = error.code == .cancelled ? .cancelled : .timedOut
        } else {
            flight.fail(error, error.outcome)
        }
    }

    func nextWriter() -> Int {
        state.withLock { state in
            state.roomNumber &+= 1
            return state.roomNumber
        }
    }

    /// One reply for each request of flights that are not waited for any longer: what came of it so far, or why nobody waited.
    ///
    /// The reader fills them without the lock, so those that it may be filling just now are left alone. Mostly it is not reading: what
    /// is waited for in vain does not come.
    private func repliesSoFar(_ flights: [Flight], _ reason: StopReason) -> [Reply] {
        let known = state.withLock { state in
            let head = state.queue.nextNumber &- state.queue.count
            let isResting = state.reader != .caller && !state.loopReads
            return flights.map { isResting || $0.number < head ? $0.replies : [] }
        }
        var replies: [Reply] = []
        for (flight, known) in zip(flights, known) {
            replies += known.map { reply in
                // What the end of the connection says of a statement that nobody waited for any more, is not why.
                guard let error = reply.error, error.outcome == .unknown || error.outcome == .notSent else {
                    return reply
                }
                return Reply(error: reason.error(error.outcome))
            }
            let missing = max(0, flight.items.count - known.count)
            replies += Array(repeating: Reply(error: reason.error(.unknown)), count: missing)
        }
        return replies
    }

    /// The replies of all pieces, one a statement.
    private func collect(_ progress: PipelineProgress) -> [Reply] {
        let flights = progress.flights
        let count = progress.items.count
        var replies: [Reply] = []
        replies.reserveCapacity(count + 1)
        if let stopped = progress.stopped {
            replies += repliesSoFar(flights, stopped)
        } else {
            for flight in flights { replies += flight.replies }
        }
        var groupEnd = Reply()
        if progress.isCutShort {
            // Its error is ours.
            if let last = replies.popLast() { groupEnd.add(end: last.end) }
        } else if replies.count > count {
            groupEnd = replies.removeLast()
        }
        while replies.count < count { replies.append(Reply(error: progress.end ?? .cancelled(.notSent))) }
        switch progress.sync {
        case .isolated: break
        case .atomic: PostgresPipeline.settleAtomic(&replies, groupEnd)
        case .groups:
            // What there is to know of the transaction when all is over.
            let last = replies.count - 1
            replies[last].add(end: Reply.End(tag: replies[last].end.tag, status: groupEnd.end.status))
        }
        for index in replies.indices {
            guard let error = replies[index].error, error.sql == nil else { continue }
            replies[index].add(error: error.naming(progress.items[index].query.sql))
        }
        return replies
    }
}

extension PostgresError {
    /// What a wait that ended says of a task that was cancelled.
    var ofCancelledTask: PostgresError { code == .timedOut && !PostgresScope.hasEnded ? .cancelled(outcome) : self }
}

extension PostgresPipeline {
    /// Of an atomic group only the end acknowledges: if anything failed, nothing of what came after the last COMMIT happened.
    static func settleAtomic(_ replies: inout [Reply], _ end: Reply) {
        for index in replies.indices where replies[index].error != nil {
            replies[index].add(end: Reply.End(tag: replies[index].end.tag, status: end.end.status))
        }
        // A result that was too large, say, was refused on this side: the server knows nothing of it.
        let failures = replies.lazy.compactMap(\.error).filter { $0.outcome != .succeeded }
        guard let cause = failures.first ?? end.error else { return }
        let committed = replies.lastIndex { $0.error == nil && $0.end.tag == StatementResult.commitTag } ?? -1
        for index in replies.indices where index > committed {
            if let error = replies[index].error, error.outcome != .succeeded { continue }
            replies[index].add(
                error: PostgresError(
                    code: cause.code,
                    message: "rolled back, because another statement of the group failed: \(cause.message)",
                    outcome: cause.outcome == .unknown ? .unknown : .aborted))
        }
    }
}
