import PostgresProtocol
import PostgresTransport
import Synchronization

/// COPY FROM STDIN.
///
/// Each wait has the deadline of the task; `queryTimeout` counts anew for each. At the deadline the COPY is given up, and also
/// cancelled: the server may wait for data, or for something else. What it says then counts.
extension ConnectionCore {

    enum CopyMoment {
        case begun
        case ended
    }

    /// Whether the moment has come; throws if it never will.
    private func hasReached(_ moment: CopyMoment, _ stream: RowStream) throws(PostgresError) -> Bool {
        try state.withLock { state throws(PostgresError) in
            if let error = stream.error { throw error }
            switch moment {
            case .begun:
                if stream.copy != nil { return true }
                if stream.isFinished { throw .internalFailure("a COPY ended before it began") }
            case .ended: if stream.isFinished { return true }
            }
            if let closed = state.closed { throw closed.with(outcome: .unknown, sql: stream.sql) }
            return false
        }
    }

    /// Sends the COPY, and waits until the server copies in.
    ///
    /// - Parameter lease: the number of the lease that the caller holds.
    nonisolated(nonsending) func copyIn(_ sql: String, as lease: Int) async throws(PostgresError) -> RowStream {
        let stream = RowStream(bound: .max, .text(sql))
        noteUser(of: lease, .copy)
        try await queueCopy(stream, sql, .copiesIn, as: lease)
        let deadline = waitLimits().deadline
        do throws(PostgresError) {
            while try !hasReached(.begun, stream) {
                if Task.isCancelled { throw .cancelledCopy }
                // Behind the look: what came in time counts, however late its reader gets a turn.
                try await stopCopyIfDue(stream, deadline)
                await waitForCopy(.begun, stream, until: deadline)
            }
        } catch {
            failCopy(stream)
            throw error.with(sql: sql)
        }
        return stream
    }

    func copyInBlocking(_ sql: String, as lease: Int) throws(PostgresError) -> RowStream {
        let stream = RowStream(bound: .max, .text(sql))
        noteUser(of: lease, .copy)
        try queueCopyBlocking(stream, sql, .copiesIn, as: lease)
        let deadline = waitLimits().deadline
        do throws(PostgresError) {
            while try !hasReached(.begun, stream) {
                try stopCopyIfDueBlocking(stream, deadline)
                waitForCopyBlocking(.begun, stream, until: deadline)
            }
        } catch {
            failCopy(stream)
            throw error.with(sql: sql)
        }
        return stream
    }

    /// Pieces of a COPY larger than this become several messages: one that is written waits in memory as a whole.
    private static let copyDataLimit = 256 * 1024

    /// Writes one CopyData, on a thread of the cooperative pool: it waits for the socket only with a permit.
    private func copyData(
        _ stream: RowStream, _ bytes: some CopiedBytes, from offset: Int, as lease: Int
    ) throws(PostgresError) -> Int {
        let permit = callersMayRead && !loop.isCurrent && PollPermit.take()
        defer { if permit { PollPermit.giveBack() } }
        return try copyData(stream, bytes, from: offset, permit ? .waits : .none, as: lease)
    }

    /// Writes one CopyData.
    ///
    /// - Returns: how many of the bytes were taken; 0 if there is no room.
    private func copyData(
        _ stream: RowStream, _ bytes: some CopiedBytes, from offset: Int, _ patience: SendPatience, as lease: Int
    ) throws(PostgresError) -> Int {
        try bytes.withBytes(from: offset) { rest throws(PostgresError) in
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(ConnectionCore.copyDataLimit))
            return try copyPiece(stream, piece, patience, as: lease)
        }
    }

    private func copyPiece(
        _ stream: RowStream, _ piece: UnsafeRawBufferPointer, _ patience: SendPatience, as lease: Int
    ) throws(PostgresError) -> Int {
        let taking = try state.withLock { state throws(PostgresError) -> CopyTaking in
            if let error = stream.error { throw error }
            if let closed = state.closed { throw closed.with(outcome: .unknown, sql: stream.sql) }
            if stream.isCancelledCopy, !stream.isFinished { return .none }
            // CopyData outside of a COPY would be ignored by a server, and believed by the caller.
            guard stream.copy != nil, !stream.isFinished, !stream.hasEndedCopy,
                // While the COPY is being cancelled, its lease is set aside.
                state.exclusiveWriter == lease || state.cancelGate?.lease == lease
            else {
                throw PostgresError(code: .unsupported, message: "the COPY is over; this was not sent")
            }
            guard state.hasRoom(for: lease) else { return .none }
            let start = state.pending.count
            // Nobody sends, and nothing waits to be: the bytes can leave from where they lie.
            let leaves = !state.sending && start == 0 && !channel.isEncrypted && !piece.isEmpty
            do throws(EncodingError) {
                if leaves {
                    try state.outbound.copyDataHeader(of: piece.count, into: &state.pending)
                } else {
                    try state.outbound.copyData(piece, into: &state.pending)
                }
            } catch {
                throw PostgresError(error, sql: nil)
            }
            state.encodedBytes &+= state.pending.count &- start
            if leaves {
                takeSenderRole(&state)
                state.encodedBytes &+= piece.count
                state.sentBytes &+= piece.count
                return .leaves
            }
            let flush = takeSenderRoleIfFree(&state) || (patience != .none && takeSenderRoleFromLoop(&state))
            return flush ? .flush : .appended
        }
        switch taking {
        case .none: return 0
        case .appended: break
        case .flush: pump(patience)
        case .leaves: pump(patience, then: piece)
        }
        return piece.count
    }

    /// What became of a piece of a COPY under the lock. But for `none` it was taken.
    private enum CopyTaking {
        case none
        case appended
        /// Appended, and the caller is the sender.
        case flush
        /// Not appended: the caller is the sender, and sends it from where it lies.
        case leaves
    }

    private func takeSenderRoleIfFree(_ state: inout ConnectionState) -> Bool {
        guard !state.sending, state.pending.count > 0 else { return false }
        takeSenderRole(&state)
        return true
    }

    /// Writes bytes of a COPY, waiting for room.
    nonisolated(nonsending) func writeCopyData(
        _ stream: RowStream, _ bytes: some CopiedBytes, as lease: Int
    ) async throws(PostgresError) {
        var offset = 0
        var deadline: Deadline??
        while offset < bytes.byteCount {
            if Task.isCancelled { throw .cancelledCopy }
            if PostgresScope.hasEnded { try await stopCopy(stream, .timedOut) }
            let taken = try copyData(stream, bytes, from: offset, as: lease)
            offset &+= taken
            if taken == 0 {
                try await waitForCopyRoom(stream, lease, &deadline)
            } else {
                deadline = nil
                await pauseIfDue(stream)
            }
        }
    }

    func writeCopyDataBlocking(
        _ stream: RowStream, _ bytes: some CopiedBytes, as lease: Int
    ) throws(PostgresError) {
        var offset = 0
        var deadline: Deadline??
        while offset < bytes.byteCount {
            if PostgresScope.hasEnded { try stopCopyBlocking(stream, .timedOut) }
            let taken = try copyData(stream, bytes, from: offset, .waits, as: lease)
            offset &+= taken
            if taken == 0 { try waitForCopyRoomBlocking(stream, lease, &deadline) } else { deadline = nil }
        }
    }

    /// - Parameter deadline: of this wait, which may take several turns; nil before the first.
    nonisolated(nonsending) private func waitForCopyRoom(
        _ stream: RowStream, _ lease: Int, _ deadline: inout Deadline??
    ) async throws(PostgresError) {
        stream.unsuspendedSince.store(0, ordering: .relaxed)
        let until = deadline ?? waitLimits().deadline
        deadline = .some(until)
        if isCancelledCopy(stream) { return await waitForCopy(.ended, stream, until: nil) }
        if until?.hasPassed == true { return try await stopCopy(stream, .timedOut) }
        try await waitForRoom(for: lease, until: until)
    }

    private func waitForCopyRoomBlocking(
        _ stream: RowStream, _ lease: Int, _ deadline: inout Deadline??
    ) throws(PostgresError) {
        let until = deadline ?? waitLimits().deadline
        deadline = .some(until)
        if isCancelledCopy(stream) { return waitForCopyBlocking(.ended, stream, until: nil) }
        if until?.hasPassed == true { return try stopCopyBlocking(stream, .timedOut) }
        try waitForRoomBlocking(for: lease, until: until)
    }

    private func isCancelledCopy(_ stream: RowStream) -> Bool { state.withLock { _ in stream.isCancelledCopy } }

    /// Writes CopyDone or CopyFail, once, room or not; nothing if the server has ended the COPY itself.
    ///
    /// - Returns: whether it was written.
    @discardableResult
    func endCopy(_ stream: RowStream, failing reason: String?, isCancelled: Bool = false) -> Bool {
        let (isWritten, flush) = state.withLock { state in
            guard !stream.hasEndedCopy else { return (false, false) }
            stream.hasEndedCopy = true
            stream.isCancelledCopy = isCancelled
            guard !stream.isFinished, state.closed == nil else { return (false, false) }
            let start = state.pending.count
            guard (try? state.outbound.endCopy(failing: reason, into: &state.pending)) != nil else {
                return (false, false)
            }
            stream.isDoneCopy = reason == nil
            state.encodedBytes &+= state.pending.count &- start
            return (true, takeSenderRoleIfFree(&state))
        }
        if flush { pump() }
        return isWritten
    }

    /// Why CopyDone was not written.
    private func whyOver(_ stream: RowStream) -> PostgresError {
        state.withLock { state in
            stream.error ?? state.closed?.with(outcome: .unknown, sql: stream.sql)
                ?? PostgresError(
                    code: .brokenProtocol, message: "the server ended a COPY before all of it was sent",
                    outcome: .unknown, sql: stream.sql)
        }
    }

    /// Gives a COPY in up: the server rolls it back. Its answer is read and thrown away.
    func failCopy(_ stream: RowStream) {
        endCopy(stream, failing: "given up by the client")
    }

    /// CopyDone, and how many rows were copied.
    nonisolated(nonsending) func finishCopy(_ stream: RowStream) async throws(PostgresError) -> Int {
        // A source that ends because its task was cancelled has not come to its end.
        if Task.isCancelled {
            failCopy(stream)
            throw .cancelledCopy
        }
        // As COMMIT, CopyDone is not sent behind the deadline.
        if !isCancelledCopy(stream) { try await stopCopyIfDue(stream, PostgresScope.current?.deadline) }
        let isDone = endCopy(stream, failing: nil)
        guard isDone || isCancelledCopy(stream) else { throw whyOver(stream) }
        let deadline = waitLimits().deadline
        while try !hasReached(.ended, stream) {
            if Task.isCancelled { throw PostgresError.cancelled(.unknown).naming(stream.sql) }
            try await stopCopyIfDue(stream, deadline)
            await waitForCopy(.ended, stream, until: deadline)
        }
        guard isDone else { throw whyOver(stream) }
        return state.withLock { _ in stream.end?.affected ?? 0 }
    }

    func finishCopyBlocking(_ stream: RowStream) throws(PostgresError) -> Int {
        if !isCancelledCopy(stream) { try stopCopyIfDueBlocking(stream, PostgresScope.current?.deadline) }
        let isDone = endCopy(stream, failing: nil)
        guard isDone || isCancelledCopy(stream) else { throw whyOver(stream) }
        let deadline = waitLimits().deadline
        while try !hasReached(.ended, stream) {
            try stopCopyIfDueBlocking(stream, deadline)
            waitForCopyBlocking(.ended, stream, until: deadline)
        }
        guard isDone else { throw whyOver(stream) }
        return state.withLock { _ in stream.end?.affected ?? 0 }
    }

    // MARK: Waiting

    private nonisolated(nonsending) func waitForCopy(
        _ moment: CopyMoment, _ stream: RowStream, until deadline: Deadline?
    ) async {
        var timer: EventLoop.Timer?
        await withTaskCancellationHandler {
            _ = await withUnsafeContinuation { (continuation: UnsafeContinuation<Reply, Never>) in
                guard setWaiter(for: moment, stream, .continuation(continuation)) else {
                    return continuation.resume(returning: Reply())
                }
                timer = deadline.map { loop.schedule(at: $0) { self.wakeConsumer(of: stream) } }
            }
        } onCancel: {
            wakeConsumer(of: stream)
        }
        Handover.resumed()
        if let timer { loop.cancel(timer) }
    }

    private func waitForCopyBlocking(_ moment: CopyMoment, _ stream: RowStream, until deadline: Deadline?) {
        let thread = BlockedThread()
        guard setWaiter(for: moment, stream, .thread(thread)) else { return }
        let timer = deadline.map { loop.schedule(at: $0) { self.wakeConsumer(of: stream) } }
        _ = thread.wait()
        if let timer { loop.cancel(timer) }
    }

    /// False if there is nothing to wait for.
    private func setWaiter(for moment: CopyMoment, _ stream: RowStream, _ waiter: InFlight.Waiter) -> Bool {
        state.withLock { state in
            guard !stream.isFinished, stream.error == nil, state.closed == nil, !waiter.isCancelledTask else {
                return false
            }
            if case .begun = moment, stream.copy != nil { return false }
            stream.consumer = waiter
            return true
        }
    }
}

/// Bytes on their way into a COPY, which leave from where they lie.
protocol CopiedBytes {
    var byteCount: Int { get }

    /// Lends what lies behind `offset`.
    func withBytes(
        from offset: Int, _ body: (UnsafeRawBufferPointer) throws(PostgresError) -> Int
    ) throws(PostgresError) -> Int
}

extension [UInt8]: CopiedBytes {
    var byteCount: Int { count }

    func withBytes(
        from offset: Int, _ body: (UnsafeRawBufferPointer) throws(PostgresError) -> Int
    ) throws(PostgresError) -> Int { try span.bytes.extracting(droppingFirst: offset).withUnsafeBytes(body) }
}

extension PostgresEncoder: CopiedBytes {
    func withBytes(
        from offset: Int, _ body: (UnsafeRawBufferPointer) throws(PostgresError) -> Int
    ) throws(PostgresError) -> Int {
        defer { withExtendedLifetime(storage) {} }
        return try body(rest(from: offset))
    }
}

extension PostgresError {
    /// Before CopyDone a COPY cannot have taken effect.
    static var cancelledCopy: PostgresError {
        PostgresError(
            code: .cancelled, message: "the task was cancelled during COPY, which was given up: nothing was copied",
            outcome: .rejected)
    }
}
