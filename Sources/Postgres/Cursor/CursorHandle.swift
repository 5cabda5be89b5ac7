import PostgresProtocol
import PostgresTransport
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
    private let state: Lock<State>

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
        state = Lock(.open(first: first))
    }

    deinit { leave() }

    /// Nobody reads it any more.
    ///
    /// What ends it is in the queue when this returns, and the connection is let go: a pool that gets it back sees that something is
    /// in flight, and nobody who keeps it.
    private func leave() {
        guard takeEnd() else { return }
        source.lease.map { core.noteLeaving($0) }
        do throws(PostgresError) {
            if let number = core.launch(try core.beginEnd(source, blocking: false)) {
                awaitEnd(number)
            } else {
                // The one case in which it is not: then the connection is kept.
                Task.detached { [core, source, connection] in
                    _ = await CursorHandle.end(core, source, failed: false)
                    withExtendedLifetime(connection) {}
                }
            }
        } catch {
            _ = CursorHandle.settleUnsent(core, source, error)
            source.lease.map { core.endLease($0) }
        }
    }

    /// In a task, because nobody waits for what was sent as the end; of a lease, it has to be known how it went.
    private func awaitEnd(_ number: Int) {
        Task.detached { [core, source] in
            defer { source.lease.map { core.endLease($0) } }
            let (reply, _) = await core.waitForEnd(of: number, until: core.endDeadline(), source.lastResort)
            if source.mayBeOpen(after: reply), let lease = source.lease { await core.rollBack(lease) }
        }
    }

    /// What came with the opening, before it is read.
    var firstRows: Reply? {
        state.withLock { state in if case .open(let first) = state { first } else { nil } }
    }

    /// An iterator, whose copies are one reader. The cursor ends with it: its task may end then, and whoever has the same address
    /// next must not be taken for it.
    @usableFromInline
    final class Reader: Sendable {
        @usableFromInline let handle: CursorHandle

        @usableFromInline
        init(_ handle: CursorHandle) { self.handle = handle }

        deinit { handle.leave() }
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

    /// Cancelled or not, and past the caller's deadline: the connection is somebody else's next. If the end of its own transaction
    /// cannot be sent, or is not answered in time, the connection is closed, for that transaction would become part of what comes
    /// next (`Patience`).
    nonisolated(nonsending) static func end(
        _ core: ConnectionCore, _ source: Source, failed: Bool
    ) async -> PostgresError? {
        defer { source.lease.map { core.endLease($0) } }
        guard source.needsEnd(failed: failed) else { return nil }
        if failed, let lease = source.lease {
            await core.rollBack(lease)
            return nil
        }
        do throws(PostgresError) {
            let reply = try await core.finishToTheEnd(as: source.writer, source.lastResort) {
                () throws(PostgresError) in try core.beginEnd(source, blocking: false)
            }
            if source.mayBeOpen(after: reply), let lease = source.lease { await core.rollBack(lease) }
            return reply.error
        } catch { return settleUnsent(core, source, error) }
    }

    /// After an end that could not be sent.
    ///
    /// - Returns: what its caller is to be told.
    static func settleUnsent(_ core: ConnectionCore, _ source: Source, _ error: PostgresError) -> PostgresError? {
        guard source.needsEnd(after: error) else { return nil }
        if source.isClosedLater(after: error) {
            Task.detached { await CursorHandle.closeLater(core, source) }
            return nil
        }
        core.closeWithCursor(error)
        return error
    }

    /// Somebody else has the connection for itself, whom a cursor that belongs to no transaction does not concern: it is closed
    /// behind that, however long it takes.
    static func closeLater(_ core: ConnectionCore, _ source: Source) async {
        // What it throws says that there is nothing to close any more.
        _ = try? await core.finishLater(as: source.writer) { () throws(PostgresError) in
            try core.beginEnd(source, blocking: false)
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

    /// What happens when the end is not answered in time. Where the lease ends with the cursor, what was sent must have ended first;
    /// of the others it is enough that it was sent.
    var lastResort: LastResort { lease == nil ? .leaves : .asksServer }

    /// A COMMIT that is cancelled before it has begun leaves its transaction open, and so does one of which nothing is known.
    func mayBeOpen(after reply: Reply) -> Bool {
        if case .leasedPortal(_, _, commits: true) = self {
            reply.error != nil && reply.end.status != .idle
        } else {
            false
        }
    }

    /// Whether the end waits in a task of its own for whoever has the connection: for too long to be waited for, or it is the caller.
    func isClosedLater(after error: PostgresError) -> Bool {
        lease == nil && (error.code == .timedOut || error.code == .unsupported)
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

    /// The end of a cursor that has not failed, or of one whose failure ended no transaction of its own.
    func beginEnd(_ source: CursorHandle.Source, blocking: Bool) throws(PostgresError) -> Begun {
        switch source {
        case .portal(let portal, _), .leasedPortal(let portal, _, commits: false):
            try beginClosing(portal, as: source.writer, blocking: blocking)
        case .leasedPortal: try beginUnnamed("COMMIT", as: source.writer, blocking: blocking)
        case .held(let name, _):
            try beginUnnamed("CLOSE \(identifier: name)", as: nil, blocking: blocking)
        }
    }
}
