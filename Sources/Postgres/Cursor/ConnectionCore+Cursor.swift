import PostgresProtocol
import PostgresTransport
import Synchronization

/// The requests that a cursor consists of. Each takes the number of the lease, or of the transaction, that it belongs to.
extension ConnectionCore {
    /// An open portal (manual, "Extended Query"): a statement with its parameters, which gives its rows in pieces until the
    /// transaction ends.
    struct Portal: Sendable {
        let name: String
        let statement: PreparedStatement
        let formats: ResultFormats
    }

    /// Binds a portal and asks for its first rows; with `begin`, in a transaction that begins with it.
    func beginPortal(
        _ name: String, _ query: PostgresQuery, _ formats: ResultFormats, _ mode: ConnectionState.Mode, begin: Bool,
        fetching count: Int32, as writer: Int?, blocking: Bool, _ opening: inout Opening
    ) throws(PostgresError) -> Begun {
        let onLoop = loop.isCurrent
        return try state.withLock { state throws(PostgresError) in
            guard state.hasRoom(for: writer), state.closed == nil else { return try refuse(&state, writer) }
            if let problem = state.problem(of: query) { throw problem }
            let offset = state.encodedBytes
            let start = state.pending.count
            var items: [Flight.Item] = []
            do throws(PostgresError) {
                if begin {
                    items.append(
                        Flight.Item(request: try state.encode("BEGIN", .text, .unnamed, sync: false), formats: .text))
                }
                let request = try state.open(name, query, formats, mode, maximumRows: count)
                items.append(Flight.Item(request: request, formats: formats))
                opening.portal = request.statement.map { Portal(name: name, statement: $0, formats: formats) }
            } catch {
                state.encodedBytes = offset
                state.pending.truncate(to: start)
                throw error
            }
            guard let first = items.first else { throw .internalFailure("no request to queue") }
            let flight = Flight(items)
            opening.flight = flight
            var entry = InFlight(request: first.request, formats: first.formats, startOffset: offset)
            entry.collector = .flight(flight)
            return enqueue(&state, entry, mayRead: blocking, blocking: blocking, onLoop: onLoop)
        }
    }

    /// What the opening of a portal leaves for its caller.
    struct Opening {
        var portal: Portal?
        var flight: Flight?

        /// The first rows.
        ///
        /// - Parameter reply: of the flight as a whole; if it failed, the flight is not the caller's to look at.
        func rows(_ reply: Reply) -> Reply {
            if reply.error != nil { return reply }
            let replies = flight?.replies ?? []
            // The error of a BEGIN says more than the portal's, which was skipped for it.
            return replies.first { $0.error != nil } ?? replies.last
                ?? Reply(error: .internalFailure("a portal was opened without a reply"))
        }
    }

    func beginFetch(
        _ portal: Portal, _ count: Int32, as writer: Int?, blocking: Bool
    ) throws(PostgresError) -> Begun {
        try submit(.none, blocking: blocking, mayRead: blocking, formats: portal.formats, as: writer) {
            state throws(PostgresError) in
            try ConnectionCore.counted(&state, sql: portal.statement.key.text) { state throws(EncodingError) in
                try state.outbound.fetch(
                    portal: portal.name, portal.statement, maximumRows: count, into: &state.pending)
            }
        }
    }

    func beginClosing(_ portal: Portal, as writer: Int?, blocking: Bool) throws(PostgresError) -> Begun {
        try submit(.none, blocking: blocking, mayRead: blocking, as: writer) { state throws(PostgresError) in
            try ConnectionCore.counted(&state, sql: nil) { state throws(EncodingError) in
                try state.outbound.close(portal: portal.name, into: &state.pending)
            }
        }
    }

    /// A Sync alone: its ReadyForQuery tells whether a transaction is open.
    func beginAsking(as writer: Int?, blocking: Bool) throws(PostgresError) -> Begun {
        try submit(.none, blocking: blocking, mayRead: blocking, as: writer) { state throws(PostgresError) in
            try ConnectionCore.counted(&state, sql: nil) { state in state.outbound.sync(into: &state.pending) }
        }
    }

    /// A statement without a name, in a Sync group of its own.
    func beginUnnamed(
        _ query: PostgresQuery, _ formats: ResultFormats = .text, mode: ConnectionState.Mode = .unnamed,
        as writer: Int?, blocking: Bool
    ) throws(PostgresError) -> Begun {
        if let problem = query.problem { throw problem }
        return try begin(query, formats, mode, as: writer, mayRead: blocking, blocking: blocking)
    }
}

extension ConnectionState {
    /// Writes the opening of a portal into `pending`.
    fileprivate mutating func open(
        _ portal: String, _ query: PostgresQuery, _ formats: ResultFormats, _ mode: Mode, maximumRows: Int32
    ) throws(PostgresError) -> Request {
        let known = known.find(query)
        if mode == .stringsAsText, !known.typesStringsAsText { known.typeStringsAsText() }
        let (statement, _) = statement(for: query, unnamed: true)
        let storage = query.storage
        let start = pending.count
        do {
            var request = try outbound.open(
                portal: portal, statement, maximumRows: maximumRows,
                Outbound.Parameters(
                    count: storage.sealed.pointee.parameters, formats: known.parameterFormats, cells: storage.cells),
                formats.codes, into: &pending)
            encodedBytes &+= pending.count &- start
            request.rowByteLimit = rowByteLimit
            return request
        } catch {
            throw PostgresError(error, sql: query.sql)
        }
    }
}
