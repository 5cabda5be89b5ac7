/// The receiving half of a session: bytes in, events out.
///
/// *Theory of operation.* The driver puts bytes into `buffer` and calls `next` until it says `needsBytes`. Asynchronous messages
/// (notice, notification, parameter) leave the stream first, whatever is going on. Any other message belongs to the request at
/// the head of the queue: `needsRequest` asks the driver for it, as soon as a header is there, and `begin` takes it. `phase` is the position
/// in that request's reply; each phase names the messages that are legal in it, and anything else throws, after which the
/// connection is poisoned: there is no way back into step. After an ErrorResponse everything up to the ReadyForQuery of the group
/// is skipped, so the requests behind it that have no Sync of their own end at once, as aborted. Only ReadyForQuery
/// acknowledges: an error that comes after CommandComplete, such as a deferred constraint's, replaces the success.
///
/// Nothing here waits, locks or knows a socket. The holder of the reader role owns it.
package struct Inbound: ~Copyable, Sendable {
    package enum Event: Sendable {
        case needsBytes
        /// A message came, or the header of one, that belongs to the head of the queue; the driver answers with `begin`, or with
        /// `readFarewell` if there is no head.
        case needsRequest(tag: UInt8)
        /// A block of rows of a streamed request is full, or the bytes at hand are used up: `takeRows`.
        case rows
        /// One statement of a script is done: `takeResult`.
        case statementFinished
        /// The request is done: `takeResult`.
        case finished
        /// COPY FROM STDIN was begun and nobody asked for it: send CopyFail, and Sync if the request was an extended one.
        case refuseCopy(resync: Bool)
        /// The COPY that was asked for has begun; what comes out of it is told by `rows`.
        case copyBegan(CopyResponse)
        case notice(ServerReport)
        case notification(NotificationResponse)
        case parameter(ParameterStatus)
    }

    enum Phase {
        case idle
        case closing
        case parsing
        case describingParameters
        case describingRows
        case binding
        case rows
        case syncing
        /// Behind an error: all that may come is ReadyForQuery.
        case skipping
        case simple
        case simpleRows
        /// A COPY was sent; CopyInResponse or CopyOutResponse comes.
        case copyRequested
        case copyingIn
        case copyingOut
        /// Behind CopyDone.
        case copied
        /// Behind the CommandComplete of a COPY.
        case copyEnding
    }

    package var buffer: ReceiveBuffer
    package var limits: MessageFramer.Limits
    /// Messages received so far. (A mutating getter: for a plain one the caller, in another module, copies all of this first.)
    package var messageCount: Int { mutating get { messages } }
    var messages = 0

    /// The last thing the server said before it closes the connection.
    package private(set) var farewell: ServerReport?

    /// Whether it said that. (Mutating, as `messageCount`.)
    package var hasFarewell: Bool { mutating get { farewell != nil } }

    var phase = Phase.idle
    package private(set) var request = Request(Request.Parts(rawValue: 0))
    var columnCount = 0
    private var closesLeft = 0
    var discardsRows = false
    /// An error came in the current group, and its ReadyForQuery did not.
    var groupFailed = false
    private var parameterTypes: [UInt32] = []
    var result = StatementResult()
    /// Where a COPY TO STDOUT in binary format stands.
    var copyPosition = CopyPosition.beforeHeader
    /// The block of the last reply; filled again if nobody holds it any more.
    var spare: RowChunk?

    package init(
        bufferCapacity: Int = 16384, limits: MessageFramer.Limits = MessageFramer.Limits(isAuthenticated: true)
    ) {
        buffer = ReceiveBuffer(capacity: bufferCapacity)
        self.limits = limits
    }

    /// The request whose reply is being read; nil between replies.
    package var isIdle: Bool { phase == .idle }

    /// What is known of the columns of the current reply.
    package var description: StatementDescription? { result.description ?? request.statement?.description }

    /// The head of the queue, after `needsRequest`, or the next request of a group after `finished`.
    package mutating func begin(_ request: Request) {
        self.request = request
        closesLeft = request.closes
        discardsRows = false
        if request.parts.contains(.simple) {
            phase = request.parts.isDisjoint(with: [.copiesIn, .copiesOut]) ? .simple : .copyRequested
            copyPosition = .beforeHeader
        } else {
            phase = .closing
            columnCount = request.statement?.description?.columnCount ?? 0
            enterNextPhase()
        }
    }

    /// What a request ends with that went as usual: rows of at most one block, and a count.
    package struct UsualEnd {
        package let block: RowChunk?
        package let rowCount: Int
        package let affected: Int
        package let status: TransactionStatus?
    }

    package mutating func takeResult() -> StatementResult {
        var taken = StatementResult()
        swap(&taken, &result)
        if let chunk = taken.firstChunk { spare = chunk }
        return taken
    }

    /// After `needsRequest` with no request in flight: an error is what the server says before it closes the connection, and the
    /// only message that may come then.
    ///
    /// - Returns: false if the rest of it has to come first.
    package mutating func readFarewell() throws(ProtocolError) -> Bool {
        let tag = buffer.base.load(as: UInt8.self)
        guard phase == .idle, tag == BackendMessage.Tag.errorResponse else {
            throw .unexpectedMessage(tag, while: "nothing is in flight")
        }
        let size = Int(Int32(bigEndian: buffer.base.loadUnaligned(fromByteOffset: 1, as: Int32.self))) &+ 1
        guard buffer.count >= size else { return false }
        let body = UnsafeRawBufferPointer(start: buffer.base + 5, count: size &- 5)
        if case .errorResponse(let report) = try BackendMessage(tag: tag, body: body) { farewell = report }
        buffer.consume(size)
        messages &+= 1
        return true
    }

    package mutating func next() throws(ProtocolError) -> Event {
        while true {
            if groupFailed, phase != .idle, phase != .skipping {
                // Skipped by the server: nothing comes for it but, if it has a Sync, the ReadyForQuery.
                result.failure = .aborted
                if !request.parts.contains(.syncs) { return finish() }
                phase = .skipping
            }
            let available = buffer.count
            guard available >= 5 else { return .needsBytes }
            let base = buffer.base
            let tag = base.load(as: UInt8.self)
            if tag == UInt8(ascii: "D"), phase == .rows || phase == .simpleRows {
                if case .copy = result.failure { throw unexpected(tag) }
                guard try readRows() else { return .needsBytes }
                if request.parts.contains(.streams), result.firstChunk != nil { return .rows }
                continue
            }
            let length = Int32(bigEndian: base.loadUnaligned(fromByteOffset: 1, as: Int32.self))
            if let event = try readFrequent(tag, length, base, available) {
                if case .needsBytes = event { continue }
                return event
            }
            if phase == .copyingOut, tag == BackendMessage.Tag.copyData {
                guard try readCopyData() else { return .needsBytes }
                if result.firstChunk != nil { return .rows }
                continue
            }
            let size = try MessageFramer.judge(tag: tag, length: length, limits: limits)
            guard available >= size else {
                // What cannot be legal is not waited for, nor kept. Between replies only its request can tell what that is.
                guard mayCome(tag) else {
                    if phase == .idle { return .needsRequest(tag: tag) }
                    throw unexpected(tag)
                }
                return .needsBytes
            }
            let body = UnsafeRawBufferPointer(start: base + 5, count: size &- 5)
            if let event = try readAsynchronous(tag, body) {
                buffer.consume(size)
                messages &+= 1
                return event
            }
            if phase == .idle { return .needsRequest(tag: tag) }
            let event = try read(tag, body)
            buffer.consume(size)
            messages &+= 1
            if let event { return event }
        }
    }

    /// The three messages that every execution gets, whole and of the length they always have: judged and read in one step.
    ///
    /// - Returns: nil if it is not one of them; then the general way has it. `needsBytes` stands for "go on".
    @inline(__always)
    private mutating func readFrequent(
        _ tag: UInt8, _ length: Int32, _ base: UnsafeRawPointer, _ available: Int
    ) throws(ProtocolError) -> Event? {
        switch tag {
        case BackendMessage.Tag.bindComplete where phase == .binding && length == 4:
            buffer.consume(5)
            messages &+= 1
            phase = .rows
            return .needsBytes
        case BackendMessage.Tag.commandComplete where phase == .rows && length > 4 && length < 64:
            let size = Int(length) &+ 1
            guard available >= size else { return nil }
            try readTag(UnsafeRawBufferPointer(start: base + 5, count: size &- 5))
            buffer.consume(size)
            messages &+= 1
            return executed() ?? .needsBytes
        case BackendMessage.Tag.readyForQuery where phase == .syncing && length == 5 && available >= 6:
            guard let status = TransactionStatus(rawValue: base.load(fromByteOffset: 5, as: UInt8.self)) else {
                return nil
            }
            result.status = status
            groupFailed = false
            buffer.consume(6)
            messages &+= 1
            return finish()
        default: return nil
        }
    }

    /// Whether a message of this type can be legal now, judged before its body is there. `read` judges again, and more closely.
    private func mayCome(_ tag: UInt8) -> Bool {
        switch UnicodeScalar(tag) {
        case "N", "A", "S": return true
        case "E": return phase != .idle
        case "Z": return phase == .syncing || phase == .skipping || phase == .simple || phase == .copyEnding
        case "3": return phase == .closing
        case "1": return phase == .parsing
        case "t": return phase == .describingParameters
        case "n": return phase == .describingRows
        case "T": return phase == .describingRows || phase == .simple
        case "2": return phase == .binding
        case "D": return phase == .rows || phase == .simpleRows
        case "C":
            return phase == .rows || phase == .simple || phase == .simpleRows || phase == .copyingIn || phase == .copied
        case "I": return phase == .rows || phase == .simple
        case "s": return phase == .rows && request.parts.contains(.limited)
        case "G": return phase == .rows || phase == .simple || awaitsCopy(.copiesIn)
        case "H": return phase == .rows || phase == .simple || awaitsCopy(.copiesOut)
        case "d", "c":
            if phase == .copyingOut { return true }
            guard phase == .rows || phase == .simple, case .copy = result.failure else { return false }
            return true
        default: return false
        }
    }

    private func awaitsCopy(_ direction: Request.Parts) -> Bool {
        phase == .copyRequested && request.parts.contains(direction)
    }

    private func readAsynchronous(_ tag: UInt8, _ body: UnsafeRawBufferPointer) throws(ProtocolError) -> Event? {
        guard
            tag == BackendMessage.Tag.noticeResponse || tag == BackendMessage.Tag.notificationResponse
                || tag == BackendMessage.Tag.parameterStatus
        else { return nil }
        switch try BackendMessage(tag: tag, body: body) {
        case .noticeResponse(let report): return .notice(report)
        case .notificationResponse(let notification): return .notification(notification)
        case .parameterStatus(let parameter): return .parameter(parameter)
        default: return nil
        }
    }

    private mutating func readReady(_ tag: UInt8, _ body: UnsafeRawBufferPointer) throws(ProtocolError) -> Event {
        var reader = ByteReader(body, message: tag)
        let status = try TransactionStatus(&reader)
        try reader.finish()
        result.status = status
        groupFailed = false
        return finish()
    }

    /// One message of the current reply.
    private mutating func read(_ tag: UInt8, _ body: UnsafeRawBufferPointer) throws(ProtocolError) -> Event? {
        switch (phase, try BackendMessage(tag: tag, body: body)) {
        case (_, .errorResponse(let report)): return try failed(report)
        case (.closing, .closeComplete):
            closesLeft &-= 1
            enterNextPhase()
        case (.parsing, .parseComplete):
            result.isParsed = true
            phase = request.parts.contains(.describes) ? .describingParameters : .binding
            enterBinding()
        case (.describingParameters, .parameterDescription(let description)):
            parameterTypes = description.types
            phase = .describingRows
        case (.describingRows, .rowDescription(let description)): described(description)
        case (.describingRows, .noData): described(nil)
        case (.binding, .bindComplete): phase = .rows
        case (.rows, .commandComplete):
            try readTag(body)
            return executed()
        case (.rows, .emptyQueryResponse): return executed()
        case (.rows, .portalSuspended) where request.parts.contains(.limited): return executed()
        case (.syncing, .readyForQuery), (.skipping, .readyForQuery), (.simple, .readyForQuery),
            (.copyEnding, .readyForQuery):
            return try readReady(tag, body)
        case (.simple, .rowDescription(let description)):
            result.description = StatementDescription(parameterTypes: [], rowDescription: description)
            columnCount = description.columns.count
            phase = .simpleRows
        case (.simple, .commandComplete), (.simpleRows, .commandComplete):
            try readTag(body)
            phase = .simple
            return .statementFinished
        case (.simple, .emptyQueryResponse): break
        case (.rows, .copyInResponse), (.simple, .copyInResponse):
            result.failure = .copy
            return .refuseCopy(resync: phase == .rows)
        case (.rows, .copyOutResponse), (.simple, .copyOutResponse): result.failure = .copy
        case (.rows, .copyData), (.simple, .copyData), (.rows, .copyDone), (.simple, .copyDone):
            // The data of a COPY TO STDOUT that nobody asked for: read and thrown away.
            guard case .copy = result.failure else { throw unexpected(tag) }
        case (.copyRequested, .copyInResponse(let response)) where request.parts.contains(.copiesIn):
            phase = .copyingIn
            return .copyBegan(response)
        case (.copyRequested, .copyOutResponse(let response)) where request.parts.contains(.copiesOut):
            try beginCopyOut(response)
            return .copyBegan(response)
        case (.copyingOut, .copyDone):
            try finishCopyOut()
        case (.copyingIn, .commandComplete), (.copied, .commandComplete):
            try readTag(body)
            phase = .copyEnding
        default: throw unexpected(tag)
        }
        return nil
    }

    private mutating func failed(_ report: ServerReport) throws(ProtocolError) -> Event? {
        if report.isFatal { farewell = report }
        if phase == .skipping {
            // Behind an error only one that ends the connection may come.
            guard report.isFatal else { throw unexpected(BackendMessage.Tag.errorResponse) }
            return nil
        }
        if case .copy = result.failure {
            // The answer to our own CopyFail says less than "this was a COPY".
        } else {
            result.failure = .rejected(report)
            result.failedBeforeRunning = phase != .rows && phase != .syncing
        }
        if request.parts.contains(.simple) {
            phase = request.parts.isDisjoint(with: [.copiesIn, .copiesOut]) ? .simple : .skipping
            return nil
        }
        groupFailed = true
        if request.parts.contains(.syncs) {
            // Behind the command's own end an error is the Sync's, and its ReadyForQuery follows all the same.
            phase = .skipping
            return nil
        }
        return finish()
    }

    private mutating func enterNextPhase() {
        guard closesLeft <= 0 else { return }
        if request.parts.contains(.parses) {
            phase = .parsing
        } else if request.parts.contains(.describes) {
            phase = .describingParameters
        } else {
            phase = .binding
            enterBinding()
        }
    }

    /// Binding is skipped by requests that execute nothing, or a portal that is there already.
    private mutating func enterBinding() {
        guard phase == .binding, !request.parts.contains(.executes) else { return }
        phase = request.parts.contains(.limited) ? .rows : .syncing
    }

    private mutating func described(_ rows: RowDescription?) {
        let description = StatementDescription(parameterTypes: parameterTypes, rowDescription: rows)
        parameterTypes = []
        result.description = description
        columnCount = description.columnCount
        phase = .binding
        enterBinding()
    }

    private mutating func executed() -> Event? {
        if request.parts.contains(.syncs) {
            phase = .syncing
            return nil
        }
        return finish()
    }

    private mutating func finish() -> Event {
        phase = .idle
        return .finished
    }

    private mutating func readTag(_ body: UnsafeRawBufferPointer) throws(ProtocolError) {
        guard body.last == 0 else { throw .truncated(message: BackendMessage.Tag.commandComplete, offset: body.count) }
        let text = UnsafeRawBufferPointer(start: body.baseAddress, count: body.count &- 1)
        // Only groups and scripts are asked for it.
        if request.parts != .executesAndSyncs { result.tag = StatementResult.packed(text) }
        result.affected = try CommandTag.affectedRows(text) ?? 0
    }

    func unexpected(_ tag: UInt8) -> ProtocolError { .unexpectedMessage(tag, while: "\(phase)") }
}
