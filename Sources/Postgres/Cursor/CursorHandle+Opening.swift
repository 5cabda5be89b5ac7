import PostgresProtocol

/// Opening a cursor: on a connection that is leased for it, in a transaction of somebody else, or with hold.
extension ConnectionCore {
    /// Rows asked for at once, as the protocol counts them.
    static func fetchCount(_ count: Int) throws(PostgresError) -> Int32 {
        guard count > 0 else {
            throw PostgresError(code: .invalidArgument, message: "a cursor that fetches \(count) rows at a time")
        }
        return Int32(clamping: count)
    }

    func cursorName() -> String { "postgres_swift_\(nextWriter())" }

    /// A portal in a transaction that is open, and whose end is the caller's.
    ///
    /// - Parameter writer: the lease that the transaction has.
    nonisolated(nonsending) func openCursor(
        _ query: PostgresQuery, _ formats: ResultFormats, fetching count: Int, as writer: Int?,
        connection: any AnyObject & Sendable
    ) async throws(PostgresError) -> CursorHandle {
        let count = try ConnectionCore.fetchCount(count)
        let (portal, reply) = try await openPortal(query, formats, .unnamed, begin: false, count, as: writer)
        if let error = reply.error { throw error.naming(query.sql) }
        return CursorHandle(
            self, .portal(portal, writer: writer), first: reply, count: count, connection: connection)
    }

    /// A portal in a transaction of its own, on this connection for as long as it is open. A transaction that was opened by hand
    /// is used and left open.
    nonisolated(nonsending) func openLeasedCursor(
        _ query: PostgresQuery, _ formats: ResultFormats, fetching count: Int, connection: any AnyObject & Sendable
    ) async throws(PostgresError) -> CursorHandle {
        let count = try ConnectionCore.fetchCount(count)
        let lease = try await lease()
        do throws(PostgresError) {
            let begins = try await finish(as: lease) { () throws(PostgresError) in
                try beginAsking(as: lease, blocking: false)
            }.begins()
            for mode in [ConnectionState.Mode.unnamed, .stringsAsText] {
                let (portal, reply) = try await openPortal(query, formats, mode, begin: begins, count, as: lease)
                guard let error = reply.error else {
                    return CursorHandle(
                        self, .leasedPortal(portal, lease: lease, commits: begins), first: reply, count: count,
                        connection: connection)
                }
                if begins, error.outcome != .notSent { await rollBack(lease) }
                if mode == .stringsAsText || !begins || !isWorthTextParameters(reply, query) { throw error }
            }
            throw .internalFailure("a cursor was neither opened nor refused")
        } catch {
            endLease(lease)
            throw error.naming(query.sql)
        }
    }

    nonisolated(nonsending) private func openPortal(
        _ query: PostgresQuery, _ formats: ResultFormats, _ mode: ConnectionState.Mode, begin: Bool, _ count: Int32,
        as writer: Int?
    ) async throws(PostgresError) -> (Portal, Reply) {
        var opening = Opening()
        let name = cursorName()
        let reply = try await finish(as: writer) { () throws(PostgresError) in
            try beginPortal(
                name, query, formats, mode, begin: begin, fetching: count, as: writer, blocking: false, &opening)
        }
        guard let portal = opening.portal else { throw .internalFailure("a portal without a statement") }
        return (portal, opening.rows(reply))
    }

    /// Whatever was sent: the connection is somebody else's next.
    nonisolated(nonsending) func rollBack(_ lease: Int) async {
        do throws(PostgresError) {
            try await runToTheEnd("ROLLBACK", as: lease)
        } catch { closeWithCursor(error) }
    }

    /// A transaction that is open still would become part of what comes next.
    func closeWithCursor(_ error: PostgresError) {
        guard error.code == .timedOut else { return fail(error.with(outcome: .unknown)) }
        close(because: "the end of a cursor could not be sent in time")
    }

    /// A cursor that outlives its transaction (manual, "DECLARE", WITH HOLD): other statements may go between.
    nonisolated(nonsending) func declareHeldCursor(
        _ query: PostgresQuery, _ formats: ResultFormats, fetching count: Int, as writer: Int? = nil,
        connection: any AnyObject & Sendable
    ) async throws(PostgresError) -> CursorHandle {
        let count = try ConnectionCore.fetchCount(count)
        let name = cursorName()
        let declaration = CursorHandle.declaration(of: name, query)
        var reply = try await finish(as: writer) { () throws(PostgresError) in
            try beginUnnamed(declaration, as: writer, blocking: false)
        }
        if isWorthTextParameters(reply, declaration) {
            reply = try await finish(as: writer) { () throws(PostgresError) in
                try beginUnnamed(declaration, mode: .stringsAsText, as: writer, blocking: false)
            }
        }
        let handle = CursorHandle(self, .held(name, formats), first: nil, count: count, connection: connection)
        if let error = reply.error {
            // It may be there all the same, if only the wait for it ended; then the handle's end closes it.
            if error.outcome != .unknown { _ = handle.takeEnd() }
            throw error.naming(declaration.sql)
        }
        return handle
    }

    /// The next rows.
    nonisolated(nonsending) func fetch(
        _ source: CursorHandle.Source, _ count: Int32
    ) async throws(PostgresError) -> Reply {
        try await observed(.fetch, sql: observation == nil ? nil : source.fetchText(count)) {
            () async throws(PostgresError) -> Reply in
            let reply = try await finish(as: source.writer) { () throws(PostgresError) in
                try beginFetch(source, count, blocking: false)
            }
            if let error = reply.error { throw error.naming(source.fetchText(count)) }
            return reply
        }
    }

    func isWorthTextParameters(_ reply: Reply, _ query: PostgresQuery) -> Bool {
        reply.retry == .stringsAsText && query.storage.sealed.pointee.textParameters > 0
    }
}

extension CursorHandle {
    static func declaration(of name: String, _ query: PostgresQuery) -> PostgresQuery {
        "DECLARE \(identifier: name) NO SCROLL CURSOR WITH HOLD FOR \(query)"
    }

    static func fetch(_ count: Int32, from name: String) -> PostgresQuery {
        "FETCH FORWARD \(unsafeSQL: "\(count)") FROM \(identifier: name)"
    }
}

extension Reply {
    /// Of a Sync: whether a cursor has to begin a transaction.
    func begins() throws(PostgresError) -> Bool {
        if let error { throw error }
        switch end.status {
        case .idle: return true
        case .inTransaction: return false
        case .failed, nil:
            throw PostgresError(
                code: .inFailedSqlTransaction, message: "the open transaction has failed, and has to be rolled back")
        }
    }
}
