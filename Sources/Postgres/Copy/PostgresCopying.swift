import PostgresProtocol

/// What can run a COPY: a connection, alone or inside of a transaction.
///
/// While rows are copied in, the connection is taken: other tasks' statements wait until it is over. A statement that the source
/// of a COPY runs on the same connection would wait for itself, and is an error; give it another one.
public protocol PostgresCopying: PostgresExecutor {
    /// Where its COPYs go.
    var copyPort: PostgresCopyPort { get }
}

/// A connection as COPY sees it. It has no use but to be handed out by ``PostgresCopying``.
public struct PostgresCopyPort: Sendable {
    let core: ConnectionCore
    /// The lease that the connection is held by already; nil to take one for each COPY.
    let writer: Int?
    // Keeps the connection from being closed under a stream.
    let connection: any AnyObject & Sendable
    /// The transaction that it is in, which may not have begun yet.
    var flow: TransactionFlow?
}

extension PostgresConnection: PostgresCopying {
    public var copyPort: PostgresCopyPort { PostgresCopyPort(core: core, writer: nil, connection: self) }
}

extension PostgresTransaction: PostgresCopying {
    public var copyPort: PostgresCopyPort {
        PostgresCopyPort(core: flow.core, writer: writer, connection: flow.connection, flow: flow)
    }
}

extension PostgresCopyPort {
    /// BEGIN goes before a COPY in a round trip of its own: how the COPY ends, only the end of the transaction tells.
    nonisolated(nonsending) func open() async throws(PostgresError) {
        guard let flow, let writer else { return }
        try await flow.open(as: writer)
        flow.noteFailure()
    }

    nonisolated(nonsending) func lease() async throws(PostgresError) -> Int {
        try await open()
        guard let writer else { return try await core.lease() }
        // Not even the transaction's own statements may come in between.
        let own = core.nextWriter()
        guard core.moveLease(from: writer, to: own) else { throw .leaseEnded }
        return own
    }

    func endLease(_ number: Int) {
        if let writer {
            _ = core.moveLease(from: number, to: writer)
        } else {
            core.endLease(number)
        }
    }

    // MARK: Typed columns

    nonisolated(nonsending) func check(
        _ columns: [PostgresCopyColumn], of query: PostgresQuery, as lease: Int
    ) async throws(PostgresError) {
        let check = try CopyColumnCheck(columns, try await core.describe(query, as: lease))
        if check.textColumns.isEmpty { return }
        let typed = check.catalogQuery.as(UInt32.self)
        let reply = try await core.perform(typed.query, typed.formats, as: lease)
        try check.check(textTypes: try PostgresRows(reply: reply, decode: typed.decode).all())
    }
}

extension ConnectionCore {
    func checkBlocking(
        _ columns: [PostgresCopyColumn], of query: PostgresQuery, as lease: Int
    ) throws(PostgresError) {
        let check = try CopyColumnCheck(columns, try describeBlocking(query, as: lease))
        if check.textColumns.isEmpty { return }
        let typed = check.catalogQuery.as(UInt32.self)
        let reply = try performBlocking(typed.query, typed.formats, as: lease)
        try check.check(textTypes: try PostgresRows(reply: reply, decode: typed.decode).all())
    }
}
