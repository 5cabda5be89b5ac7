import PostgresProtocol
import PostgresTransport
import Synchronization

/// Sending a pipeline: queued piece by piece so that what waits to be sent stays bounded, one wake-up a piece.
extension ConnectionCore {
    /// Encoded bytes after which a pipeline hands over what it has, and begins another piece.
    private static let pieceBytes = 256 * 1024

    /// A flight of at most so many statements may be read by its caller.
    private static let smallFlight = 16

    private enum Piece {
        case begun(Begun, Flight)
        case noRoom
    }

    private static let alreadyRead = -1

    /// Sends pieces until there is no room, or there are none left to be sent.
    ///
    /// - Returns: whether to wait for room, and to go on.
    /// - Throws: only when nothing was sent.
    func sendPieces(
        _ progress: inout PipelineProgress, reading bound: ReadBound = .poll, blocking: Bool
    ) throws(PostgresError) -> Bool {
        while progress.next < progress.items.count {
            if progress.mayBeCancelled, Task.isCancelled {
                if progress.flights.isEmpty { throw .cancelled(.notSent) }
                // A group that has begun goes on to its Sync: without it nobody could use the connection again, and
                // with it here, half of the group would take effect.
                if progress.sync == .isolated { return false }
            }
            let permit =
                !blocking && callersMayRead && progress.items.count <= ConnectionCore.smallFlight && !loop.isCurrent
                && PollPermit.take()
            defer { if permit { PollPermit.giveBack() } }
            do {
                guard
                    let number = try sendPiece(
                        &progress, bound: blocking || permit ? bound : nil, blocking: blocking)
                else {
                    return true
                }
                if let unawaited = progress.unawaited { forget(unawaited) }
                progress.unawaited = number == ConnectionCore.alreadyRead ? nil : number
            } catch {
                try giveUp(&progress, error)
                return false
            }
        }
        return false
    }

    /// Not all pieces can be sent.
    ///
    /// - Throws: if none was.
    func giveUp(_ progress: inout PipelineProgress, _ error: PostgresError) throws(PostgresError) {
        if progress.flights.isEmpty { throw error }
        progress.end = error
        if progress.sync != .isolated { cutShort(&progress) }
    }

    /// A group whose pieces have been sent in part ends here. A Sync alone would let half of it take effect, so before it goes what
    /// fails for certain: Execute of a portal that there is not. Room or not: it is small, and nobody else can write before.
    private func cutShort(_ progress: inout PipelineProgress) {
        let onLoop = loop.isCurrent
        let reason = progress.cutReason
        var woken: [ConnectionState.RoomWaiter] = []
        var gate: CancelGate?
        let begun = state.withLock { state -> (Int, flush: Bool)? in
            guard state.closed == nil, let first = progress.flights.first,
                state.exclusiveWriter == progress.writer || state.cancelGate?.admits(progress.writer) == true
            else { return nil }
            let start = state.pending.count
            let offset = state.encodedBytes
            guard let request = try? state.outbound.failGroup(into: &state.pending) else { return nil }
            state.encodedBytes &+= state.pending.count &- start
            let flight = Flight([Flight.Item(request: request, formats: .text)])
            flight.number = state.queue.nextNumber
            flight.firstPiece = first
            first.isUnfinished = false
            var entry = InFlight(request: request, formats: .text, startOffset: offset)
            entry.collector = .flight(flight)
            progress.flights.append(flight)
            guard
                case .queued(let number, let flush) = enqueue(
                    &state, entry, mayRead: false, blocking: false, onLoop: onLoop)
            else { return nil }
            // In the same step, so that nobody gets behind it who would be in the way of cancelling it.
            let isFree = endGroup(progress, &state)
            gate = closeGate(for: number, &state)
            if gate != nil {
                state.stopped[number] = Stopped(reason: reason, flight: first)
            } else if isFree {
                woken = state.takeRoomWaiters()
            }
            return (number, flush)
        }
        wake(woken)
        // A group without an end would swallow whatever follows.
        guard let (number, flush) = begun else {
            return close(because: "an atomic pipeline was sent in part, and could not be ended")
        }
        progress.isCutShort = true
        if flush { pump() }
        if let gate { startCancelling(gate) }
        if let unawaited = progress.unawaited { forget(unawaited) }
        progress.unawaited = number
    }

    /// Under the lock: the last of a group is written. One that has no lease had the connection for itself between its pieces.
    ///
    /// - Returns: whether the connection is free again.
    private func endGroup(_ progress: PipelineProgress, _ state: inout ConnectionState) -> Bool {
        guard !progress.isLeased else { return false }
        if state.cancelGate?.lease == progress.writer { state.cancelGate?.lease = nil }
        guard state.exclusiveWriter == progress.writer else { return false }
        state.exclusiveWriter = nil
        return true
    }

    /// - Parameter bound: how long the caller may read by itself; nil if it may not.
    /// - Returns: the number of the piece to wait for, or `alreadyRead`; nil if there is no room.
    private func sendPiece(
        _ progress: inout PipelineProgress, bound: ReadBound?, blocking: Bool
    ) throws(PostgresError) -> Int? {
        guard case .begun(let begun, let flight) = try begin(&progress, bound, blocking: blocking) else { return nil }
        progress.flights.append(flight)
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

    /// A piece that nobody waits for on its own.
    private func forget(_ number: Int) {
        state.withLock { state in
            if state.parked.removeValue(forKey: number) == nil {
                _ = state.queue.update(number) { $0.waiter = .abandoned }
            }
        }
    }

    /// Encodes the next piece.
    private func begin(
        _ progress: inout PipelineProgress, _ bound: ReadBound?, blocking: Bool
    ) throws(PostgresError) -> Piece {
        let items = progress.items
        let onLoop = loop.isCurrent
        var woken: [ConnectionState.RoomWaiter] = []
        defer { wake(woken) }
        return try state.withLock { state throws(PostgresError) in
            if let closed = state.closed { throw closed.with(outcome: .notSent) }
            // One that has no lease needs its number only between its pieces.
            let isFree = state.exclusiveWriter == nil && !progress.isLeased
            let writer =
                state.cancelGate?.admits(progress.writer) == true
                ? state.cancelGate?.number : isFree ? nil : progress.writer
            guard state.hasRoom(for: writer) else {
                if progress.isLeased { _ = try refuse(&state, progress.writer) }
                return .noRoom
            }
            let startOffset = state.encodedBytes
            let pendingStart = state.pending.count
            var requests: [Flight.Item] = []
            requests.reserveCapacity(min(items.count - progress.next, 4096))
            let isolated = progress.sync == .isolated
            while progress.next < items.count, state.pending.count &- pendingStart < ConnectionCore.pieceBytes {
                let item = items[progress.next]
                let request: Request
                do throws(PostgresError) {
                    request = try state.encode(
                        item.query, item.formats, progress.modes[progress.next],
                        sync: progress.sync.isBehind(progress.next, of: items.count))
                } catch {
                    // Nothing of this piece may be sent without being awaited.
                    state.encodedBytes &-= state.pending.count &- pendingStart
                    state.pending.truncate(to: pendingStart)
                    throw error
                }
                requests.append(Flight.Item(request: request, formats: item.formats))
                progress.next &+= 1
            }
            let isUnfinished = !isolated && progress.next < items.count
            if isUnfinished {
                if state.cancelGate == nil { state.exclusiveWriter = progress.writer }
            } else if !isolated {
                let before = state.pending.count
                requests.append(Flight.Item(request: state.outbound.sync(into: &state.pending), formats: .text))
                state.encodedBytes &+= state.pending.count &- before
                if !progress.flights.isEmpty, endGroup(progress, &state) { woken = state.takeRoomWaiters() }
            }
            guard let first = requests.first else { return .noRoom }
            let flight = Flight(requests)
            flight.number = state.queue.nextNumber
            if let firstPiece = progress.flights.first {
                flight.firstPiece = firstPiece
                firstPiece.isUnfinished = isUnfinished
            } else {
                flight.isUnfinished = isUnfinished
            }
            var entry = InFlight(request: first.request, formats: first.formats, startOffset: startOffset)
            entry.collector = .flight(flight)
            // The replies of an atomic piece may come only with the Sync of the last.
            let isLast = progress.next >= items.count
            let begun = enqueue(
                &state, entry, mayRead: bound != nil && isLast, blocking: blocking, onLoop: onLoop)
            return .begun(begun, flight)
        }
    }
}
