import PostgresProtocol

/// The rows of a statement that the server keeps, for the blocking API; see ``PostgresCursor``.
public struct PostgresBlockingCursor<Row> {
    private let handle: CursorHandle
    private var cursor = RowCursor(Reply())
    private let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row

    init(handle: CursorHandle, decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row) {
        self.handle = handle
        self.decode = decode
    }

    /// The next row; nil behind the last.
    public mutating func next() throws(PostgresError) -> Row? {
        while true {
            if cursor.advance() { return try decode(cursor.row) }
            cursor = RowCursor(Reply())
            guard let batch = try handle.nextBatchBlocking() else { return nil }
            cursor = batch
        }
    }

    /// As ``PostgresCursor/close()``.
    public func close() throws(PostgresError) { try handle.closeBlocking() }
}

extension PostgresBlockingConnection {
    /// As ``PostgresConnection/cursor(_:fetching:withHold:)``. Without hold, any other statement on this connection waits until
    /// the cursor has ended; of the thread that reads it, it is an error at once.
    public func cursor<Row>(
        _ query: PostgresQuery.Typed<Row>, fetching count: Int = 1000, withHold: Bool = false
    ) throws(PostgresError) -> PostgresBlockingCursor<Row> {
        let handle = try core.observedBlocking(.cursor, query: query.query) {
            () throws(PostgresError) -> CursorHandle in
            withHold
                ? try core.declareHeldCursorBlocking(query.query, query.formats, fetching: count, connection: self)
                : try core.openLeasedCursorBlocking(query.query, query.formats, fetching: count, connection: self)
        }
        return PostgresBlockingCursor(handle: handle, decode: query.decode)
    }
}

extension PostgresBlockingTransaction {
    /// Opens a portal in this transaction: as ``PostgresTransaction/cursor(_:fetching:)``. Other statements of the transaction may
    /// go between the batches.
    public func cursor<Row>(
        _ query: PostgresQuery.Typed<Row>, fetching count: Int = 1000
    ) throws(PostgresError) -> PostgresBlockingCursor<Row> {
        do {
            let handle = try flow.core.observedBlocking(.cursor, query: query.query) {
                () throws(PostgresError) -> CursorHandle in
                try flow.openBlocking(as: writer)
                // How it ends, its consumer will know.
                flow.noteFailure()
                return try flow.core.openCursorBlocking(
                    query.query, query.formats, fetching: count, as: writer, connection: flow.connection)
            }
            return PostgresBlockingCursor(handle: handle, decode: query.decode)
        } catch { throw flow.noted(error) }
    }
}

extension CursorHandle {
    func nextBatchBlocking() throws(PostgresError) -> RowCursor? {
        noteReader()
        let reply: Reply
        switch try step() {
        case .end: return nil
        case .batch(let first): reply = first
        case .fetch:
            do throws(PostgresError) {
                reply = try core.fetchBlocking(source, count)
            } catch {
                if takeEnd() { _ = CursorHandle.endBlocking(core, source, failed: true) }
                throw error
            }
        }
        if settle(isLast: isLast(reply)), let error = CursorHandle.endBlocking(core, source, failed: false) {
            throw error
        }
        return RowCursor(reply)
    }

    func closeBlocking() throws(PostgresError) {
        guard takeEnd(), let error = CursorHandle.endBlocking(core, source, failed: false) else { return }
        throw error
    }

    private static func endBlocking(_ core: ConnectionCore, _ source: Source, failed: Bool) -> PostgresError? {
        defer { source.lease.map { core.endLease($0) } }
        guard source.needsEnd(failed: failed) else { return nil }
        if failed, let lease = source.lease {
            core.rollBackBlocking(lease)
            return nil
        }
        do throws(PostgresError) {
            let reply = try core.finishBlocking(as: source.writer, within: core.endLimits()) {
                () throws(PostgresError) in try core.beginEnd(source, blocking: true)
            }
            if source.mayBeOpen(after: reply), let lease = source.lease { core.rollBackBlocking(lease) }
            return reply.error
        } catch { return settleUnsent(core, source, error) }
    }
}

extension ConnectionCore {
    func openCursorBlocking(
        _ query: PostgresQuery, _ formats: ResultFormats, fetching count: Int, as writer: Int?,
        connection: any AnyObject & Sendable
    ) throws(PostgresError) -> CursorHandle {
        let count = try ConnectionCore.fetchCount(count)
        var opening = Opening()
        let name = cursorName()
        let whole = try finishBlocking(as: writer) { () throws(PostgresError) in
            try beginPortal(
                name, query, formats, .unnamed, begin: false, fetching: count, as: writer, blocking: true, &opening)
        }
        let reply = opening.rows(whole)
        if let error = reply.error { throw error.naming(query.sql) }
        guard let portal = opening.portal else { throw .internalFailure("a portal without a statement") }
        return CursorHandle(
            self, .portal(portal, writer: writer), first: reply, count: count, connection: connection)
    }

    func openLeasedCursorBlocking(
        _ query: PostgresQuery, _ formats: ResultFormats, fetching count: Int, connection: any AnyObject & Sendable
    ) throws(PostgresError) -> CursorHandle {
        let count = try ConnectionCore.fetchCount(count)
        let lease = try leaseBlocking()
        do throws(PostgresError) {
            let begins = try finishBlocking(as: lease) { () throws(PostgresError) in
                try beginAsking(as: lease, blocking: true)
            }.begins()
            for mode in [ConnectionState.Mode.unnamed, .stringsAsText] {
                var opening = Opening()
                let name = cursorName()
                let whole = try finishBlocking(as: lease) { () throws(PostgresError) in
                    try beginPortal(
                        name, query, formats, mode, begin: begins, fetching: count, as: lease, blocking: true, &opening)
                }
                let reply = opening.rows(whole)
                if let portal = opening.portal, reply.error == nil {
                    return CursorHandle(
                        self, .leasedPortal(portal, lease: lease, commits: begins), first: reply, count: count,
                        connection: connection)
                }
                if begins { rollBackBlocking(lease) }
                if mode == .stringsAsText || !begins || !isWorthTextParameters(reply, query), let error = reply.error {
                    throw error
                }
            }
            throw .internalFailure("a cursor was neither opened nor refused")
        } catch {
            endLease(lease)
            throw error.naming(query.sql)
        }
    }

    fileprivate func rollBackBlocking(_ lease: Int) {
        do throws(PostgresError) {
            try runToTheEndBlocking("ROLLBACK", as: lease)
        } catch { closeWithCursor(error) }
    }

    func declareHeldCursorBlocking(
        _ query: PostgresQuery, _ formats: ResultFormats, fetching count: Int, as writer: Int? = nil,
        connection: any AnyObject & Sendable
    ) throws(PostgresError) -> CursorHandle {
        let count = try ConnectionCore.fetchCount(count)
        let name = cursorName()
        let declaration = CursorHandle.declaration(of: name, query)
        var reply = try finishBlocking(as: writer) { () throws(PostgresError) in
            try beginUnnamed(declaration, as: writer, blocking: true)
        }
        if isWorthTextParameters(reply, declaration) {
            reply = try finishBlocking(as: writer) { () throws(PostgresError) in
                try beginUnnamed(declaration, mode: .stringsAsText, as: writer, blocking: true)
            }
        }
        let handle = CursorHandle(self, .held(name, formats), first: nil, count: count, connection: connection)
        if let error = reply.error {
            // As in the asynchronous form.
            if error.outcome != .unknown { _ = handle.takeEnd() }
            throw error.naming(declaration.sql)
        }
        return handle
    }

    fileprivate func fetchBlocking(_ source: CursorHandle.Source, _ count: Int32) throws(PostgresError) -> Reply {
        try observedBlocking(.fetch, sql: observation == nil ? nil : source.fetchText(count)) {
            () throws(PostgresError) -> Reply in
            let reply = try finishBlocking(as: source.writer) { () throws(PostgresError) in
                try beginFetch(source, count, blocking: true)
            }
            if let error = reply.error { throw error.naming(source.fetchText(count)) }
            return reply
        }
    }
}
