import PostgresProtocol
import PostgresTransport

/// A statement that nobody waits for any more before anything of it was sent: it is not sent.
///
/// *Theory of operation.* Of its bytes in `pending` only the Sync at their end is left, and the request becomes that Sync: so its
/// place in the queue stays, and all numbers do. What stands behind it moves up.
///
/// That is so of one statement in a Sync group of its own, which is not a piece of something larger: not of pipelines, streams,
/// cursors, scripts, COPY. It must not be at the head of the queue, which the reader may have turned to already. If it was to parse
/// its statement, nobody behind it may have bound to that. And no more than `takeBackDepth` requests may stand behind it, for they
/// are gone through under the lock, for each that is taken back.
extension ConnectionCore {
    /// How many requests may stand behind one that is taken back.
    static let takeBackDepth = 64

    /// - Returns: who waited for it; nil if it stays.
    func takeBack(_ number: Int, _ state: inout ConnectionState) -> InFlight.Waiter? {
        let behind = state.queue.nextNumber &- 1 &- number
        guard state.closed == nil, behind >= 0, behind <= ConnectionCore.takeBackDepth,
            number > state.queue.nextNumber &- state.queue.count,
            let found = state.queue.update(number, { Unsent($0) }), let unsent = found,
            let place = state.place(of: unsent, number), state.isUnbound(unsent.request, number)
        else { return nil }
        let taken = place.count &- ByteWriter.syncLength
        state.pending.remove(place.dropLast(ByteWriter.syncLength))
        state.encodedBytes &-= taken
        state.outbound.tookBack(unsent.request)
        for later in (number &+ 1)..<state.queue.nextNumber {
            _ = state.queue.update(later) { $0.startOffset &-= taken }
        }
        _ = state.queue.update(number) { request in
            request.request = Request(.syncs)
            request.waiter = .abandoned
        }
        return unsent.waiter
    }
}

/// What there is to know of a statement that may be taken back.
private struct Unsent {
    let request: Request
    let waiter: InFlight.Waiter
    let startOffset: Int

    /// nil if it is something else.
    init?(_ entry: InFlight) {
        guard case .none = entry.collector, entry.waiter.isUnanswered,
            entry.request.parts.subtracting([.parses, .describes]) == .executesAndSyncs
        else { return nil }
        request = entry.request
        waiter = entry.waiter
        startOffset = entry.startOffset
    }
}

extension ConnectionState {
    /// Where its bytes are in `pending`; nil if any of them may have left.
    fileprivate mutating func place(of unsent: Unsent, _ number: Int) -> Range<Int>? {
        let sent = encodedBytes &- pending.count
        let end = queue.update(number &+ 1) { $0.startOffset } ?? encodedBytes
        guard unsent.startOffset >= sent, end > unsent.startOffset else { return nil }
        let place = (unsent.startOffset &- sent)..<(end &- sent)
        // Nothing else may stand there.
        return pending.endsWithSync(place) ? place : nil
    }

    /// Whether nobody behind it depends on its Parse.
    fileprivate mutating func isUnbound(_ request: Request, _ number: Int) -> Bool {
        guard request.parts.contains(.parses), let statement = request.statement, !statement.name.isEmpty else {
            return true
        }
        for later in (number &+ 1)..<queue.nextNumber {
            let isBound = queue.update(later) { entry in
                if case .flight(let flight) = entry.collector {
                    flight.items.contains { $0.request.statement === statement }
                } else {
                    entry.request.statement === statement
                }
            }
            if isBound == true { return false }
        }
        return true
    }
}
