import PostgresProtocol
import PostgresTransport
import Synchronization

/// One connection, behind both the asynchronous and the blocking API.
///
/// *Theory of operation.* The caller encodes into the send buffer and joins the queue under one lock. Then two roles are at
/// stake, each held by at most one thread at a time and handed over under the lock:
///
/// - the **sender** owns `outgoing`: it takes what is pending and sends it without the lock, until nothing is pending. Meanwhile
///   others only append. If the socket is full, a caller may wait for it in a bounded poll; after that the role stays taken and the
///   loop goes on when the socket is writable.
/// - the **reader** owns `inbound`: it receives, finds the head of the queue for each reply, and wakes who waits for it. The loop
///   has the role when anybody is suspended; a caller that is alone takes it, and reads its own reply in a bounded poll, without
///   suspending (`ReaderPolicy`).
///
/// The first request of an idle connection is sent by its caller; while others are in flight, requests are gathered, and the
/// loop sends them in one piece at the end of its turn. Reading never waits for writing: neither role waits for the other.
/// After a failure the connection is closed for good, and every waiter gets an error that says whether its bytes had been sent.
///
/// Safe to share: `state` is behind its lock; `inbound`, `head`, `readingSince` and `lastColumns` belong to the reader, `outgoing`,
/// `outgoingSent` and `sendsWithoutPatience` to the sender; everything else is constant.
final class ConnectionCore: EventHandler, @unchecked Sendable {
    let state: Lock<ConnectionState>
    let channel: ByteChannel
    let loop: EventLoop
    let server: ServerIdentity
    let callersMayRead: Bool
    let limits: WaitLimits.Defaults
    /// nil if nobody observes.
    let observation: Observation?
    /// Notices on their way to the handler; nil if there is none.
    let notices: NoticeQueue?
    /// Set once, at the end of `init`.
    @exclusivity(unchecked) private(set) var registration: Registration?
    @exclusivity(unchecked) var inbound: Inbound
    /// What the reader has to know, beside the request itself, of the one whose reply it is in.
    @exclusivity(unchecked) var head = Head()
    @exclusivity(unchecked) private(set) var outgoing = ByteWriter(capacity: 8192)
    @exclusivity(unchecked) private(set) var outgoingSent = 0
    /// So many times a full socket is left to the loop at once, because waiting for it was in vain.
    @exclusivity(unchecked) private var sendsWithoutPatience = 0

    /// When the caller that reads for itself began to.
    @exclusivity(unchecked) var readingSince: UInt64 = 0
    /// What ReadyForQuery said last. Apart from the state, so that the reader needs no lock to tell.
    let isInTransaction = Atomic<Bool>(false)

    /// What the last reply's columns were.
    @exclusivity(unchecked) var lastColumns = LastColumns()

    struct LastColumns {
        var statement: PreparedStatement?
        var formats = ResultFormats.text
        var columns: PostgresColumns?
    }

    struct Head {
        var formats = ResultFormats.text
        var collector = InFlight.Collector.none
    }

    /// What start-up learned.
    struct ServerIdentity: Sendable {
        var processID: UInt32?
        var secretKey: [UInt8] = []
        var address = ""
        var tls: String?
        /// What the session's TLS was verified with, and against which name: a connection that cancels is held to the same.
        var host = ""
        var tlsContext: TLSContext?
    }

    /// Takes over a channel on which start-up is complete.
    init(
        channel: ByteChannel, loop: EventLoop, inbound: consuming Inbound, parameters: ServerParameters,
        server: ServerIdentity, configuration: PostgresConfiguration, notices: NoticeQueue?
    ) throws(TransportError) {
        self.channel = channel
        self.loop = loop
        self.inbound = inbound
        self.server = server
        callersMayRead = configuration.callerReadsBelowLatency > .zero
        limits = WaitLimits.Defaults(configuration)
        observation = configuration.observer.map { Observation($0, configuration, server: server.address) }
        self.notices = notices
        var state = ConnectionState(
            statementCacheCapacity: configuration.statementCacheCapacity, rowByteLimit: configuration.maximumResultBytes
        )
        state.parameters = parameters
        state.policy.latencyLimit = configuration.callerReadsBelowLatency.clampedNanoseconds
        self.state = Lock(state)
        // The loop holds its handler strongly: a weak reference would slow down every retain of an object on the hot path. The
        // connection object that users hold closes this one when it goes away, and with that ends the registration.
        // Under the lock, because the loop may have something to say of the descriptor at once.
        try self.state.withLock { _ throws(TransportError) in
            registration = try loop.register(self, descriptor: channel.socket.descriptor, holding: .strong)
        }
    }

    deinit { channel.close() }

    // MARK: Arming

    /// The socket's interest is a function of the state, and set under the lock: so no order of threads can leave it wrong.
    @inline(__always)
    func arm(_ state: inout ConnectionState) {
        let interest = Interest(
            rawValue: (state.reader == .loop && !state.isPaused ? Interest.readable.rawValue : 0)
                | (state.wantsWrite ? Interest.writable.rawValue : 0))
        guard interest != state.armed, state.closed == nil, let registration else { return }
        // What the TLS engine holds already, the socket will not tell the loop of.
        if channel.isEncrypted, interest.contains(.readable), !state.armed.contains(.readable) {
            loop.scheduleTurn(self)
        }
        state.armed = interest
        state.statistics.systemCalls &+= 1
        loop.setInterest(interest, of: registration, descriptor: channel.socket.descriptor)
    }

    func ready(_ readiness: Readiness) {
        if readiness.contains(.writable) {
            let resume = state.withLock { resumeSending(&$0) }
            if resume { pump() }
        }
        if readiness.contains(.hangup) { takeRoleToSeeTheEnd() }
        if readiness.contains(.readable) { readOnLoop() }
    }

    /// Goes on as the sender, whose role was left to whoever finds the socket writable: what is left of the buffer counts as sent
    /// again.
    ///
    /// - Returns: false if another has gone on. Otherwise `pump` must follow.
    private func resumeSending(_ state: inout ConnectionState) -> Bool {
        guard state.wantsWrite else { return false }
        state.wantsWrite = false
        state.sentBytes &+= outgoing.count &- outgoingSent
        arm(&state)
        return true
    }

    /// The server closed a connection that nobody reads: what it said is read now, so that the next statement is told at once, and
    /// that it was not sent. Armed, because one read need not get that far, and whoever comes next relies on the loop.
    ///
    /// The consumer of a stream that is full reads by itself when it goes on.
    private func takeRoleToSeeTheEnd() {
        state.withLock { state in
            guard state.reader == .nobody, state.closed == nil, !pausesForStream(&state) else { return }
            state.reader = .loop
            arm(&state)
        }
    }

    /// The end of a turn of the loop, after all tasks of the turn have queued theirs: everything leaves in one piece.
    func turn() {
        let leaves = state.withLock { state in
            state.turnScheduled = false
            return state.isLeaving && !state.sending ? state.closed : nil
        }
        if let leaves {
            channel.sendCloseNotify()
            return fail(leaves, holding: .sender)
        }
        flush()
        if channel.isEncrypted { readOnLoop() }
    }

    // MARK: Sending

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
                state.withLock { $0.sentBytes &-= outgoing.count &- outgoingSent }
                outgoingSent = 0
                outgoing.removeAll()
                return lost(error, holding: .sender)
            }
            let isDone = state.withLock { state in
                if isFull {
                    countSends(&state)
                    state.sentBytes &-= outgoing.count &- outgoingSent
                    guard state.closed == nil else { return releaseSender(&state) }
                    state.wantsWrite = true
                    arm(&state)
                    return true
                }
                outgoingSent = 0
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
        let bytes = outgoing.bytes
        while outgoingSent < bytes.count || channel.hasUnsentBytes {
            let sent = try channel.send(UnsafeRawBufferPointer(rebasing: bytes[outgoingSent...]))
            outgoingSent &+= sent
            if channel.isEncrypted {
                if sent == 0, outgoingSent < bytes.count || channel.hasUnsentBytes { return false }
            } else if outgoingSent < bytes.count {
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
        var rest = piece
        defer { outgoing.write(rest) }
        repeat {
            let head = UnsafeRawBufferPointer(rebasing: outgoing.bytes[outgoingSent...])
            let sent = try channel.sendPlain(head, rest)
            let ofHead = min(sent, head.count)
            outgoingSent &+= ofHead
            rest = UnsafeRawBufferPointer(rebasing: rest[(sent &- ofHead)...])
            if rest.isEmpty { return true }
        } while patience != .none && waitForSocket(patience, &waitsUntil)
        return false
    }

    private func releaseSender(_ state: inout ConnectionState) -> Bool {
        state.sending = false
        closeDescriptorIfUnused(&state)
        return true
    }

    func wake(_ waiters: [ConnectionState.RoomWaiter]) {
        for waiting in waiters { resume(waiting.waiter, Reply()) }
    }

    /// Wakes whoever waits; what nobody waits for yet is the caller's to park.
    func resume(_ waiter: InFlight.Waiter, _ reply: Reply) {
        switch waiter {
        case .continuation(let continuation):
            Handover.resumes()
            continuation.resume(returning: reply)
        case .thread(let thread): thread.resume(returning: reply)
        case .unclaimed, .cancelled, .abandoned, .overdue: break
        }
    }

    private func countSends(_ state: inout ConnectionState) {
        let counters = channel.senderCounters
        state.statistics.bytesSent = counters.bytesSent
        state.senderCalls = counters.systemCalls
    }

    /// A role's counters belong to who has the role. While nobody has it they are read here; otherwise what was noted last counts:
    /// each reply that woke somebody is in it.
    var statistics: PostgresConnection.Statistics {
        state.withLock { state in
            if !state.sending { countSends(&state) }
            if state.reader != .caller, !state.loopReads { countReads(&state) }
            var statistics = state.statistics
            statistics.messagesSent = state.outbound.messageCount
            statistics.systemCalls &+= state.senderCalls &+ state.readerCalls
            return statistics
        }
    }
}
