import PostgresProtocol
import PostgresTransport
import Synchronization

/// The end of a connection, and who is told of it.
extension ConnectionCore {
    /// The role that a thread holds which finds that the connection is of no use any more.
    enum Role {
        case none
        case sender
        case reader
    }

    /// Closes for good: every waiter gets `reason`, with what is known of its own statement.
    ///
    /// The requests in flight are the reader's. If another thread is the reader right now, it answers them: its next look at the
    /// socket, which is shut down here, brings it to this point.
    func fail(_ reason: PostgresError, holding role: Role = .none) {
        var waiters: [(InFlight.Waiter, Reply)] = []
        var forRoom: [ConnectionState.RoomWaiter] = []
        var consumers: [InFlight.Waiter] = []
        var membership: PoolMembership?
        state.withLock { state in
            switch role {
            case .none: break
            case .sender: state.sending = false
            case .reader:
                state.loopReads = false
                state.reader = .nobody
            }
            if state.isLeaving, role != .sender { return }
            if state.closed == nil || state.isLeaving { shutDown(&state, reason, role) }
            swap(&membership, &state.membership)
            swap(&forRoom, &state.waitingForRoom)
            consumers = state.listeners.takeConsumers()
            if state.reader != .caller, !state.loopReads { answerAll(&state, state.closed ?? reason, &waiters) }
            closeDescriptorIfUnused(&state)
        }
        // Before anybody hears of it who may give the connection back.
        if let membership { membership.pool.connectionEnded(membership.id) }
        for (waiter, reply) in waiters { resume(waiter, reply) }
        wake(forRoom)
        for consumer in consumers { resume(consumer, Reply()) }
    }

    private func shutDown(_ state: inout ConnectionState, _ reason: PostgresError, _ role: Role) {
        // What close() says comes first, also if the Terminate could not be sent.
        state.closed = state.closed ?? reason
        state.isLeaving = false
        // A sender that waits for the socket to be writable would wait for ever.
        if state.wantsWrite || state.isSenderDead
            || (state.sending && state.armed.contains(.writable) && role != .sender)
        {
            state.sending = false
        }
        state.wantsWrite = false
        if state.reader == .loop { state.reader = .nobody }
        if let registration { loop.deregister(registration, descriptor: channel.socket.descriptor) }
        state.armed = []
        channel.socket.shutdownBoth()
    }

    private func answerAll(
        _ state: inout ConnectionState, _ cause: PostgresError, _ waiters: inout [(InFlight.Waiter, Reply)]
    ) {
        var number = state.queue.nextNumber &- state.queue.count
        while let request = state.queue.popFirst() {
            let outcome: PostgresError.Outcome = request.startOffset >= state.sentBytes ? .notSent : .unknown
            let reply = Reply(error: cause.with(outcome: outcome))
            switch request.collector {
            case .none, .reset: break
            case .flight(let flight): flight.fail(cause, outcome)
            case .stream(let stream): waiters.append((stream.finish(reply, &state), Reply()))
            }
            switch request.waiter {
            case .unclaimed, .cancelled: state.parked[number] = reply
            case .continuation, .thread: waiters.append((request.waiter, reply))
            case .abandoned, .overdue: break
            }
            number &+= 1
        }
    }

    /// The transport failed.
    func lost(_ error: TransportError, holding role: Role) {
        if role == .sender, leaveTheEndToTheReader() { return }
        let farewell = role == .reader ? inbound.farewell : nil
        fail(
            farewell.map { report in
                PostgresError(report, outcome: .unknown, sql: nil).with(
                    message: "\(report.message) (said by the server at \(server.address))")
            }
                ?? PostgresError(
                    code: .connectionLost, message: "the connection to \(server.address) broke: \(error)",
                    outcome: .unknown, underlying: error),
            holding: role)
    }

    /// A server that ends a session says why, and closes; a sender can meet the closed connection before the reader has read the
    /// reason. So the sender keeps its role, with nothing to send, and the reader reads what there is up to the end, which
    /// comes at the latest because of the shutdown here.
    private func leaveTheEndToTheReader() -> Bool {
        state.withLock { state in
            guard state.closed == nil else { return false }
            state.isSenderDead = true
            if state.reader == .nobody { state.reader = .loop }
            arm(&state)
            channel.socket.shutdownBoth()
            return true
        }
    }

    /// The server broke the protocol: there is no way back into step.
    func poison(_ error: ProtocolError) {
        if case .messageTooLarge(_, _, let limit) = error, limit == inbound.limits.maximumLength,
            limit < MessageFramer.Limits.defaultMaximumLength
        {
            return fail(
                PostgresError(
                    code: .resultTooLarge, message: "the server at \(server.address): \(error)", outcome: .unknown,
                    hint: "the connection is closed; raise maximumMessageBytes to take such a message",
                    underlying: error),
                holding: .reader)
        }
        fail(
            PostgresError(
                code: .brokenProtocol, message: "the server at \(server.address) broke the protocol: \(error)",
                outcome: .unknown, hint: "the connection is closed; is this a PostgreSQL server?", underlying: error),
            holding: .reader)
    }

    /// Who sends the Terminate.
    private enum Sender {
        case isCaller
        case isOther
        case isFull
    }

    /// Closes, with a Terminate behind what is pending if the socket takes it at once. The server sees it when it is done with the
    /// statements in flight; nobody waits for that.
    func close() {
        let reason = PostgresError(
            code: .connectionClosed, message: "the connection was closed by close()", outcome: .notSent)
        let sender = state.withLock { state -> Sender in
            // With the socket full there is only the end of the connection.
            guard state.closed == nil else { return .isFull }
            guard !state.wantsWrite, !state.isSenderDead else {
                shutDown(&state, reason, .none)
                return .isFull
            }
            let start = state.pending.count
            state.pending.terminate()
            state.encodedBytes &+= state.pending.count &- start
            // From here on whatever the reader finds is the answer to the Terminate, and no reason of its own.
            state.closed = reason
            state.isLeaving = true
            if state.sending { return .isOther }
            takeSenderRole(&state)
            return .isCaller
        }
        switch sender {
        case .isFull: return fail(reason)
        case .isOther: return
        case .isCaller: break
        }
        do {
            if try sendOutgoing() { channel.sendCloseNotify() }
        } catch {
            // The end is the same.
        }
        state.withLock { $0.sentBytes &-= unsentBytes }
        fail(reason, holding: .sender)
    }

    /// Under the lock, whenever a role was given back: the descriptor may be closed only when nobody is inside a call of it.
    func closeDescriptorIfUnused(_ state: inout ConnectionState) {
        guard state.closed != nil else { return }
        if state.isLeaving {
            // The sender is done. It may be a caller in the middle of its statement, so the rest is the loop's.
            if !state.sending { loop.scheduleTurn(self) }
            return
        }
        guard !state.isDescriptorClosed, !state.sending, state.reader != .caller, !state.loopReads else { return }
        state.isDescriptorClosed = true
        channel.close()
        // Nobody is the sender, and nobody will be. What it could not send may be large.
        outgoing.removeAll()
        outgoingSent = 0
        outgoingParameters = nil
    }
}
