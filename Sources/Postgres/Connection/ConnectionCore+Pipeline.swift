import PostgresProtocol
import PostgresTransport
import Synchronization

/// Many statements in one flight: queued piece by piece so that what waits to be sent stays bounded, one wake-up a piece.
extension ConnectionCore {
    /// Encoded bytes after which a pipeline hands over what it has, and begins another piece.
    private static let pieceBytes = 256 * 1024
    /// A flight of at most so many statements may be read by its caller.
    private static let smallFlight = 16

    private enum Piece {
        case begun(Begun, Flight)
        case noRoom
    }

    /// Where a pipeline stands between its pieces.
    private struct Progress {
        var next = 0
        let writer: Int
        /// Whether the writer is a lease, which outlives the pipeline.
        let isLeased: Bool
        let sync: PostgresPipeline.Sync
        let modes: [ConnectionState.Mode]
    }

    /// One reply a statement, in order.
    ///
    /// - Throws: only when nothing was sent.
    nonisolated(nonsending) func run(
        _ items: [PostgresPipeline.Item], _ sync: PostgresPipeline.Sync, as lease: Int? = nil
    ) async throws(PostgresError) -> [Reply] {
        try check(items)
        if items.isEmpty { return [] }
        var replies = try await fly(items, Array(repeating: .cached, count: items.count), sync, lease)
        var modes: [ConnectionState.Mode] = Array(repeating: .cached, count: items.count)
        for _ in 0..<2 {
            let again = repeatable(items, &modes, replies, sync)
            if again.isEmpty { break }
            let repeated: [Reply]
            do {
                repeated = try await fly(again.map { items[$0] }, again.map { modes[$0] }, sync, lease)
            } catch { break }
            for (index, reply) in zip(again, repeated) { replies[index] = reply }
        }
        return replies
    }

    /// The same on a thread of the blocking API.
    func runBlocking(
        _ items: [PostgresPipeline.Item], _ sync: PostgresPipeline.Sync, as lease: Int? = nil
    ) throws(PostgresError) -> [Reply] {
        try check(items)
        if items.isEmpty { return [] }
        var modes: [ConnectionState.Mode] = Array(repeating: .cached, count: items.count)
        var replies = try flyBlocking(items, modes, sync, lease)
        for _ in 0..<2 {
            let again = repeatable(items, &modes, replies, sync)
            if again.isEmpty { break }
            let repeated: [Reply]
            do {
                repeated = try flyBlocking(again.map { items[$0] }, again.map { modes[$0] }, sync, lease)
            } catch { break }
            for (index, reply) in zip(again, repeated) { replies[index] = reply }
        }
        return replies
    }

    /// What can be told before anything is sent.
    private func check(_ items: [PostgresPipeline.Item]) throws(PostgresError) {
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

    /// Which statements are worth sending once more: those refused for a reason of the statement cache's or of inferred types,
    /// outside a transaction; of an atomic group all or none.
    private func repeatable(
        _ items: [PostgresPipeline.Item], _ modes: inout [ConnectionState.Mode], _ replies: [Reply],
        _ sync: PostgresPipeline.Sync
    ) -> [Int] {
        var found: [Int] = []
        for index in items.indices where replies[index].error != nil {
            guard let mode = nextMode(after: replies[index], modes[index], items[index].query) else { continue }
            modes[index] = mode
            found.append(index)
        }
        guard sync == .atomic, !found.isEmpty else { return found }
        // What a COMMIT of the group's own has made lasting must not happen twice.
        let hasCommitted = replies.contains { $0.error == nil && $0.end.tag == StatementResult.commitTag }
        return hasCommitted ? [] : Array(items.indices)
    }

    // MARK: A flight

    nonisolated(nonsending) private func fly(
        _ items: [PostgresPipeline.Item], _ modes: [ConnectionState.Mode], _ sync: PostgresPipeline.Sync,
        _ lease: Int?
    ) async throws(PostgresError) -> [Reply] {
        var progress = Progress(writer: lease ?? nextWriter(), isLeased: lease != nil, sync: sync, modes: modes)
        var flights: [Flight] = []
        var unawaited: Int?
        var end: PostgresError?
        var stopped: PostgresError?
        let limits = waitLimits()
        while progress.next < items.count {
            if Task.isCancelled {
                if flights.isEmpty { throw .cancelled(.notSent) }
                // An atomic group that has begun goes on to its Sync: without it nobody could use the connection again, and
                // with it here, half of the group would take effect.
                if sync == .isolated { break }
            }
            let mayRead =
                callersMayRead && items.count <= ConnectionCore.smallFlight && !loop.isCurrent && PollPermit.take()
            var number: Int?
            do {
                defer { if mayRead { PollPermit.giveBack() } }
                number = try fly(items, &progress, &flights, bound: mayRead ? .poll : nil, blocking: false)
            } catch {
                if flights.isEmpty { throw error }
                abandonGroup(sync, error)
                end = error
                break
            }
            guard let number else {
                do {
                    try await waitForRoom(
                        for: progress.writer, until: limits.deadline,
                        evenIfCancelled: sync == .atomic && !flights.isEmpty)
                } catch {
                    if flights.isEmpty { throw error }
                    abandonGroup(sync, .groupCutShort)
                    end = error
                    break
                }
                continue
            }
            if let unawaited { forget(unawaited) }
            unawaited = number == ConnectionCore.alreadyRead ? nil : number
        }
        if let unawaited, let last = flights.last {
            let (reply, reason) = await waitOrStop(for: unawaited, limits)
            settle(last, reply)
            stopped = reply.error
            if let reason, reply.error == nil { settleStop(of: flights, reason) }
        }
        return collect(flights, items.count, sync, end, stopped)
    }

    private func flyBlocking(
        _ items: [PostgresPipeline.Item], _ modes: [ConnectionState.Mode], _ sync: PostgresPipeline.Sync,
        _ lease: Int?
    ) throws(PostgresError) -> [Reply] {
        var progress = Progress(writer: lease ?? nextWriter(), isLeased: lease != nil, sync: sync, modes: modes)
        var flights: [Flight] = []
        var unawaited: Int?
        var end: PostgresError?
        var stopped: PostgresError?
        let deadline = limits.queryTimeout.map { Deadline(after: $0) }
        while progress.next < items.count {
            var number: Int?
            do {
                number = try fly(items, &progress, &flights, bound: blockingBound, blocking: true)
            } catch {
                if flights.isEmpty { throw error }
                abandonGroup(sync, error)
                end = error
                break
            }
            guard let number else {
                do {
                    try waitForRoomBlocking(for: progress.writer, until: deadline)
                } catch {
                    if flights.isEmpty { throw error }
                    abandonGroup(sync, .groupCutShort)
                    end = error
                    break
                }
                continue
            }
            if let unawaited { forget(unawaited) }
            unawaited = number == ConnectionCore.alreadyRead ? nil : number
        }
        if let unawaited, let last = flights.last {
            let (reply, reason) = waitOrStopBlocking(for: unawaited, until: deadline)
            settle(last, reply)
            stopped = reply.error
            if let reason, reply.error == nil { settleStop(of: flights, reason) }
        }
        return collect(flights, items.count, sync, end, stopped)
    }

    /// A group whose pieces have been sent in part has no end: there is no other way back than to end the session.
    private func abandonGroup(_ sync: PostgresPipeline.Sync, _ error: PostgresError) {
        if sync == .atomic { fail(error.with(outcome: .unknown)) }
    }

    private static let alreadyRead = -1

    /// Sends one piece. All but the last are awaited through the last: replies come in order.
    ///
    /// - Parameter bound: how long the caller may read by itself; nil if it may not.
    /// - Returns: the number of the piece to wait for, or `alreadyRead`; nil if there is no room.
    private func fly(
        _ items: [PostgresPipeline.Item], _ progress: inout Progress, _ flights: inout [Flight], bound: ReadBound?,
        blocking: Bool
    ) throws(PostgresError) -> Int? {
        guard
            case .begun(let begun, let flight) = try begin(
                items, &progress, mayRead: bound != nil, blocking: blocking)
        else { return nil }
        flights.append(flight)
        switch begun {
        case .reads(let number):
            guard let own = readOwnReply(number, bound ?? .poll) else { return number }
            if let error = own.reply.error { flight.fail(error, error.outcome) }
            return ConnectionCore.alreadyRead
        case .queued(let number, let flush):
            if flush { pump() }
            return number
        case .noRoom: return nil
        }
    }

    /// The caller's wait ended without the flight's replies: it was stopped, or the connection broke.
    private func settle(_ flight: Flight, _ reply: Reply) {
        guard let error = reply.error else { return }
        // A flight that is not waited for is still in the hands of the reader; nothing of it may be touched.
        if error.code == .cancelled || error.code == .timedOut {
            flight.isCancelled.store(true, ordering: .relaxed)
        } else {
            flight.fail(error, error.outcome)
        }
    }

    /// A piece that nobody waits for on its own.
    private func forget(_ number: Int) {
        state.withLock { state in
            if state.parked.removeValue(forKey: number) == nil {
                _ = state.queue.update(number) { $0.waiter = .abandoned }
            }
        }
    }

    func nextWriter() -> Int {
        state.withLock { state in
            state.roomNumber &+= 1
            return state.roomNumber
        }
    }

    /// Encodes the next piece.
    private func begin(
        _ items: [PostgresPipeline.Item], _ progress: inout Progress, mayRead: Bool, blocking: Bool
    ) throws(PostgresError) -> Piece {
        let onLoop = loop.isCurrent
        var woken: [ConnectionState.RoomWaiter] = []
        defer { wake(woken) }
        return try state.withLock { state throws(PostgresError) in
            if let closed = state.closed { throw closed.with(outcome: .notSent) }
            guard state.hasRoom(for: progress.writer) else { return .noRoom }
            let startOffset = state.encodedBytes
            let pendingStart = state.pending.count
            var requests: [Flight.Item] = []
            requests.reserveCapacity(min(items.count - progress.next, 4096))
            let isolated = progress.sync == .isolated
            while progress.next < items.count, state.pending.count &- pendingStart < ConnectionCore.pieceBytes {
                let item = items[progress.next]
                let request: Request
                do throws(PostgresError) {
                    request = try state.encode(item.query, item.formats, progress.modes[progress.next], sync: isolated)
                } catch {
                    // Nothing of this piece may be sent without being awaited.
                    state.encodedBytes &-= state.pending.count &- pendingStart
                    state.pending.truncate(to: pendingStart)
                    throw error
                }
                requests.append(Flight.Item(request: request, formats: item.formats))
                progress.next &+= 1
            }
            if !isolated {
                if progress.next < items.count {
                    state.exclusiveWriter = progress.writer
                } else {
                    let before = state.pending.count
                    requests.append(
                        Flight.Item(request: state.outbound.sync(into: &state.pending), formats: .text))
                    state.encodedBytes &+= state.pending.count &- before
                    if state.exclusiveWriter != nil, !progress.isLeased {
                        state.exclusiveWriter = nil
                        woken = state.takeRoomWaiters()
                    }
                }
            }
            guard let first = requests.first else { return .noRoom }
            let flight = Flight(requests)
            var entry = InFlight(request: first.request, formats: first.formats, startOffset: startOffset)
            entry.collector = .flight(flight)
            // The replies of an atomic piece may come only with the Sync of the last.
            let isLast = progress.next >= items.count
            let begun = enqueue(&state, entry, mayRead: mayRead && isLast, blocking: blocking, onLoop: onLoop)
            return .begun(begun, flight)
        }
    }

    /// The replies of all pieces, one a statement.
    ///
    /// - Parameters:
    ///   - end: why not all pieces were sent.
    ///   - stopped: why they were not waited for.
    private func collect(
        _ flights: [Flight], _ count: Int, _ sync: PostgresPipeline.Sync, _ end: PostgresError?,
        _ stopped: PostgresError?
    ) -> [Reply] {
        var replies: [Reply] = []
        replies.reserveCapacity(count + 1)
        // After a cancelled wait the flights are still the reader's; nothing of them may be looked at.
        let isCancelled = flights.contains { $0.isCancelled.load(ordering: .relaxed) }
        for flight in flights {
            if isCancelled {
                for _ in flight.items { replies.append(Reply(error: stopped ?? .cancelled(.unknown))) }
            } else {
                replies += flight.replies
            }
        }
        let groupEnd = replies.count > count ? replies.removeLast() : Reply()
        while replies.count < count { replies.append(Reply(error: end ?? .cancelled(.notSent))) }
        if sync == .atomic { PostgresPipeline.settleAtomic(&replies, groupEnd) }
        return replies
    }
}

extension PostgresError {
    fileprivate static var groupCutShort: PostgresError {
        PostgresError(
            code: .connectionClosed,
            message:
                "the connection was closed, because the deadline of an atomic pipeline passed before all of it was sent",
            outcome: .unknown)
    }
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
