import PostgresProtocol
import PostgresTransport
import Synchronization

/// The rows of one statement, or what a COPY copies out, on their way to a consumer that reads at its own speed.
///
/// Nobody reads the socket while `limit` bytes wait for the consumer and no other request is in flight: so a slow consumer
/// holds the server back through the socket's buffer. The consumer itself is the reader when it wants more and nobody else
/// reads. A request behind the stream cannot wait for its consumer, which may be the same task: then the rest of the rows is
/// buffered, and if it does not fit into `bound`, the stream fails and the other request goes on. The same holds while the statement
/// is being cancelled: a server that cannot send its rows does not look whether it is to stop.
///
/// Safe to share: its variables are used under the connection's lock only.
final class RowStream: @unchecked Sendable {
    /// Rows waiting for the consumer beyond this hold the server back.
    static let limit = 256 * 1024

    /// What it runs.
    enum Statement: Sendable {
        case query(PostgresQuery)
        case text(String)
    }

    /// Of a query whose parameters take more bytes than this only the text is kept, which errors name.
    private static let keptBytes = 16 * 1024

    let bound: Int
    private let statement: Statement
    /// Of its request in the queue.
    var number = -1
    var chunks: [RowChunk] = []
    var bytes = 0
    var columns: PostgresColumns?
    var isFinished = false
    var error: PostgresError?
    /// The consumer is gone: the rest is read and thrown away.
    var isAbandoned = false
    var consumer = InFlight.Waiter.unclaimed
    /// How the statement ended; its rows were delivered apart.
    var end: Reply?
    /// What the server answered to a COPY.
    var copy: CopyResponse?
    /// CopyDone or CopyFail was written.
    var hasEndedCopy = false
    /// It was CopyDone: the COPY may have taken effect.
    var isDoneCopy = false
    /// A COPY in that somebody has cancelled: what the server says of it is still to come.
    var isCancelledCopy = false
    /// When its consumer began to read, or a COPY in to write, without a pause, in nanoseconds; 0 if it does not. Two at once, which is
    /// refused, may confuse it: a yield too many is all that can come of that.
    let unsuspendedSince = Atomic<UInt64>(0)

    init(bound: Int, _ statement: Statement) {
        self.bound = bound
        if case .query(let query) = statement, query.byteCount > RowStream.keptBytes {
            self.statement = .text(query.sql)
        } else {
            self.statement = statement
        }
    }

    /// For errors.
    var sql: String {
        switch statement {
        case .query(let query): query.sql
        case .text(let text): text
        }
    }

    var isFull: Bool { bytes >= RowStream.limit && !isAbandoned }
}

extension RowStream {
    /// The last row has come, or will never.
    ///
    /// - Returns: who is to be woken.
    func finish(_ reply: Reply, _ state: inout ConnectionState) -> InFlight.Waiter {
        isFinished = true
        end = reply
        if error == nil { error = reply.error?.naming(sql) }
        if state.openStream === self { state.openStream = nil }
        defer { consumer = .unclaimed }
        return consumer
    }
}

extension ConnectionState {
    /// Whether nobody but its consumer waits for the end of a stream.
    var mayRestWithStream: Bool { queue.count == 1 && cancelGate == nil }
}

extension ConnectionCore {
    /// The reader got a block of rows of the stream at the head.
    func deliverRows() {
        guard case .stream(let stream) = head.collector, let chunk = inbound.takeRows() else { return }
        var overflows = false
        let formats = head.formats
        let description = inbound.description
        let consumer = state.withLock { state -> InFlight.Waiter in
            guard !stream.isAbandoned, stream.error == nil else { return .unclaimed }
            if stream.columns == nil, let rows = description?.rowDescription {
                stream.columns = PostgresColumns(rows, formats)
            }
            stream.bytes &+= chunk.byteCount
            if stream.bytes > stream.bound, !state.mayRestWithStream {
                let isCancelled = state.cancelGate != nil
                let cause =
                    isCancelled ? "this stream is being cancelled" : "another request is waiting behind this stream"
                overflows = true
                stream.chunks = []
                stream.error = PostgresError(
                    code: .resultTooLarge,
                    message: "\(cause), and the rest of its rows has more than \(stream.bound) bytes",
                    // The server may stop it yet, and undo what it did.
                    outcome: isCancelled ? .unknown : .succeeded,
                    hint: "use another connection for queries inside the loop, or raise maximumResultBytes")
            } else {
                stream.chunks.append(chunk)
            }
            defer { stream.consumer = .unclaimed }
            return stream.consumer
        }
        if overflows { inbound.discardRows() }
        resume(consumer, Reply())
    }

    /// Whether the loop should leave the rest to the consumer.
    func pausesForStream(_ state: inout ConnectionState) -> Bool {
        guard let stream = state.openStream, state.mayRestWithStream else { return false }
        return stream.isFull && !stream.isFinished && stream.error == nil
    }

    /// The one who cancels relies on what comes being read.
    func readForCancelling(_ state: inout ConnectionState) {
        guard state.reader == .nobody else { return }
        state.reader = .loop
        arm(&state)
    }

    enum StreamStep {
        case chunk(RowChunk, PostgresColumns)
        case end
        /// The caller has the reader role: read once, and ask again.
        case read
        /// Somebody else reads: wait to be woken.
        case wait
    }

    /// The next block for the consumer. `mayRead`: the consumer's thread may sit in a poll.
    func step(_ stream: RowStream, mayRead: Bool) throws(PostgresError) -> StreamStep {
        try state.withLock { state throws(PostgresError) in
            if !stream.chunks.isEmpty {
                let chunk = stream.chunks.removeFirst()
                stream.bytes &-= chunk.byteCount
                return .chunk(chunk, stream.columns ?? .none)
            }
            if let error = stream.error { throw error }
            if stream.isFinished { return .end }
            if let closed = state.closed { throw closed.with(outcome: .unknown, sql: stream.sql) }
            // Who listens is read for by the loop, whatever this consumer does.
            let isFree = state.reader == .nobody || (state.reader == .loop && !state.loopReads)
            if mayRead, isFree, state.queue.count == 1, state.listeners.isEmpty {
                state.reader = .caller
                arm(&state)
                return .read
            }
            guard case .unclaimed = stream.consumer else {
                throw PostgresError(
                    code: .unsupported, message: "the stream is being read by another task", outcome: .succeeded,
                    hint: "iterate a stream once, in one task")
            }
            if state.reader == .nobody {
                state.reader = .loop
                arm(&state)
            }
            return .wait
        }
    }

    /// Reads once, on the consumer's thread; gives the role back.
    ///
    /// - Returns: false if nothing came in time; then the loop reads.
    func readForStream(_ stream: RowStream, until deadline: ReadBound) -> Bool {
        var isReadable = false
        do {
            isReadable = waitOrPause(deadline)
            if isReadable, try receive() > 0 {
                _ = drain(wanted: -1)
                if channel.isEncrypted, channel.hasUnsentBytes { flush() }
            }
        } catch {
            lost(error, holding: .reader)
            return true
        }
        let isClosed = state.withLock { state in
            if state.closed != nil { return true }
            countReads(&state)
            // Others behind the stream need a reader now; so do listeners, and a stream whose rows do not come fast. If the stream has
            // ended, the only request in flight is somebody else's.
            let isLeftToUs = isReadable && state.mayRestWithStream && !stream.isFinished
            let mayRest = (state.queue.isEmpty || isLeftToUs) && state.listeners.isEmpty
            state.reader = mayRest ? .nobody : .loop
            arm(&state)
            return false
        }
        if isClosed { leaveAfterClose() }
        return isReadable
    }

    nonisolated(nonsending) func nextBlock(_ stream: RowStream) async throws(PostgresError) -> RowCursor? {
        guard let (chunk, columns) = try await nextChunk(stream) else { return nil }
        return RowCursor(chunk, columns)
    }

    nonisolated(nonsending) func nextChunk(
        _ stream: RowStream
    ) async throws(PostgresError) -> (RowChunk, PostgresColumns)? {
        var limits: WaitLimits?
        while true {
            if Task.isCancelled { throw await cancelled(stream) }
            switch try advance(stream) {
            case .chunk(let chunk, let columns):
                await pauseIfDue(stream)
                return (chunk, columns)
            case .end: return nil
            case .read: continue
            case .wait:
                stream.unsuspendedSince.store(0, ordering: .relaxed)
                try await waitForRows(stream, &limits)
            }
        }
    }

    /// Rows that come as fast as they are read, and a server that takes what is written as fast, give no reason to suspend: others
    /// get a turn.
    nonisolated(nonsending) func pauseIfDue(_ stream: RowStream) async {
        let now = monotonicNanoseconds()
        let since = stream.unsuspendedSince.load(ordering: .relaxed)
        if since == 0 { return stream.unsuspendedSince.store(now, ordering: .relaxed) }
        guard now &- since > ReaderPolicy.nanosecondsBeforeYield else { return }
        stream.unsuspendedSince.store(0, ordering: .relaxed)
        await Task.yield()
    }

    func nextBlockBlocking(_ stream: RowStream) throws(PostgresError) -> RowCursor? {
        guard let (chunk, columns) = try nextChunkBlocking(stream) else { return nil }
        return RowCursor(chunk, columns)
    }

    func nextChunkBlocking(_ stream: RowStream) throws(PostgresError) -> (RowChunk, PostgresColumns)? {
        let limits = waitLimits()
        let deadline = limits.deadline
        while true {
            switch try step(stream, mayRead: true) {
            case .chunk(let chunk, let columns): return (chunk, columns)
            case .end: return nil
            case .read: _ = readForStream(stream, until: limits.blockingBound)
            case .wait: waitForRowsBlocking(stream, until: deadline)
            }
            if isDue(stream, deadline) { throw stopBlocking(stream, .timedOut) }
        }
    }

    /// One step, and the read that it may ask for: on the caller's thread, with a permit that is given back before any wait.
    private func advance(_ stream: RowStream) throws(PostgresError) -> StreamStep {
        let permit = callersMayRead && !loop.isCurrent && PollPermit.take()
        defer { if permit { PollPermit.giveBack() } }
        let step = try step(stream, mayRead: permit)
        // A poll in vain is not repeated: a silent server must not sit in a thread of the pool.
        if case .read = step, !readForStream(stream, until: .poll) { return try self.step(stream, mayRead: false) }
        return step
    }

    /// Waits until the server has answered: with rows, with the end, or with an error, which is thrown here and not at the first row.
    nonisolated(nonsending) func begin(_ stream: RowStream) async throws(PostgresError) {
        var limits: WaitLimits?
        while true {
            if Task.isCancelled { throw await cancelled(stream) }
            switch try advance(stream) {
            case .chunk(let chunk, _): return giveBack(chunk, to: stream)
            case .end: return
            case .read: continue
            case .wait: try await waitForRows(stream, &limits)
            }
        }
    }

    func beginBlocking(_ stream: RowStream) throws(PostgresError) {
        let limits = waitLimits()
        let deadline = limits.deadline
        while true {
            switch try step(stream, mayRead: true) {
            case .chunk(let chunk, _): return giveBack(chunk, to: stream)
            case .end: return
            case .read: _ = readForStream(stream, until: limits.blockingBound)
            case .wait: waitForRowsBlocking(stream, until: deadline)
            }
            if isDue(stream, deadline) { throw stopBlocking(stream, .timedOut) }
        }
    }

    private func giveBack(_ chunk: RowChunk, to stream: RowStream) {
        state.withLock { _ in
            stream.chunks.insert(chunk, at: 0)
            stream.bytes &+= chunk.byteCount
        }
    }

    /// The consumer left: the rest is read and thrown away, by the loop.
    func abandon(_ stream: RowStream) {
        state.withLock { state in
            guard !stream.isAbandoned else { return }
            stream.isAbandoned = true
            stream.chunks = []
            stream.bytes = 0
            guard !stream.isFinished, state.closed == nil, state.reader == .nobody else { return }
            state.reader = .loop
            arm(&state)
        }
    }
}
