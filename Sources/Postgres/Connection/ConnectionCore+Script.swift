import PostgresProtocol
import PostgresTransport
import Synchronization

/// Requests that are not one execution: a script, a preparation, a stream.
extension ConnectionCore {
    /// Queues a request of a single message or two.
    func submit(
        _ collector: InFlight.Collector, blocking: Bool, mayRead: Bool, waiter: InFlight.Waiter = .unclaimed,
        formats: ResultFormats = .text, as writer: Int? = nil,
        _ encode: (inout ConnectionState) throws(PostgresError) -> Request
    ) throws(PostgresError) -> Begun {
        let onLoop = loop.isCurrent
        return try state.withLock { state throws(PostgresError) in
            if let closed = state.closed { throw closed.with(outcome: .notSent) }
            guard state.hasRoom(for: writer) else { return try refuse(&state, writer) }
            let start = state.encodedBytes
            let request = try encode(&state)
            var entry = InFlight(request: request, formats: formats, startOffset: start)
            entry.collector = collector
            if case .flight(let flight) = collector { flight.begin(request, formats) }
            entry.waiter = waiter
            if case .stream(let stream) = collector {
                state.openStream = stream
                stream.number = state.queue.nextNumber
            }
            return enqueue(&state, entry, mayRead: mayRead, blocking: blocking, onLoop: onLoop)
        }
    }

    /// Encodes something else than an execution, and counts its bytes.
    static func counted(
        _ state: inout ConnectionState, sql: String?,
        _ body: (inout ConnectionState) throws(EncodingError) -> Request
    ) throws(PostgresError) -> Request {
        let before = state.pending.count
        do {
            var request = try body(&state)
            state.encodedBytes &+= state.pending.count &- before
            request.rowByteLimit = state.rowByteLimit
            return request
        } catch {
            throw PostgresError(error, sql: sql)
        }
    }

    // MARK: Scripts

    private func scriptText(_ query: PostgresQuery) throws(PostgresError) -> String {
        if let error = query.problem { throw error }
        guard query.parameterCount == 0 else {
            throw PostgresError(
                code: .invalidArgument,
                message: "a script takes no parameters, and this one has \(query.parameterCount)",
                sql: query.sql, hint: "run the statements one by one, or in a pipeline")
        }
        return query.sql
    }

    nonisolated(nonsending) func script(
        _ query: PostgresQuery, as writer: Int? = nil
    ) async throws(PostgresError) -> [Reply] {
        let sql = try scriptText(query)
        let flight = Flight([])
        let reply = try await finish(as: writer) { () throws(PostgresError) -> Begun in
            try submit(.flight(flight), blocking: false, mayRead: false, as: writer) { state throws(PostgresError) in
                try ConnectionCore.counted(&state, sql: sql) { state throws(EncodingError) in
                    try state.outbound.script(sql, into: &state.pending)
                }
            }
        }
        return try scriptReplies(reply, flight, sql)
    }

    func scriptBlocking(_ query: PostgresQuery, as writer: Int? = nil) throws(PostgresError) -> [Reply] {
        let sql = try scriptText(query)
        let flight = Flight([])
        let reply = try finishBlocking(as: writer) { () throws(PostgresError) -> Begun in
            try submit(.flight(flight), blocking: true, mayRead: true, as: writer) { state throws(PostgresError) in
                try ConnectionCore.counted(&state, sql: sql) { state throws(EncodingError) in
                    try state.outbound.script(sql, into: &state.pending)
                }
            }
        }
        return try scriptReplies(reply, flight, sql)
    }

    func scriptReplies(_ reply: Reply, _ flight: Flight, _ sql: String) throws(PostgresError) -> [Reply] {
        if let error = reply.error { throw error.with(sql: sql) }
        if let index = flight.replies.firstIndex(where: { $0.error != nil }), let error = flight.replies[index].error {
            throw error.with(message: "statement \(index + 1) of the script: \(error.message)", sql: sql)
        }
        return flight.replies
    }

    // MARK: Preparing

    nonisolated(nonsending) func prepare(_ query: PostgresQuery) async throws(PostgresError) -> StatementDescription {
        if let error = query.problem { throw error }
        for ownParse in [false, true] {
            let prepared = Lock<PreparedStatement?>(nil)
            let reply = try await finish { () throws(PostgresError) -> Begun in
                try beginPreparing(query, prepared, ownParse: ownParse, blocking: false)
            }
            if let description = try description(reply, prepared, query) { return description }
        }
        throw .internalFailure("a statement was prepared and not described")
    }

    /// What the statement is now: never what a statement of the cache was when it was prepared.
    nonisolated(nonsending) func describe(
        _ query: PostgresQuery, as writer: Int?
    ) async throws(PostgresError) -> StatementDescription {
        let prepared = Lock<PreparedStatement?>(nil)
        let reply = try await finish(as: writer) { () throws(PostgresError) -> Begun in
            try beginPreparing(query, prepared, ownParse: true, blocking: false, as: writer)
        }
        if let description = try description(reply, prepared, query) { return description }
        throw .internalFailure("a statement was prepared and not described")
    }

    func describeBlocking(_ query: PostgresQuery, as writer: Int?) throws(PostgresError) -> StatementDescription {
        let prepared = Lock<PreparedStatement?>(nil)
        let reply = try finishBlocking(as: writer) { () throws(PostgresError) -> Begun in
            try beginPreparing(query, prepared, ownParse: true, blocking: true, as: writer)
        }
        if let description = try description(reply, prepared, query) { return description }
        throw .internalFailure("a statement was prepared and not described")
    }

    func prepareBlocking(_ query: PostgresQuery) throws(PostgresError) -> StatementDescription {
        if let error = query.problem { throw error }
        for ownParse in [false, true] {
            let prepared = Lock<PreparedStatement?>(nil)
            let reply = try finishBlocking { () throws(PostgresError) -> Begun in
                try beginPreparing(query, prepared, ownParse: ownParse, blocking: true)
            }
            if let description = try description(reply, prepared, query) { return description }
        }
        throw .internalFailure("a statement was prepared and not described")
    }

    /// Parse, unless the statement is cached: then Sync alone, which answers when its Parse has. If that Parse was another task's
    /// and failed, a second try with a Parse of its own learns why.
    private func beginPreparing(
        _ query: PostgresQuery, _ prepared: borrowing Lock<PreparedStatement?>, ownParse: Bool, blocking: Bool,
        as writer: Int? = nil
    ) throws(PostgresError) -> Begun {
        try submit(.none, blocking: blocking, mayRead: blocking, as: writer) { state throws(PostgresError) in
            let (statement, parse) = state.statement(for: query, unnamed: ownParse)
            prepared.withLock { $0 = statement }
            return try ConnectionCore.counted(&state, sql: query.sql) { state throws(EncodingError) in
                parse
                    ? try state.outbound.prepare(statement, into: &state.pending)
                    : state.outbound.sync(into: &state.pending)
            }
        }
    }

    private func description(
        _ reply: Reply, _ prepared: borrowing Lock<PreparedStatement?>, _ query: PostgresQuery
    ) throws(PostgresError) -> StatementDescription? {
        if let error = reply.error { throw error.naming(query.sql) }
        // Written before the reply was handed over, under the lock.
        return state.withLock { _ in prepared.withLock { $0?.description } }
    }

    // MARK: Streams

    /// Opens a stream, and waits for the first answer: so what is wrong with the statement is thrown here, and a statement that the
    /// server lost is sent once more.
    nonisolated(nonsending) func stream(
        _ query: PostgresQuery, _ formats: ResultFormats, as writer: Int? = nil
    ) async throws(PostgresError) -> RowStream {
        if let error = query.problem { throw error }
        var mode = ConnectionState.Mode.cached
        let deadline = waitLimits().deadline
        while true {
            if Task.isCancelled { throw .cancelled(.notSent) }
            let stream = RowStream(bound: state.withLock { $0.rowByteLimit }, .query(query))
            switch try beginStream(stream, query, formats, mode, as: writer, blocking: false) {
            case .noRoom:
                try await waitForRoom(for: writer, until: deadline)
                continue
            case .queued(_, let flush): if flush { pump() }
            case .reads: break
            }
            do {
                try await begin(stream)
                return stream
            } catch {
                abandon(stream)
                mode = try modeAfterFailure(stream, error, mode, query)
            }
        }
    }

    func streamBlocking(
        _ query: PostgresQuery, _ formats: ResultFormats, as writer: Int? = nil
    ) throws(PostgresError) -> RowStream {
        if let error = query.problem { throw error }
        var mode = ConnectionState.Mode.cached
        let deadline = waitLimits().deadline
        while true {
            let stream = RowStream(bound: state.withLock { $0.rowByteLimit }, .query(query))
            switch try beginStream(stream, query, formats, mode, as: writer, blocking: true) {
            case .noRoom:
                try waitForRoomBlocking(for: writer, until: deadline)
                continue
            case .queued(_, let flush): if flush { pump() }
            case .reads: break
            }
            do {
                try beginBlocking(stream)
                return stream
            } catch {
                abandon(stream)
                mode = try modeAfterFailure(stream, error, mode, query)
            }
        }
    }

    private func modeAfterFailure(
        _ stream: RowStream, _ error: PostgresError, _ mode: ConnectionState.Mode, _ query: PostgresQuery
    ) throws(PostgresError) -> ConnectionState.Mode {
        let end = state.withLock { _ in stream.end }
        guard let end, end.error != nil, let next = nextMode(after: end, mode, query) else {
            throw error.naming(query.sql)
        }
        return next
    }

    /// Nobody waits for the request itself: its end is the stream's to tell.
    private func beginStream(
        _ stream: RowStream, _ query: PostgresQuery, _ formats: ResultFormats, _ mode: ConnectionState.Mode,
        as writer: Int?, blocking: Bool
    ) throws(PostgresError) -> Begun {
        try submit(
            .stream(stream), blocking: blocking, mayRead: false, waiter: .abandoned, formats: formats, as: writer
        ) {
            state throws(PostgresError) in
            var request = try state.encode(query, formats, mode, sync: true)
            request.parts.insert(.streams)
            request.rowByteLimit = .max
            return request
        }
    }

    // MARK: Waiting, for these

    /// - Parameter limits: nil for those of the task.
    nonisolated(nonsending) func finish(
        as writer: Int? = nil, within limits: WaitLimits? = nil, _ begin: () throws(PostgresError) -> Begun
    ) async throws(PostgresError) -> Reply {
        let limits = limits ?? waitLimits()
        while true {
            if Task.isCancelled { throw .cancelled(.notSent) }
            switch try begin() {
            case .reads(let number): return await wait(for: number, limits)
            case .queued(let number, let flush):
                if flush { pump() }
                return await wait(for: number, limits)
            case .noRoom: try await waitForRoom(for: writer, until: limits.deadline)
            }
        }
    }
}
