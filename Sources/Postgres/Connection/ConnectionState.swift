import PostgresProtocol
import PostgresTransport

/// Everything of a connection that lies under its lock: the outgoing half, the queue, and who plays which role.
///
/// Only bookkeeping: it calls nothing that waits, resumes nobody, and runs no code of users.
struct ConnectionState: ~Copyable, Sendable {
    /// Encoded and not yet taken by the sender.
    var pending = ByteWriter(capacity: 8192)
    var outbound: Outbound
    var known: KnownQueries
    var queue = RequestQueue<InFlight>()
    /// Replies that came before their callers suspended.
    var parked: [Int: Reply] = [:]
    var reader = Reader.nobody
    var policy = ReaderPolicy()
    /// The loop's thread is inside the reading part.
    var loopReads = false
    /// While it does: whether it may have received bytes that belong to no reply that was handed out.
    var loopMayHold = false
    /// The loop reads, but not before its pause is over: there will be more to read at once.
    var isPaused = false
    /// So many reads go without a pause, because one was for nothing.
    var readsWithoutPause = 0
    /// Somebody holds the sender role, perhaps waiting for the socket to be writable.
    var sending = false
    /// The sender failed and keeps its role; the reader is about to find the end of the connection.
    var isSenderDead = false
    /// close() found another thread sending: that one still sends what is pending, up to the Terminate, and then the loop ends the
    /// connection. `closed` is set already, but nobody has been answered yet.
    var isLeaving = false
    var turnScheduled = false
    var wantsWrite = false
    var armed: Interest = []
    /// Bytes encoded, and bytes that may have been sent, since the connection began. Those that the sender is about to send count
    /// as sent: a reply, or the end, can come before it has said so.
    var encodedBytes = 0
    var sentBytes = 0
    /// When the only request in flight was sent.
    var sentAt: UInt64 = 0
    /// Nanoseconds that callers read for themselves since anybody suspended.
    var unsuspended: UInt64 = 0
    var waitingForRoom: [RoomWaiter] = []
    var roomNumber = 0
    /// Who alone may write: the holder of a lease, or a pipeline that is written piece by piece.
    var exclusiveWriter: Int?
    /// The lease of a cursor that was left: what ends it is on its way.
    var endingLease: Int?
    var openStream: RowStream?
    /// While there are any, the loop is the reader also when nothing is in flight.
    var listeners = Listeners()
    var parameters = ServerParameters()
    /// The reset that was written last; not a number of the queue before.
    var resetNumber = -2
    /// The pool that is to know of the end.
    var membership: PoolMembership?
    /// Why the connection is of no use any more.
    var closed: PostgresError?
    var isDescriptorClosed = false
    var statistics = PostgresConnection.Statistics()
    var senderCalls = 0
    var readerCalls = 0
    let rowByteLimit: Int
    /// A CancelRequest is on its way, and nobody may write.
    var cancelGate: CancelGate?
    /// Requests in flight that were stopped, until their callers have looked.
    var stopped: [Int: Stopped] = [:]
    var overdue: Overdue?
    /// Who reads a cursor, or fills a COPY, that has the connection for itself.
    var leaseUser: LeaseUser?

    struct RoomWaiter: Sendable {
        let number: Int
        let waiter: InFlight.Waiter
        /// The lease, or the pipeline, that it writes for.
        let writer: Int?
    }

    /// More than this waiting to be sent, or this many requests in flight, make producers wait.
    static let pendingLimit = 1 << 20
    var queueLimit = 1 << 16

    init(statementCacheCapacity: Int, rowByteLimit: Int) {
        outbound = Outbound(statementCacheCapacity: statementCacheCapacity)
        known = KnownQueries(capacity: statementCacheCapacity)
        self.rowByteLimit = rowByteLimit
    }

    /// Whether a caller may write now. `writer` is the number of the lease, or of the pipeline, that it is part of; what was
    /// part of a lease that has ended may not.
    @inline(__always)
    func hasRoom(for writer: Int?) -> Bool {
        pending.count < ConnectionState.pendingLimit && queue.count < queueLimit && exclusiveWriter == writer
    }

    /// Whether it is worth trying again: what was part of a lease that has ended shall find that out.
    func isWorthTrying(for writer: Int?) -> Bool {
        if hasRoom(for: writer) || (writer != nil && hasRoom(for: nil)) { return true }
        guard let cancelGate else { return false }
        return cancelGate.admits(writer) && hasRoom(for: cancelGate.number)
    }

    /// The first piece of the pipeline that a request is a piece of.
    mutating func pipeline(of number: Int) -> Flight? {
        queue.update(number) { request -> Flight? in
            guard case .flight(let flight) = request.collector else { return nil }
            return flight.firstPiece ?? flight
        } ?? nil
    }

    /// Whether nothing else is in flight than pieces of this pipeline.
    mutating func hasOnly(_ pipeline: Flight?) -> Bool {
        for number in (queue.nextNumber &- queue.count)..<queue.nextNumber
        where self.pipeline(of: number) !== pipeline { return false }
        return true
    }

    /// Those who waited for room and have it now. The others wait on: while a lease lasts, that is everybody else.
    mutating func takeRoomWaiters() -> [RoomWaiter] {
        guard !waitingForRoom.isEmpty else { return [] }
        var ready: [RoomWaiter] = []
        var others: [RoomWaiter] = []
        for waiter in waitingForRoom {
            if closed != nil || isWorthTrying(for: waiter.writer) {
                ready.append(waiter)
            } else {
                others.append(waiter)
            }
        }
        waitingForRoom = others
        return ready
    }

    /// How a statement is to be sent.
    enum Mode: Sendable {
        /// Under its cached name, parsed if need be.
        case cached
        /// With a Parse of its own under no name: the cached name turned out to be useless.
        case unnamed
        /// With strings declared as text: the server could not infer their type.
        case stringsAsText
    }

    /// What is wrong with a query, before anything of it or of its companions is written.
    mutating func problem(of query: PostgresQuery) -> PostgresError? {
        if let problem = query.problem { return problem }
        let known = known.find(query)
        if known.containsZero { return PostgresError(.zeroByte("the SQL text"), sql: nil) }
        return known.isTooLong ? PostgresError(.messageTooLong(bytes: known.textLength), sql: nil) : nil
    }

    /// Writes one execution into `pending`.
    @inline(__always)
    mutating func encode(
        _ query: PostgresQuery, _ formats: ResultFormats, _ mode: Mode, sync: Bool
    ) throws(PostgresError) -> Request {
        let known = known.find(query)
        let (statement, parse) = chooseStatement(known, mode)
        let start = pending.count
        do {
            var request = try outbound.execute(
                statement, parse: parse, sync: sync, Outbound.Parameters(of: query, known), formats.codes,
                into: &pending)
            encodedBytes &+= pending.count &- start
            request.rowByteLimit = rowByteLimit
            return request
        } catch {
            throw PostgresError(error, sql: query.sql)
        }
    }

    /// Writes one execution into `pending`, but for its parameters. They count as encoded.
    ///
    /// - Returns: also where they belong.
    mutating func encodeAroundParameters(
        _ query: PostgresQuery, _ formats: ResultFormats, _ mode: Mode
    ) throws(PostgresError) -> (Request, LargeParameters) {
        let known = known.find(query)
        let (statement, parse) = chooseStatement(known, mode)
        let start = pending.count
        do {
            var (request, place) = try outbound.executeAroundCells(
                statement, parse: parse, Outbound.Parameters(of: query, known), formats.codes, into: &pending)
            let parameters = LargeParameters(storage: query.storage, place: place)
            encodedBytes &+= pending.count &- start &+ parameters.bytes.count
            request.rowByteLimit = rowByteLimit
            return (request, parameters)
        } catch {
            throw PostgresError(error, sql: query.sql)
        }
    }

    @inline(__always)
    private mutating func chooseStatement(_ known: KnownQuery, _ mode: Mode) -> (PreparedStatement, parse: Bool) {
        if mode == .stringsAsText, !known.typesStringsAsText { known.typeStringsAsText() }
        guard mode != .unnamed, let cached = known.statement, cached.state != .gone else { return lookUp(known, mode) }
        outbound.statements.touch(cached)
        return (cached, false)
    }

    /// The statement for a query, and whether it is to be parsed.
    mutating func statement(for query: PostgresQuery, unnamed: Bool = false) -> (PreparedStatement, parse: Bool) {
        let known = known.find(query)
        if unnamed { return lookUp(known, .unnamed) }
        if let cached = known.statement, cached.state != .gone {
            outbound.statements.touch(cached)
            return (cached, false)
        }
        return lookUp(known, .cached)
    }

    @inline(never)
    private mutating func lookUp(_ known: KnownQuery, _ mode: Mode) -> (PreparedStatement, parse: Bool) {
        if mode == .unnamed || outbound.statements.capacity == 0 {
            return (PreparedStatement(name: [], key: known.key), true)
        }
        let key = known.key
        if let statement = outbound.statements.statement(for: key) {
            known.statement = statement
            return (statement, false)
        }
        let statement = outbound.statements.insert(key)
        known.statement = statement
        return (statement, true)
    }
}

extension Outbound.Parameters {
    /// Those of a query, valid while its storage is held.
    @inline(__always)
    fileprivate init(of query: PostgresQuery, _ known: KnownQuery) {
        let storage = query.storage
        self.init(count: storage.sealed.pointee.parameters, formats: known.parameterFormats, cells: storage.cells)
    }
}

extension PostgresError {
    /// A message that cannot be written.
    init(_ error: EncodingError, sql: String?) {
        let message: String
        var hint: String?
        switch error {
        case .zeroByte(let field): message = "\(field) contains a NUL character, which PostgreSQL cannot take"
        case .messageTooLong(let bytes):
            message = "the message would have \(bytes) bytes; the server takes less than 1 GiB"
        case .tooMany(let what, let count):
            message = "\(count) \(what); the protocol takes 65,535"
            hint = "pass an array: = ANY(\\(values)), or unnest"
        case .formatCount(let count, let values): message = "\(count) format codes for \(values) values"
        case .emptyName(let what): message = "\(what) is empty"
        case .invalidKeyLength(let count): message = "a cancellation key of \(count) bytes"
        }
        self.init(code: .invalidArgument, message: message, outcome: .notSent, sql: sql, hint: hint)
    }
}
