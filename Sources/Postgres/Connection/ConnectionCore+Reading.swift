import PostgresProtocol
import PostgresTransport
import Synchronization

/// The reader's part: bytes to replies, replies to their callers.
extension ConnectionCore {
    /// What a reader found.
    struct ReadOutcome {
        /// The reply that the reader itself waits for.
        var reply: Reply?
        /// Whether the connection is of use still.
        var isOpen = true
        /// The reader was done with its reply, and has given the role back.
        var gaveRoleBack = false
        /// See ``ReaderPolicy/nanosecondsBeforeYield``.
        var isYieldDue = false
    }

    /// A server that sends as fast as the loop reads is left after so many full buffers.
    private static let readsInARow = 64

    /// The loop's thread, when the socket is readable.
    func readOnLoop(afterPause: Bool = false) {
        let isReader = state.withLock { state in
            guard state.reader == .loop, state.closed == nil else {
                // Whoever makes the loop the reader again finds the socket armed.
                state.isPaused = false
                return false
            }
            state.loopReads = true
            state.loopMayHold = true
            return true
        }
        guard isReader else { return }
        var isOpen = true
        var received = 0
        var reads = 0
        do {
            while isOpen {
                var isFull = false
                let count = try receive(&isFull)
                guard count > 0 else { break }
                received &+= count
                reads &+= 1
                isOpen = drain(wanted: -1).isOpen
                if !isFull || !mayReadOn() { break }
                guard reads >= ConnectionCore.readsInARow else { continue }
                // Its other connections and timers get their turn. The socket tells of its bytes again, the TLS engine would not.
                if channel.mayHoldMore { loop.scheduleTurn(self) }
                break
            }
        } catch {
            return lost(error, holding: .reader)
        }
        let isClosed = state.withLock { state in
            if state.closed != nil { return true }
            state.loopReads = false
            countReads(&state)
            if pausesForStream(&state) {
                state.reader = .nobody
                arm(&state)
            }
            if afterPause, received == 0 { state.readsWithoutPause = ReadPause.afterVain }
            letGather(received, &state)
            return false
        }
        if isClosed { leaveAfterClose() }
        if channel.isEncrypted, channel.hasUnsentBytes { flush() }
    }

    private func mayReadOn() -> Bool {
        state.withLock { state in
            if pausesForStream(&state) { return false }
            state.loopMayHold = true
            return true
        }
    }

    /// Begins, goes on with or ends pausing: see ``ReadPause`` and ``BlockPause``.
    private func letGather(_ received: Int, _ state: inout ConnectionState) {
        var pauses = false
        if state.queue.count > 0, state.reader == .loop {
            if received < ReadPause.smallRead {
                var owed = state.queue.count
                if case .flight(let flight) = head.collector { owed &+= flight.items.count &- flight.index }
                pauses = owed >= ReadPause.deepQueue
                if pauses, state.readsWithoutPause > 0 {
                    state.readsWithoutPause &-= 1
                    pauses = false
                }
            } else if blockPause.isDue, !channel.mayHoldMore {
                blockPause.paused()
                pauses = true
            }
        }
        if pauses { loop.pause(self) }
        guard pauses != state.isPaused else { return }
        state.isPaused = pauses
        arm(&state)
    }

    /// Receives what there is, as the reader.
    ///
    /// - Parameter isFull: set to true if there may be more at hand.
    /// - Returns: how many bytes; 0 if there is nothing.
    @inline(__always)
    func receive(_ isFull: inout Bool) throws(TransportError) -> Int {
        let space = inbound.buffer.space()
        let count = try channel.receive(into: space)
        blockPause.received(count, of: space.count)
        if count > 0 {
            isFull = count == space.count
            inbound.buffer.received(count)
            inbound.buffer.growIfFull(count, of: space.count)
        }
        return count
    }

    @inline(__always)
    func receive() throws(TransportError) -> Int {
        var isFull = false
        return try receive(&isFull)
    }

    /// Waits until there is something to read, or, in the middle of a long result, for a while: see ``BlockPause``.
    @inline(__always)
    func waitOrPause(_ bound: ReadBound) -> Bool {
        if blockPause.isDue, !channel.mayHoldMore { return pauseForBlocks() }
        return wait(bound)
    }

    @inline(never)
    private func pauseForBlocks() -> Bool {
        blockPause.paused()
        channel.pause(microseconds: BlockPause.microseconds)
        return true
    }

    func pauseOver() {
        if state.withLock({ $0.isPaused }) { readOnLoop(afterPause: true) }
    }

    @inline(__always)
    func countReads(_ state: inout ConnectionState) {
        let counters = channel.readerCounters
        state.statistics.bytesReceived = counters.bytesReceived
        state.statistics.messagesReceived = inbound.messageCount
        state.readerCalls = counters.systemCalls
    }

    /// Handles everything that was received. `wanted` is the number of the request whose caller is the reader.
    func drain(wanted: Int) -> ReadOutcome {
        var outcome = ReadOutcome()
        do throws(ProtocolError) {
            while true {
                if let end = inbound.takeUsualReply(columns: usualColumns()) {
                    if let reply = finishUsual(end, wanted, &outcome) {
                        outcome.reply = reply
                        // Mostly that was all; what else there is, is read as usual.
                        if outcome.gaveRoleBack || inbound.buffer.isEmpty { return outcome }
                    }
                    continue
                }
                switch try inbound.next() {
                case .needsBytes: return outcome
                case .needsRequest:
                    if !beginHead(), try !inbound.readFarewell() { return outcome }
                case .finished:
                    if let reply = finishHead(wanted, &outcome) {
                        outcome.reply = reply
                        if outcome.gaveRoleBack || inbound.buffer.isEmpty { return outcome }
                    }
                    if !outcome.isOpen { return outcome }
                case .statementFinished:
                    finishStatementOfScript()
                case .rows:
                    deliverRows()
                case .refuseCopy(let resync):
                    refuseCopy(resync: resync)
                case .copyBegan(let response):
                    copyBegan(response)
                case .parameter(let parameter):
                    try parameterChanged(parameter)
                case .notification(let notification): notified(notification)
                case .notice(let report): notices?.add(report)
                }
            }
        } catch {
            poison(error)
            outcome.isOpen = false
            return outcome
        }
    }

    private func parameterChanged(_ parameter: ParameterStatus) throws(ProtocolError) {
        do throws(ProtocolError) {
            try state.withLock { state throws(ProtocolError) in try state.parameters.record(parameter) }
        } catch {
            // More names than anybody needs are not kept; that is no reason to end a session that works.
            if case .tooManyParameters = error { return }
            throw error
        }
    }

    private func beginHead() -> Bool {
        guard let first = state.withLock({ state in state.queue.first }) else { return false }
        begin(first)
        return true
    }

    /// The reader turns to a request.
    @inline(__always)
    func begin(_ first: borrowing InFlight) {
        head.formats = first.formats
        blockPause.resultBegins()
        if case .none = first.collector {} else { head.collector = first.collector }
        inbound.begin(first.request)
    }

    /// The end of a request: the reply goes to whoever waits.
    @inline(__always)
    private func finishHead(_ wanted: Int, _ outcome: inout ReadOutcome) -> Reply? {
        let result = inbound.takeResult()
        note(result.status)
        if case .reset = head.collector {
            outcome.isOpen = finishReset(result)
            return outcome.isOpen ? complete(Reply(), wanted, &outcome) : nil
        }
        if case .flight(let flight) = head.collector { return finishInFlight(flight, result, wanted, &outcome) }
        let reply = makeReply(result, inbound.request, head.formats)
        if case .stream(let stream) = head.collector { return complete(reply, wanted, &outcome, ending: stream) }
        return complete(reply, wanted, &outcome)
    }

    /// The end of a request that went as usual.
    @inline(__always)
    private func finishUsual(_ end: Inbound.UsualEnd, _ wanted: Int, _ outcome: inout ReadOutcome) -> Reply? {
        note(end.status)
        let reply = Reply(block: end.block, rowCount: end.rowCount, affected: end.affected)
        if case .none = head.collector { return complete(reply, wanted, &outcome) }
        return finishUsualInFlight(reply, wanted, &outcome)
    }

    private func finishUsualInFlight(_ reply: Reply, _ wanted: Int, _ outcome: inout ReadOutcome) -> Reply? {
        guard case .flight(let flight) = head.collector else { return nil }
        flight.replies.append(reply)
        if let next = flight.advance() {
            head.formats = next.formats
            inbound.begin(next.request)
            return nil
        }
        return complete(Reply(), wanted, &outcome)
    }

    @inline(__always)
    private func note(_ status: TransactionStatus?) {
        guard let status else { return }
        if case .idle = status {
            isInTransaction.store(false, ordering: .relaxed)
        } else {
            isInTransaction.store(true, ordering: .relaxed)
        }
    }

    private func finishInFlight(
        _ flight: Flight, _ result: StatementResult, _ wanted: Int, _ outcome: inout ReadOutcome
    ) -> Reply? {
        let item = flight.items[flight.index]
        if !item.request.parts.contains(.simple) || result.failure != nil {
            flight.replies.append(makeReply(result, item.request, item.formats))
        }
        if let next = flight.advance() {
            head.formats = next.formats
            inbound.begin(next.request)
            return nil
        }
        return complete(Reply(), wanted, &outcome)
    }

    /// Takes the request out of the queue, and its reply to its caller.
    ///
    /// - Parameter stream: ends in the same step: whoever finds it at its end may give the connection back, with nothing in flight.
    @inline(__always)
    private func complete(
        _ reply: Reply, _ wanted: Int, _ outcome: inout ReadOutcome, ending stream: RowStream? = nil
    ) -> Reply? {
        if case .none = head.collector {} else { head.collector = .none }
        var isWanted = false
        var hasRoomAgain = false
        var consumer = InFlight.Waiter.unclaimed
        let isAllRead = inbound.buffer.isEmpty
        let waiter = state.withLock { state -> InFlight.Waiter in
            if let stream { consumer = stream.finish(reply, &state) }
            state.loopMayHold = !isAllRead
            let number = state.queue.nextNumber &- state.queue.count
            let queued = state.queue.removeFirst { request in request.waiter }
            guard let queued else { return .abandoned }
            hasRoomAgain = state.queue.count == state.queueLimit / 2
            if number == wanted, case .unclaimed = queued {
                // The reader itself; its counters are read when somebody asks. Mostly it is done, too, and leaves.
                isWanted = true
                if state.queue.isEmpty {
                    state.statistics.roundTrips &+= 1
                    if isAllRead, state.closed == nil, state.listeners.isEmpty { giveRoleBack(&state, &outcome) }
                }
                return .abandoned
            }
            if state.queue.isEmpty {
                state.statistics.roundTrips &+= 1
                if state.sentAt != 0 {
                    state.policy.measured(monotonicNanoseconds() &- state.sentAt)
                    state.sentAt = 0
                }
            }
            countReads(&state)
            switch queued {
            case .unclaimed, .cancelled:
                state.parked[number] = reply
                return .abandoned
            case .continuation, .thread, .abandoned, .overdue: return queued
            }
        }
        if stream != nil { resume(consumer, Reply()) }
        if hasRoomAgain { wakeForRoom() }
        if isWanted { return reply }
        resume(waiter, reply)
        return nil
    }

    /// A caller that has read its own reply, and nothing else is in flight.
    @inline(__always)
    private func giveRoleBack(_ state: inout ConnectionState, _ outcome: inout ReadOutcome) {
        let elapsed = monotonicNanoseconds() &- readingSince
        state.policy.measured(elapsed)
        state.unsuspended &+= elapsed
        if state.unsuspended > ReaderPolicy.nanosecondsBeforeYield {
            state.unsuspended = 0
            outcome.isYieldDue = true
        }
        state.reader = .nobody
        outcome.gaveRoleBack = true
    }

    /// The queue was full, perhaps, and the sender has nothing more to do that would wake who waits.
    @inline(never)
    private func wakeForRoom() {
        wake(state.withLock { $0.takeRoomWaiters() })
    }

    private func finishStatementOfScript() {
        let result = inbound.takeResult()
        guard case .flight(let flight) = head.collector else { return }
        flight.replies.append(makeReply(result, flight.items[flight.index].request, .text))
    }

    /// Nobody asked for COPY FROM STDIN. The server waits for data; it gets CopyFail and, because it ignored the Sync that came
    /// during the copy, another Sync. With other requests behind this one, their messages have been taken for copy data's: there
    /// is no way back into step.
    private func refuseCopy(resync: Bool) {
        let isAlone = state.withLock { state in
            guard state.queue.count == 1, state.closed == nil else { return false }
            if case .flight(let flight) = head.collector, flight.items.count > 1 { return false }
            let start = state.pending.count
            guard (try? state.outbound.refuseCopy(resync: resync, into: &state.pending)) != nil else { return false }
            state.encodedBytes &+= state.pending.count &- start
            return true
        }
        if isAlone {
            flush()
        } else {
            fail(
                PostgresError(
                    code: .unsupported, message: "a statement in a pipeline is a COPY FROM STDIN", outcome: .unknown,
                    hint: "the connection is closed; run COPY on its own"))
        }
    }
}
