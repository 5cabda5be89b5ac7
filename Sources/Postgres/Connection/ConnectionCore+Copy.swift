import PostgresProtocol
import PostgresTransport
import Synchronization

/// COPY (manual, "COPY Operations").
///
/// *Theory of operation.* A COPY is one element of the queue, a simple Query, and its answers go to a `RowStream`. What is copied
/// out is a stream like any other. What is copied in is written by the holder of a lease, so that nothing comes between: CopyData
/// goes through `pending` and the sender like all else, and whoever writes waits while a megabyte is unsent. Nothing is written
/// before the server has said that it copies in. The loop reads meanwhile, so an error of the server ends the stream while we
/// still send, and the next piece is not written.
///
/// A COPY in that is given up gets CopyFail, and nobody waits for the answer: the server rolls back, and what follows on the
/// connection is behind it in both directions. It may be written at any time, because a server that does not copy ignores it;
/// also before the server has answered, which spares keeping the lease until it does.
extension ConnectionCore {
    /// The reader: the COPY at the head has begun.
    func copyBegan(_ response: CopyResponse) {
        guard case .stream(let stream) = head.collector else { return }
        let consumer = state.withLock { _ -> InFlight.Waiter in
            stream.copy = response
            // Of a COPY out the consumer waits for rows.
            guard inbound.request.parts.contains(.copiesIn) else { return .unclaimed }
            defer { stream.consumer = .unclaimed }
            return stream.consumer
        }
        resume(consumer, Reply())
    }

    private func beginCopy(
        _ stream: RowStream, _ sql: String, _ direction: Request.Parts, as writer: Int?, blocking: Bool
    ) throws(PostgresError) -> Begun {
        try submit(.stream(stream), blocking: blocking, mayRead: false, waiter: .abandoned, as: writer) {
            state throws(PostgresError) in
            try ConnectionCore.counted(&state, sql: sql) { state throws(EncodingError) in
                try state.outbound.copy(sql, direction, into: &state.pending)
            }
        }
    }

    private nonisolated(nonsending) func queueCopy(
        _ stream: RowStream, _ sql: String, _ direction: Request.Parts, as writer: Int?
    ) async throws(PostgresError) {
        while true {
            if Task.isCancelled { throw .cancelled(.notSent) }
            switch try beginCopy(stream, sql, direction, as: writer, blocking: false) {
            case .noRoom: try await waitForRoom(for: writer)
            case .queued(_, let flush):
                if flush { pump() }
                return
            case .reads: return
            }
        }
    }

    private func queueCopyBlocking(
        _ stream: RowStream, _ sql: String, _ direction: Request.Parts, as writer: Int?
    ) throws(PostgresError) {
        if loop.isCurrent {
            throw PostgresError(
                code: .unsupported, message: "a blocking call on the thread of the event loop would wait for itself",
                hint: "use PostgresConnection there")
        }
        while true {
            switch try beginCopy(stream, sql, direction, as: writer, blocking: true) {
            case .noRoom: try waitForRoomBlocking(for: writer)
            case .queued(_, let flush):
                if flush { pump() }
                return
            case .reads: return
            }
        }
    }

    // MARK: Out

    /// - Parameter columns: what the rows are, if they are to be rows, which needs the binary format; else they are bytes.
    nonisolated(nonsending) func copyOut(
        _ sql: String, rows columns: PostgresColumns?, as writer: Int?
    ) async throws(PostgresError) -> RowStream {
        let stream = RowStream(bound: state.withLock { $0.rowByteLimit })
        stream.columns = columns
        try await queueCopy(stream, sql, columns == nil ? .copiesOut : [.copiesOut, .streams], as: writer)
        do throws(PostgresError) {
            try await begin(stream)
            try check(stream)
        } catch {
            abandon(stream)
            throw error.with(sql: sql)
        }
        return stream
    }

    /// Bytes: the blocking API has no rows to copy out, and no transaction to do it in.
    func copyOutBlocking(_ sql: String) throws(PostgresError) -> RowStream {
        let stream = RowStream(bound: state.withLock { $0.rowByteLimit })
        try queueCopyBlocking(stream, sql, .copiesOut, as: nil)
        do throws(PostgresError) {
            try beginBlocking(stream)
        } catch {
            abandon(stream)
            throw error.with(sql: sql)
        }
        return stream
    }

    /// The table may have changed since it was described: then the columns are not those that the rows would be read by.
    private func check(_ stream: RowStream) throws(PostgresError) {
        let (columns, response) = state.withLock { _ in (stream.columns, stream.copy) }
        guard let columns, let response, columns.count != response.columnFormats.count else { return }
        throw PostgresError(
            code: .columnCount,
            message: "\(columns.count) columns were described, and \(response.columnFormats.count) are copied",
            outcome: .succeeded, hint: "the table was changed meanwhile; run it again")
    }

    // MARK: In

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
            if let closed = state.closed { throw closed.with(outcome: .unknown) }
            return false
        }
    }

    /// Sends the COPY, and waits until the server copies in.
    ///
    /// - Parameter lease: the number of the lease that the caller holds.
    nonisolated(nonsending) func copyIn(_ sql: String, as lease: Int) async throws(PostgresError) -> RowStream {
        let stream = RowStream(bound: .max)
        try await queueCopy(stream, sql, .copiesIn, as: lease)
        do throws(PostgresError) {
            while try !hasReached(.begun, stream) {
                if Task.isCancelled { throw .cancelledCopy }
                await waitForCopy(.begun, stream)
            }
        } catch {
            failCopy(stream)
            throw error.with(sql: sql)
        }
        return stream
    }

    func copyInBlocking(_ sql: String, as lease: Int) throws(PostgresError) -> RowStream {
        let stream = RowStream(bound: .max)
        try queueCopyBlocking(stream, sql, .copiesIn, as: lease)
        do throws(PostgresError) {
            while try !hasReached(.begun, stream) { waitForCopyBlocking(.begun, stream) }
        } catch {
            failCopy(stream)
            throw error.with(sql: sql)
        }
        return stream
    }

    /// Pieces of a COPY larger than this become several messages: one that is written waits in memory as a whole.
    private static let copyDataLimit = 256 * 1024

    /// Writes one CopyData.
    ///
    /// - Returns: how many of the bytes were taken; 0 if there is no room.
    private func copyData(
        _ stream: RowStream, _ bytes: RawSpan, as lease: Int
    ) throws(PostgresError) -> Int {
        try bytes.extracting(first: ConnectionCore.copyDataLimit).withUnsafeBytes { piece throws(PostgresError) in
            try copyPiece(stream, piece, as: lease)
        }
    }

    private func copyPiece(
        _ stream: RowStream, _ piece: UnsafeRawBufferPointer, as lease: Int
    ) throws(PostgresError) -> Int {
        let (taken, flush) = try state.withLock { state throws(PostgresError) -> (Int, Bool) in
            if let error = stream.error { throw error }
            if let closed = state.closed { throw closed.with(outcome: .unknown) }
            // CopyData outside of a COPY would be ignored by a server, and believed by the caller.
            guard stream.copy != nil, !stream.isFinished, !stream.hasEndedCopy,
                // While the COPY is being cancelled, its lease is set aside.
                state.exclusiveWriter == lease || state.cancelGate?.lease == lease
            else {
                throw PostgresError(code: .unsupported, message: "the COPY is over; this was not sent")
            }
            guard state.hasRoom(for: lease) else { return (0, false) }
            let start = state.pending.count
            do throws(EncodingError) {
                try state.outbound.copyData(piece, into: &state.pending)
            } catch {
                throw PostgresError(error, sql: nil)
            }
            state.encodedBytes &+= state.pending.count &- start
            return (piece.count, takeSenderRoleIfFree(&state))
        }
        if flush { pump() }
        return taken
    }

    private func takeSenderRoleIfFree(_ state: inout ConnectionState) -> Bool {
        guard !state.sending, state.pending.count > 0 else { return false }
        takeSenderRole(&state)
        return true
    }

    /// Writes bytes of a COPY, waiting for room.
    nonisolated(nonsending) func writeCopyData(
        _ stream: RowStream, _ bytes: [UInt8], as lease: Int
    ) async throws(PostgresError) {
        var offset = 0
        while offset < bytes.count {
            if Task.isCancelled { throw .cancelledCopy }
            let taken = try copyData(stream, bytes.span.bytes.extracting(droppingFirst: offset), as: lease)
            offset &+= taken
            if taken == 0 { try await waitForRoom(for: lease) }
        }
    }

    nonisolated(nonsending) func writeCopyData(
        _ stream: RowStream, _ rows: PostgresEncoder, as lease: Int
    ) async throws(PostgresError) {
        var offset = 0
        while offset < rows.byteCount {
            if Task.isCancelled { throw .cancelledCopy }
            let taken = try copyData(stream, rows.rest(from: offset).bytes, as: lease)
            offset &+= taken
            if taken == 0 { try await waitForRoom(for: lease) }
        }
        withExtendedLifetime(rows.storage) {}
    }

    func writeCopyDataBlocking(_ stream: RowStream, _ bytes: [UInt8], as lease: Int) throws(PostgresError) {
        var offset = 0
        while offset < bytes.count {
            let taken = try copyData(stream, bytes.span.bytes.extracting(droppingFirst: offset), as: lease)
            offset &+= taken
            if taken == 0 { try waitForRoomBlocking(for: lease) }
        }
    }

    func writeCopyDataBlocking(_ stream: RowStream, _ rows: PostgresEncoder, as lease: Int) throws(PostgresError) {
        var offset = 0
        while offset < rows.byteCount {
            let taken = try copyData(stream, rows.rest(from: offset).bytes, as: lease)
            offset &+= taken
            if taken == 0 { try waitForRoomBlocking(for: lease) }
        }
        withExtendedLifetime(rows.storage) {}
    }

    /// Writes CopyDone or CopyFail, once, room or not; nothing if the server has ended the COPY itself.
    ///
    /// - Returns: whether it was written.
    @discardableResult
    private func endCopy(_ stream: RowStream, failing reason: String?) -> Bool {
        let (isWritten, flush) = state.withLock { state in
            guard !stream.hasEndedCopy else { return (false, false) }
            stream.hasEndedCopy = true
            guard !stream.isFinished, state.closed == nil else { return (false, false) }
            let start = state.pending.count
            guard (try? state.outbound.endCopy(failing: reason, into: &state.pending)) != nil else {
                return (false, false)
            }
            state.encodedBytes &+= state.pending.count &- start
            return (true, takeSenderRoleIfFree(&state))
        }
        if flush { pump() }
        return isWritten
    }

    /// Why CopyDone was not written.
    private func whyOver(_ stream: RowStream) -> PostgresError {
        state.withLock { state in
            stream.error ?? state.closed?.with(outcome: .unknown)
                ?? PostgresError(
                    code: .brokenProtocol, message: "the server ended a COPY before all of it was sent",
                    outcome: .unknown)
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
        guard endCopy(stream, failing: nil) else { throw whyOver(stream) }
        while try !hasReached(.ended, stream) {
            if Task.isCancelled { throw .cancelled(.unknown) }
            await waitForCopy(.ended, stream)
        }
        return state.withLock { _ in stream.end?.affected ?? 0 }
    }

    func finishCopyBlocking(_ stream: RowStream) throws(PostgresError) -> Int {
        guard endCopy(stream, failing: nil) else { throw whyOver(stream) }
        while try !hasReached(.ended, stream) { waitForCopyBlocking(.ended, stream) }
        return state.withLock { _ in stream.end?.affected ?? 0 }
    }

    // MARK: Waiting

    private nonisolated(nonsending) func waitForCopy(_ moment: CopyMoment, _ stream: RowStream) async {
        await withTaskCancellationHandler {
            _ = await withUnsafeContinuation { (continuation: UnsafeContinuation<Reply, Never>) in
                if !setWaiter(for: moment, stream, .continuation(continuation)) {
                    continuation.resume(returning: Reply())
                }
            }
        } onCancel: {
            let waiter = state.withLock { _ -> InFlight.Waiter in
                defer { stream.consumer = .unclaimed }
                return stream.consumer
            }
            resume(waiter, Reply())
        }
    }

    private func waitForCopyBlocking(_ moment: CopyMoment, _ stream: RowStream) {
        let thread = BlockedThread()
        if setWaiter(for: moment, stream, .thread(thread)) { _ = thread.wait() }
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

extension PostgresError {
    /// Before CopyDone a COPY cannot have taken effect.
    static var cancelledCopy: PostgresError {
        PostgresError(
            code: .cancelled, message: "the task was cancelled during COPY, which was given up: nothing was copied",
            outcome: .rejected)
    }
}
