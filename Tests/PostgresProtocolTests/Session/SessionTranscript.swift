import PostgresProtocol

@testable import PostgresTesting

typealias Message = PostgresMockServer.Message

extension Message.Column {
    static let int4 = Message.Column("n", type: 23)
}

/// Plays the part of the connection: feeds bytes to an `Inbound`, gives it the requests in flight, and writes down what comes.
struct SessionTranscript: ~Copyable {
    var inbound: Inbound
    private var requests: ArraySlice<Request>
    private(set) var events: [String] = []
    private var streamedRows = 0
    /// Whether whole usual replies are taken in one step, as a connection does.
    private let takesUsualReplies: Bool
    private(set) var usualReplies = 0
    /// The bytes of all blocks of rows.
    private(set) var streamed: [UInt8] = []

    init(
        _ requests: [Request], limits: MessageFramer.Limits = MessageFramer.Limits(isAuthenticated: true),
        takesUsualReplies: Bool = false
    ) {
        self.takesUsualReplies = takesUsualReplies
        inbound = Inbound(bufferCapacity: 64, limits: limits)
        self.requests = requests[...]
    }

    /// The events of messages that come in pieces of these sizes; the last holds for the rest.
    static func events(
        _ requests: [Request], _ messages: [Message], split sizes: [Int] = [.max]
    ) throws(ProtocolError) -> [String] {
        var transcript = SessionTranscript(requests)
        var rest = messages.flatMap(\.bytes)[...]
        var index = 0
        while !rest.isEmpty {
            let size = sizes[min(index, sizes.count - 1)]
            index += 1
            try transcript.feed(Array(rest.prefix(size)))
            rest = rest.dropFirst(size)
        }
        return transcript.events
    }

    mutating func feed(_ messages: Message...) throws(ProtocolError) { try feed(messages.flatMap(\.bytes)) }

    mutating func feed(_ bytes: [UInt8]) throws(ProtocolError) {
        bytes.withUnsafeBytes { inbound.buffer.append($0) }
        while true {
            if takesUsualReplies, let end = inbound.takeUsualReply(columns: nil) {
                usualReplies += 1
                let status = end.status.map { " \($0)" } ?? ""
                events.append(
                    "request: ok, \(end.block?.rowCount ?? 0) rows, \(end.affected) affected\(status)")
                if end.status == nil, let next = requests.popFirst() { inbound.begin(next) }
                continue
            }
            switch try inbound.next() {
            case .needsBytes: return
            case .needsRequest:
                if let request = requests.popFirst() {
                    inbound.begin(request)
                } else {
                    guard try inbound.readFarewell() else { return }
                    events.append("farewell")
                }
            case .rows:
                // How rows are cut into blocks depends on how they arrive.
                let chunk = inbound.takeRows()
                streamedRows += chunk?.rowCount ?? 0
                if let chunk { streamed += UnsafeRawBufferPointer(start: chunk.base, count: chunk.byteCount) }
            case .statementFinished: finish("statement")
            case .finished:
                let endsGroup = !inbound.request.parts.isDisjoint(with: [.syncs, .simple])
                finish("request")
                // The next request of a group begins with no message of its own.
                if !endsGroup, let next = requests.popFirst() { inbound.begin(next) }
            case .refuseCopy(let resync): events.append("refuse copy, resync \(resync)")
            case .copyBegan(let response):
                events.append("copy of \(response.columnFormats.count) columns, \(response.format)")
            case .notice(let report): events.append("notice \(report.message)")
            case .notification(let notification): events.append("notification \(notification.channel)")
            case .parameter(let parameter): events.append("parameter \(parameter.name)")
            }
        }
    }

    private mutating func finish(_ what: String) {
        let result = inbound.takeResult()
        let outcome =
            switch result.failure {
            case nil: "ok"
            case .rejected(let report): report.sqlState
            case .aborted: "aborted"
            case .tooLarge: "too large"
            case .copy: "copy"
            }
        let status = result.status.map { " \($0)" } ?? ""
        events.append(
            "\(what): \(outcome), \(streamedRows > 0 ? streamedRows : result.rowCount) rows, \(result.affected) affected\(status)"
        )
        streamedRows = 0
    }
}

extension Request {
    static func first(sync: Bool = true, closes: Int = 0) -> Request {
        Request(sync ? [.parses, .describes, .executes, .syncs] : [.parses, .describes, .executes], closes: closes)
    }

    static let sync = Request([.syncs])
    static let script = Request([.simple])
}
