import PostgresProtocol
import Synchronization

/// A cursor at the server: asks for its rows, a batch at a time, and ends it exactly once.
///
/// *Theory of operation.* `state` is *open*, then *busy* while somebody waits for a batch, and *ended* for good. Whoever brings
/// it to *ended* (the batch that is the last, a failed one, `close`, or the last reference) sends what ends it at the server.
/// That comes behind a batch which is on its way in the queue, so that nothing has to be waited for.
@usableFromInline
final class CursorHandle: Sendable {
    let core: ConnectionCore
    let source: Source
    let count: Int32
    // Keeps the connection from being closed under the cursor.
    private let connection: any AnyObject & Sendable
    private let state: Mutex<State>

    /// What there is at the server, and what of it is the cursor's own.
    enum Source: Sendable {
        /// A portal in a transaction of somebody else, who has the lease `writer`.
        case portal(ConnectionCore.Portal, writer: Int?)
        /// A portal on a leased connection; `commits` unless the transaction was there before.
        case leasedPortal(ConnectionCore.Portal, lease: Int, commits: Bool)
        /// A cursor of SQL that belongs to no transaction, and its row formats.
        case held(String, ResultFormats)
    }

    enum State: Sendable {
        /// The first rows come with the opening.
        case open(first: Reply?)
        case busy
        case ended
    }

    init(
        _ core: ConnectionCore, _ source: Source, first: Reply?, count: Int32,
        connection: any AnyObject & Sendable
    ) {
        self.core = core
        self.source = source
        self.count = count
        self.connection = connection
        state = Mutex(.open(first: first))
    }

    deinit {
        guard takeEnd() else { return }
        // Nobody can read on, and whoever comes waits for the end that is sent here.
        source.lease.map { core.forgetUser(of: $0) }
        // The task keeps the connection until the server has been told.
        Task.detached { [core, source, connection] in
            _ = await CursorHandle.end(core, source, failed: false)
            withExtendedLifetime(connection) {}
        }
    }

    /// What came with the opening, before it is read.
    var firstRows: Reply? {
        state.withLock { state in if case .open(let first) = state { first } else { nil } }
    }

    // MARK: Batches

    enum Step {
        case batch(Reply)
        case fetch
        case end
    }

    func step() throws(PostgresError) -> Step {
        try state.withLock { state throws(PostgresError) in
            switch state {
            case .open(let first):
                state = .busy
                return first.map { .batch($0) } ?? .fetch
            case .busy:
                throw PostgresError(
                    code: .unsupported, message: "the cursor is being read by another task",
                    hint: "iterate a cursor once, in one task")
            case .ended: return .end
            }
        }
    }

    /// Whether a batch was the last. A portal says so; a cursor of SQL gives fewer rows than it was asked for.
    func isLast(_ reply: Reply) -> Bool {
        switch source {
        case .portal, .leasedPortal: reply.end.tag != 0 || reply.rowCount == 0
        case .held: reply.rowCount < Int(count)
        }
    }

    /// After a batch.
    ///
    /// - Returns: whether the caller is to end the cursor.
    func settle(isLast: Bool) -> Bool {
        state.withLock { state in
            guard case .busy = state else { return false }
            state = isLast ? .ended : .open(first: nil)
            return isLast
        }
    }

    /// Whether the caller is the one to end it.
    func takeEnd() -> Bool {
        state.withLock { state in
            if case .ended = state { return false }
            state = .ended
            return true
        }
    }

    /// Until the cursor ends, whoever reads it cannot wait for the connection.
    func noteReader() {
        if let lease = source.lease { core.noteUser(of: lease, .cursor) }
    }

    @usableFromInline
    nonisolated(nonsending) func nextBatch() async throws(PostgresError) -> RowCursor? {
        noteReader()
        let reply: Reply
        switch try step() {
        case .end: return nil
        case .batch(let first): reply = first
        case .fetch:
            do throws(PostgresError) {
                reply = try await core.fetch(source, count)
            } catch {
                if takeEnd() { _ = await CursorHandle.end(core, source, failed: true) }
                throw error
            }
        }
        if settle(isLast: isLast(reply)), let error = await CursorHandle.end(core, source, failed: false) {
            throw error
        }
        return RowCursor(reply)
    }

    nonisolated(nonsending) func close() async throws(PostgresError) {
        guard takeEnd(), let error = await CursorHandle.end(core, source, failed: false) else { return }
        throw error
    }

    /// In a task of its own, which neither cancellation nor the caller's deadline reaches: the connection is somebody else's next. If
    /// the end cannot be sent, the connection is closed, for its transaction would become part of what comes next. But it has no
    /// more time than `endDeadline` says.
    nonisolated(nonsending) static func end(
        _ core: ConnectionCore, _ source: Source, failed: Bool
    ) async -> PostgresError? {
        let limits = core.endLimits()
        return await Task.detached { () -> PostgresError? in
            defer { source.lease.map { core.endLease($0) } }
            guard source.needsEnd(failed: failed) else { return nil }
            do throws(PostgresError) {
                return try await core.finish(as: source.writer, within: limits) { () throws(PostgresError) in
                    try core.beginEnd(source, failed: failed, blocking: false)
                }.error
            } catch {
                guard source.needsEnd(after: error) else { return nil }
                if source.lease == nil, error.code == .timedOut {
                    Task.detached { await CursorHandle.closeLater(core, source) }
                    return nil
                }
                core.fail(error.with(outcome: .unknown))
                return error
            }
        }.value
    }

    /// Somebody else has the connection for itself, whom a cursor that belongs to no transaction does not concern: it is closed
    /// behind that.
    static func closeLater(_ core: ConnectionCore, _ source: Source) async {
        // What it throws says that there is nothing to close any more.
        _ = try? await core.finish(as: source.writer) { () throws(PostgresError) in
            try core.beginEnd(source, failed: false, blocking: false)
        }
    }
}

extension CursorHandle.Source {
    /// The number that its requests are sent with.
    var writer: Int? {
        switch self {
        case .portal(_, let writer): writer
        case .leasedPortal(_, let lease, _): lease
        case .held: nil
        }
    }

    /// The text of the statement that gives the next rows.
    func fetchText(_ count: Int32) -> String {
        switch self {
        case .portal(let portal, _), .leasedPortal(let portal, _, _): portal.statement.key.text
        case .held(let name, _): CursorHandle.fetch(count, from: name).sql
        }
    }

    /// The lease that ends with the cursor.
    var lease: Int? {
        if case .leasedPortal(_, let lease, _) = self { lease } else { nil }
    }

    /// Whether the server has to be told of the end. A failed transaction takes its portals with it.
    func needsEnd(failed: Bool) -> Bool {
        switch self {
        case .portal, .leasedPortal(_, _, commits: false): !failed
        case .leasedPortal, .held: true
        }
    }

    /// A transaction that has ended took its portals with it.
    func needsEnd(after error: PostgresError) -> Bool {
        if case .portal = self { error.code != .transactionEnded } else { true }
    }
}

extension ConnectionCore {
    func beginFetch(
        _ source: CursorHandle.Source, _ count: Int32, blocking: Bool
    ) throws(PostgresError) -> Begun {
        switch source {
        case .portal(let portal, _), .leasedPortal(let portal, _, _):
            try beginFetch(portal, count, as: source.writer, blocking: blocking)
        case .held(let name, let formats):
            try beginUnnamed(CursorHandle.fetch(count, from: name), formats, as: nil, blocking: blocking)
        }
    }

    func beginEnd(
        _ source: CursorHandle.Source, failed: Bool, blocking: Bool
    ) throws(PostgresError) -> Begun {
        switch source {
        case .portal(let portal, _), .leasedPortal(let portal, _, commits: false):
            try beginClosing(portal, as: source.writer, blocking: blocking)
        case .leasedPortal:
            try beginUnnamed(failed ? "ROLLBACK" : "COMMIT", as: source.writer, blocking: blocking)
        case .held(let name, _):
            try beginUnnamed("CLOSE \(identifier: name)", as: nil, blocking: blocking)
        }
    }
}
