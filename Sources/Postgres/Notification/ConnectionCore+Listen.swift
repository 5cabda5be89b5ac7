import PostgresProtocol
import PostgresTransport
import Synchronization

/// LISTEN and UNLISTEN, and the way of a notification to its listeners.
///
/// *Theory of operation.* The server does not count: one UNLISTEN undoes any number of LISTENs. So a listener joins `listeners`
/// in the same step in which its LISTEN enters the queue, and UNLISTEN enters the queue only in a step in which nobody is left
/// for its channel: the order of the queue then is the order of the decisions.
///
/// While anybody listens, the loop reads also when nothing is in flight. It has the role since LISTEN was queued, behind whatever
/// a caller was reading for itself, and no caller takes it from there on.
extension ConnectionCore {
    // MARK: Beginning

    nonisolated(nonsending) func listen(
        to channels: [String], limit: Int
    ) async throws(PostgresError) -> Listener {
        let listener = Listener(channels: channels, limit: limit)
        let queries = try statements("LISTEN ", listener.channels)
        return try await observed(.listen, sql: text(of: queries), statements: queries.count) {
            () async throws(PostgresError) -> Listener in
            var flight = Flight([])
            // What this throws comes before the listener has joined.
            let reply = try await finish { () throws(PostgresError) -> Begun in
                try beginListening(listener, queries, &flight, blocking: false)
            }
            return try confirm(listener, reply, flight, queries)
        }
    }

    func listenBlocking(to channels: [String], limit: Int) throws(PostgresError) -> Listener {
        let listener = Listener(channels: channels, limit: limit)
        let queries = try statements("LISTEN ", listener.channels)
        return try observedBlocking(.listen, sql: text(of: queries), statements: queries.count) {
            () throws(PostgresError) -> Listener in
            var flight = Flight([])
            let reply = try finishBlocking { () throws(PostgresError) -> Begun in
                try beginListening(listener, queries, &flight, blocking: true)
            }
            return try confirm(listener, reply, flight, queries)
        }
    }

    /// For an observer, if there is one.
    private func text(of queries: [PostgresQuery]) -> String? {
        observation == nil ? nil : queries.map(\.sql).joined(separator: "; ")
    }

    private func statements(_ verb: PostgresQuery, _ channels: [String]) throws(PostgresError) -> [PostgresQuery] {
        if channels.isEmpty {
            throw PostgresError(code: .invalidArgument, message: "no channel to listen to was named")
        }
        for channel in channels {
            if let error = Identifier.check(channel) { throw error.with(message: "the channel: \(error.message)") }
        }
        return channels.map { "\(verb)\(identifier: $0)" }
    }

    private func beginListening(
        _ listener: Listener, _ queries: [PostgresQuery], _ flight: inout Flight, blocking: Bool
    ) throws(PostgresError) -> Begun {
        let onLoop = loop.isCurrent
        return try state.withLock { state throws(PostgresError) in
            guard state.hasRoom(for: nil), state.closed == nil else { return try refuse(&state, nil) }
            var entry = try ConnectionCore.encode(queries, &state)
            if case .flight(let encoded) = entry.collector { flight = encoded }
            entry.waiter = .unclaimed
            state.listeners.add(listener)
            return enqueue(&state, entry, mayRead: false, blocking: blocking, onLoop: onLoop)
        }
    }

    /// Statements without a name, so that no channel takes a prepared statement's place; each in a transaction of its own.
    private static func encode(
        _ queries: [PostgresQuery], _ state: inout ConnectionState
    ) throws(PostgresError) -> InFlight {
        let offset = state.encodedBytes
        let start = state.pending.count
        var items: [Flight.Item] = []
        do throws(PostgresError) {
            for query in queries {
                items.append(
                    Flight.Item(request: try state.encode(query, .text, .unnamed, sync: true), formats: .text))
            }
        } catch {
            state.encodedBytes = offset
            state.pending.truncate(to: start)
            throw error
        }
        guard let first = items.first else { throw .internalFailure("no statement to queue") }
        var entry = InFlight(request: first.request, formats: .text, startOffset: offset)
        entry.collector = .flight(Flight(items))
        return entry
    }

    private func confirm(
        _ listener: Listener, _ reply: Reply, _ flight: Flight, _ queries: [PostgresQuery]
    ) throws(PostgresError) -> Listener {
        var error = reply.error
        if error == nil {
            error = flight.replies.lazy.compactMap(\.error).first
            if error == nil, flight.replies.contains(where: { $0.end.status != .idle }) {
                error = PostgresError(
                    code: .unsupported, message: "LISTEN was sent inside an open transaction", outcome: .rejected,
                    hint: "it begins with COMMIT, and a ROLLBACK undoes it: listen outside of transactions")
            }
        }
        guard let error else { return listener }
        endListening(listener)
        throw error.naming(queries.map(\.sql).joined(separator: "; "))
    }

    // MARK: The end

    /// Nobody reads this listener's notifications any more. UNLISTEN is sent at once for channels without another listener, or as
    /// soon as whoever has the connection for itself is done.
    func endListening(_ listener: Listener) {
        let begun = state.withLock { state -> Begun? in
            state.listeners.remove(listener)
            return beginUnlistening(listener.channels, &state, .abandoned)
        }
        switch begun {
        case .queued(_, let flush): if flush { pump() }
        case .noRoom: Task.detached { await self.unlisten(listener.channels) }
        case .reads, nil: break
        }
    }

    private func unlisten(_ channels: [String]) async {
        // What it throws says that there is nothing to do any more.
        _ = try? await finishLater { () throws(PostgresError) -> Begun in
            let begun = state.withLock { state in beginUnlistening(channels, &state, .unclaimed) }
            guard let begun else { throw .cancelled(.notSent) }
            return begun
        }
    }

    private func beginUnlistening(
        _ channels: [String], _ state: inout ConnectionState, _ waiter: InFlight.Waiter
    ) -> Begun? {
        let left = channels.filter { !state.listeners.contains($0) }
        guard state.closed == nil, !left.isEmpty else { return nil }
        guard state.hasRoom(for: nil) else { return .noRoom }
        guard let queries = try? statements("UNLISTEN ", left),
            var entry = try? ConnectionCore.encode(queries, &state)
        else { return nil }
        entry.waiter = waiter
        return enqueue(&state, entry, mayRead: false, blocking: false, onLoop: loop.isCurrent)
    }

    // MARK: Notifications

    /// The reader got one.
    func notified(_ message: NotificationResponse) {
        let waiters = state.withLock { state -> [InFlight.Waiter] in
            let listeners = state.listeners.listeners(to: message.channel)
            if listeners.isEmpty { return [] }
            let notification = PostgresNotification(
                channel: message.channel, payload: message.payload,
                backendProcessID: Int32(bitPattern: message.processID))
            return listeners.map { $0.add(notification) }
        }
        for waiter in waiters { resume(waiter, Reply()) }
    }

    nonisolated(nonsending) func nextNotification(
        _ listener: Listener
    ) async throws(PostgresError) -> PostgresNotification {
        var deadline: Deadline?
        while true {
            if Task.isCancelled {
                throw PostgresError(code: .cancelled, message: "the task was cancelled while it waited to be notified")
            }
            if let notification = try takeNotification(listener) { return notification }
            if deadline?.hasPassed == true { throw .notNotified }
            let until = deadline ?? PostgresScope.current?.deadline ?? .never
            deadline = until
            var timer: EventLoop.Timer?
            await withTaskCancellationHandler {
                _ = await withUnsafeContinuation { (continuation: UnsafeContinuation<Reply, Never>) in
                    guard setConsumer(of: listener, .continuation(continuation)) else {
                        return continuation.resume(returning: Reply())
                    }
                    if !until.isNever { timer = loop.schedule(at: until) { self.wakeConsumer(of: listener) } }
                }
            } onCancel: {
                wakeConsumer(of: listener)
            }
            if let timer { loop.cancel(timer) }
        }
    }

    /// - Returns: nil if none came in time.
    func nextNotificationBlocking(
        _ listener: Listener, timeout: Duration?
    ) throws(PostgresError) -> PostgresNotification? {
        try refuseOnLoop()
        let scope = PostgresScope.current?.deadline ?? .never
        let deadline = min(timeout.map { Deadline(after: $0) } ?? .never, scope)
        while true {
            if let notification = try takeNotification(listener) { return notification }
            if deadline.hasPassed {
                if timeout == nil || scope == deadline { throw .notNotified }
                return nil
            }
            let thread = BlockedThread()
            guard setConsumer(of: listener, .thread(thread)) else { continue }
            let timer = deadline.isNever ? nil : loop.schedule(at: deadline) { self.wakeConsumer(of: listener) }
            _ = thread.wait()
            if let timer { _ = loop.cancel(timer) }
        }
    }

    private func takeNotification(_ listener: Listener) throws(PostgresError) -> PostgresNotification? {
        try state.withLock { state throws(PostgresError) in
            if let notification = listener.takeFirst() { return notification }
            if let error = listener.error ?? state.closed { throw error }
            guard case .unclaimed = listener.consumer else {
                throw PostgresError(
                    code: .unsupported, message: "another task is waiting for these notifications",
                    hint: "call listen once for each consumer")
            }
            return nil
        }
    }

    /// False if there is something to take already.
    private func setConsumer(of listener: Listener, _ waiter: InFlight.Waiter) -> Bool {
        state.withLock { state in
            guard !listener.hasSomething, state.closed == nil, !waiter.isCancelledTask else { return false }
            guard case .unclaimed = listener.consumer else { return false }
            listener.consumer = waiter
            return true
        }
    }

    private func wakeConsumer(of listener: Listener) {
        resume(state.withLock { _ in listener.takeConsumer() }, Reply())
    }
}

extension PostgresError {
    fileprivate static var notNotified: PostgresError {
        PostgresError(code: .timedOut, message: "the deadline passed before there was a notification")
    }
}
