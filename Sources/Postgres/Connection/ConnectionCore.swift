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
/// Safe to share: `state` is behind its lock; `inbound`, `head`, `readingSince`, `blockPause` and `lastColumns` belong to the reader,
/// `outgoing`, `outgoingParameters`, `outgoingSent` and `sendsWithoutPatience` to the sender; everything else is constant.
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
    @exclusivity(unchecked) var outgoing = ByteWriter(capacity: 8192)
    /// Parameters that belong in the middle of it.
    @exclusivity(unchecked) var outgoingParameters: LargeParameters?
    /// How much of the two has been sent.
    @exclusivity(unchecked) var outgoingSent = 0
    /// So many times a full socket is left to the loop at once, because waiting for it was in vain.
    @exclusivity(unchecked) var sendsWithoutPatience = 0

    @exclusivity(unchecked) var blockPause = BlockPause()
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

    func countSends(_ state: inout ConnectionState) {
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
