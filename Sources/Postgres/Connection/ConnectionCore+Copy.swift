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

    nonisolated(nonsending) func queueCopy(
        _ stream: RowStream, _ sql: String, _ direction: Request.Parts, as writer: Int?
    ) async throws(PostgresError) {
        let deadline = waitLimits().deadline
        while true {
            if Task.isCancelled { throw .cancelled(.notSent) }
            switch try beginCopy(stream, sql, direction, as: writer, blocking: false) {
            case .noRoom: try await waitForRoom(for: writer, until: deadline)
            case .queued(_, let flush):
                if flush { pump() }
                return
            case .reads: return
            }
        }
    }

    func queueCopyBlocking(
        _ stream: RowStream, _ sql: String, _ direction: Request.Parts, as writer: Int?
    ) throws(PostgresError) {
        try refuseOnLoop()
        let deadline = waitLimits().deadline
        while true {
            switch try beginCopy(stream, sql, direction, as: writer, blocking: true) {
            case .noRoom: try waitForRoomBlocking(for: writer, until: deadline)
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
        let stream = RowStream(bound: state.withLock { $0.rowByteLimit }, .text(sql))
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

    /// As `copyOut`, for the blocking API.
    func copyOutBlocking(
        _ sql: String, rows columns: PostgresColumns?, as writer: Int?
    ) throws(PostgresError) -> RowStream {
        let stream = RowStream(bound: state.withLock { $0.rowByteLimit }, .text(sql))
        stream.columns = columns
        try queueCopyBlocking(stream, sql, columns == nil ? .copiesOut : [.copiesOut, .streams], as: writer)
        do throws(PostgresError) {
            try beginBlocking(stream)
            try check(stream)
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
}
