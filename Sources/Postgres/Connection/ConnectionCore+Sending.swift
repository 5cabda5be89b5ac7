import PostgresProtocol
import PostgresTransport
import Synchronization

/// The sender role: who takes it, and what it does.
extension ConnectionCore {
    /// Takes the sender role if it is free and something is pending.
    func flush() {
        let take = state.withLock { state in
            guard !state.sending, state.pending.count > 0 || channel.hasUnsentBytes, state.closed == nil else {
                return false
            }
            takeSenderRole(&state)
            return true
        }
        if take { pump() }
    }

    /// For a caller that took the sender role under the lock: swaps the buffers. `pump` must follow.
    @inline(__always)
    func takeSenderRole(_ state: inout ConnectionState) {
        state.sending = true
        swap(&state.pending, &outgoing)
        // Counted as sent from here on, and taken back by `pump` as far as it was not: a statement may be said to be unsent only if
        // that is certain.
        state.sentBytes &+= outgoing.count
    }

    /// For a caller that may wait for the socket: takes the sender role also from the loop, if that waits until the socket is
    /// writable. `pump` must follow.
    func takeSenderRoleFromLoop(_ state: inout ConnectionState) -> Bool {
        guard state.wantsWrite, state.closed == nil else { return false }
        // Who waits to go on as the sender has the sender's variables under the lock.
        if sendsWithoutPatience > 0 {
            sendsWithoutPatience &-= 1
            return false
        }
        return resumeSending(&state)
    }

    /// What a sender does when the socket is full.
    enum SendPatience {
        /// Leaves the rest to the loop.
        case none
        /// Waits for a moment, in a bounded poll, before it does that: two thread switches cost more.
        case waits
        /// The same, but reads first what there is to read: it is the reader, too.
        case waitsUnlessReadable
    }

    /// The sender: sends until nothing is pending or the socket is full. Waits only as its patience says.
    ///
    /// - Parameter piece: what comes behind `outgoing`; it counts as sent, too.
    func pump(_ patience: SendPatience = .none, then piece: UnsafeRawBufferPointer? = nil) {
        var woken: [ConnectionState.RoomWaiter] = []
        defer { wake(woken) }
        var waitsUntil: UInt64 = 0
        var piece = piece
        while true {
            let isFull: Bool
            do {
                if let bytes = piece.take() {
                    isFull = try !sendOutgoing(and: bytes, patience, &waitsUntil)
                } else {
                    isFull = try !sendOutgoing()
                    if isFull, patience != .none, waitForSocket(patience, &waitsUntil) { continue }
                }
            } catch {
                state.withLock { $0.sentBytes &-= unsentBytes }
                outgoingSent = 0
                outgoingParameters = nil
                outgoing.removeAll()
                return lost(error, holding: .sender)
            }
            let isDone = state.withLock { state in
                if isFull {
                    countSends(&state)
                    state.sentBytes &-= unsentBytes
                    guard state.closed == nil else { return releaseSender(&state) }
                    state.wantsWrite = true
                    arm(&state)
                    return true
                }
                outgoingSent = 0
                outgoingParameters = nil
                outgoing.recycle()
                if state.pending.count < ConnectionState.pendingLimit / 2, !state.waitingForRoom.isEmpty {
                    woken = state.takeRoomWaiters()
                }
                if state.pending.count == 0 || (state.closed != nil && !state.isLeaving) {
                    return releaseSender(&state)
                }
                swap(&state.pending, &outgoing)
                state.sentBytes &+= outgoing.count
                return false
            }
            if isDone { return }
        }
    }

    /// - Parameter end: of all waiting of this sender; 0 before the first.
    /// - Returns: whether the socket takes more; if not, the rest is the loop's to send.
    private func waitForSocket(_ patience: SendPatience, _ end: inout UInt64) -> Bool {
        if sendsWithoutPatience > 0 {
            sendsWithoutPatience &-= 1
            return false
        }
        let start = monotonicNanoseconds()
        let bound = UInt64(ReaderPolicy.pollMicroseconds) &* 1000
        if end == 0 { end = start &+ bound }
        if start >= end { return false }
        if channel.waitWritable(
            microseconds: ReaderPolicy.pollMicroseconds, unlessReadable: patience == .waitsUnlessReadable)
        {
            return true
        }
        if monotonicNanoseconds() &- start >= bound { sendsWithoutPatience = ReaderPolicy.sendsAfterVain }
        return false
    }

    /// Sends what the socket takes at once.
    ///
    /// - Returns: whether that was everything.
    @inline(__always)
    func sendOutgoing() throws(TransportError) -> Bool {
        // The buffer is the sender's own: nobody writes into it meanwhile.
        if let parameters = outgoingParameters { return try sendOutgoing(around: parameters) }
        let bytes = outgoing.bytes
        return try sendAll(bytes.count) { sent throws(TransportError) in
            try channel.send(UnsafeRawBufferPointer(rebasing: bytes[sent...]))
        }
    }

    /// - Parameters:
    ///   - count: of all bytes; `outgoingSent` of them have left.
    ///   - send: sends what can be sent of those behind so many.
    @inline(__always)
    func sendAll(
        _ count: Int, _ send: (_ sent: Int) throws(TransportError) -> Int
    ) throws(TransportError) -> Bool {
        while outgoingSent < count || channel.hasUnsentBytes {
            let sent = try send(outgoingSent)
            outgoingSent &+= sent
            if channel.isEncrypted {
                if sent == 0, outgoingSent < count || channel.hasUnsentBytes { return false }
            } else if outgoingSent < count {
                // A part of them: the socket is full, and would say so if it were asked again.
                return false
            }
        }
        return true
    }

    /// Sends what lies where its caller has it; copies only what the socket does not take, behind the rest of `outgoing`.
    ///
    /// - Returns: whether that was everything.
    private func sendOutgoing(
        and piece: UnsafeRawBufferPointer, _ patience: SendPatience, _ waitsUntil: inout UInt64
    ) throws(TransportError) -> Bool {
        var rest = ScatteredBytes(UnsafeRawBufferPointer(rebasing: outgoing.bytes[outgoingSent...]), piece)
        defer { outgoing.write(rest.body) }
        repeat {
            let sent = try channel.send(rest)
            outgoingSent &+= min(sent, rest.head.count)
            rest = rest.dropFirst(sent)
            if rest.count == 0 { return true }
        } while patience != .none && waitForSocket(patience, &waitsUntil)
        return false
    }

    private func releaseSender(_ state: inout ConnectionState) -> Bool {
        state.sending = false
        closeDescriptorIfUnused(&state)
        return true
    }

    /// Goes on as the sender, whose role was left to whoever finds the socket writable: what is left of the buffer counts as sent
    /// again.
    ///
    /// - Returns: false if another has gone on. Otherwise `pump` must follow.
    func resumeSending(_ state: inout ConnectionState) -> Bool {
        guard state.wantsWrite else { return false }
        state.wantsWrite = false
        state.sentBytes &+= unsentBytes
        arm(&state)
        return true
    }
}
