import PostgresProtocol
import Testing

@testable import PostgresTesting

/// Replies that are taken in one step mean what they mean message by message.
struct UsualReplyTests {
    static func prepared(columns: Int, syncs: Bool = true) -> Request {
        let statement = PreparedStatement(
            name: Array("s1".utf8), key: StatementKey(sql: Array("SELECT".utf8), parameterTypes: []))
        statement.state = .ready
        let described = (0..<columns).map { RowDescription.Column(name: "c\($0)", typeOID: 23) }
        statement.description = StatementDescription(
            parameterTypes: [], rowDescription: columns == 0 ? nil : RowDescription(columns: described))
        return Request(syncs ? [.executes, .syncs] : [.executes], statement: statement)
    }

    struct Reply: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let columns: Int
        let messages: [Message]
        var bytes: [UInt8] { messages.flatMap(\.bytes) }
    }

    static let replies: [Reply] = [
        Reply(
            testDescription: "no rows", columns: 0,
            messages: [.bindComplete, .commandComplete("INSERT 0 17"), .readyForQuery()]),
        Reply(
            testDescription: "a command without a count", columns: 0,
            messages: [.bindComplete, .commandComplete("BEGIN"), .readyForQuery("T")]),
        Reply(
            testDescription: "an empty result", columns: 2,
            messages: [.bindComplete, .commandComplete("SELECT 0"), .readyForQuery("E")]),
        Reply(
            testDescription: "rows with a NULL and an empty value", columns: 2,
            messages: [
                .bindComplete, .dataRow([[0, 0, 0, 1], nil]), .dataRow([[], [7, 7]]), .commandComplete("SELECT 2"),
                .readyForQuery(),
            ]),
    ]

    @Test(arguments: replies)
    func aWholeReplyIsTakenInOneStep(_ reply: Reply) throws {
        var transcript = SessionTranscript([Self.prepared(columns: reply.columns)], takesUsualReplies: true)
        try transcript.feed(reply.bytes)
        #expect(transcript.usualReplies == 1)
        #expect(transcript.events == (try Self.events(reply.columns, [reply.bytes], takesUsualReplies: false)))
        let isIdle = transcript.inbound.isIdle
        #expect(isIdle)
        let left = transcript.inbound.buffer.count
        #expect(left == 0)
    }

    @Test(arguments: replies)
    func aReplyInPiecesMeansTheSame(_ reply: Reply) throws {
        let whole = try Self.events(reply.columns, [reply.bytes], takesUsualReplies: false)
        for cut in 0...reply.bytes.count {
            let pieces = [Array(reply.bytes.prefix(cut)), Array(reply.bytes.dropFirst(cut))]
            #expect(try Self.events(reply.columns, pieces, takesUsualReplies: true) == whole, "cut at \(cut)")
        }
        #expect(try Self.events(reply.columns, reply.bytes.map { [$0] }, takesUsualReplies: true) == whole)
    }

    @Test(arguments: replies)
    func whatFollowsIsLeftAlone(_ reply: Reply) throws {
        let more = reply.bytes + reply.bytes + Message.noticeResponse("hello").bytes
        var transcript = SessionTranscript(
            [Self.prepared(columns: reply.columns), Self.prepared(columns: reply.columns)], takesUsualReplies: true)
        try transcript.feed(more)
        #expect(transcript.usualReplies == 2)
        #expect(transcript.events.last == "notice hello")
    }

    /// Any byte of it changed to something else: the same events, or the same error, both ways.
    @Test(arguments: replies)
    func aChangedReplyIsJudgedTheSame(_ reply: Reply) {
        for index in reply.bytes.indices {
            for value: UInt8 in [0, 1, 4, 5, 0x20, 0x30, 0x41, 0x43, 0x44, 0x45, 0x5A, 0x7F, 0x80, 0xFF] {
                var bytes = reply.bytes
                bytes[index] = value
                let general = Result { () throws(ProtocolError) in
                    try Self.events(reply.columns, [bytes], takesUsualReplies: false)
                }
                let usual = Result { () throws(ProtocolError) in
                    try Self.events(reply.columns, [bytes], takesUsualReplies: true)
                }
                switch (general, usual) {
                case (.success(let left), .success(let right)): #expect(left == right, "byte \(index) is \(value)")
                case (.failure(let left), .failure(let right)):
                    #expect("\(left)" == "\(right)", "byte \(index) is \(value)")
                default: Issue.record("byte \(index) is \(value): \(general), \(usual)")
                }
            }
        }
    }

    /// Statements of a group: only the last is followed by ReadyForQuery, and COMMIT is left to the state machine, which keeps its
    /// tag.
    @Test func statementsOfAGroupAreTakenInOneStep() throws {
        let rows = Self.replies[3]
        let group = [
            Self.prepared(columns: 2, syncs: false), Self.prepared(columns: 0, syncs: false),
            Self.prepared(columns: 0, syncs: false), .sync,
        ]
        let bytes =
            rows.messages.dropLast().flatMap(\.bytes)
            + [Message.bindComplete, .commandComplete("INSERT 0 5"), .bindComplete, .commandComplete("COMMIT")]
            .flatMap(\.bytes) + Message.readyForQuery().bytes
        var usual = SessionTranscript(group, takesUsualReplies: true)
        try usual.feed(bytes)
        #expect(usual.usualReplies == 2)
        var general = SessionTranscript(group)
        try general.feed(bytes)
        #expect(usual.events == general.events)
        for cut in 0...bytes.count {
            var pieces = SessionTranscript(group, takesUsualReplies: true)
            try pieces.feed(Array(bytes.prefix(cut)))
            try pieces.feed(Array(bytes.dropFirst(cut)))
            #expect(pieces.events == general.events, "cut at \(cut)")
        }
    }

    @Test func rowsBeyondTheLimitAreRefusedBothWays() throws {
        let reply = Self.replies[3]
        var request = Self.prepared(columns: reply.columns)
        request.rowByteLimit = 10
        var transcript = SessionTranscript([request], takesUsualReplies: true)
        try transcript.feed(reply.bytes)
        #expect(transcript.usualReplies == 0)
        #expect(transcript.events == ["request: too large, 0 rows, 2 affected idle"])
    }

    /// The block of a reply is filled again by the next, whose columns are its own, or none.
    @Test func aBlockThatIsFilledAgainHasNoColumnsOfTheReplyBefore() throws {
        final class Columns: Sendable {}
        let columns = Columns()
        var inbound = Inbound()
        let rows: [Message] = [.bindComplete, .dataRow([[1]]), .commandComplete("SELECT 1"), .readyForQuery()]
        let none: [Message] = [
            .bindComplete, .dataRow([[UInt8]?]()), .commandComplete("SELECT 1"), .readyForQuery(),
        ]
        for (count, messages) in [(1, rows), (0, none), (1, rows), (0, none)] {
            messages.flatMap(\.bytes).withUnsafeBytes { inbound.buffer.append($0) }
            inbound.begin(Self.prepared(columns: count))
            let end = inbound.takeUsualReply(columns: count == 0 ? nil : columns)
            let block = try #require(end?.block)
            #expect(block.columns === (count == 0 ? nil : columns))
        }
    }

    private static func events(
        _ columns: Int, _ pieces: [[UInt8]], takesUsualReplies: Bool
    ) throws(ProtocolError) -> [String] {
        var transcript = SessionTranscript([prepared(columns: columns)], takesUsualReplies: takesUsualReplies)
        for piece in pieces { try transcript.feed(piece) }
        return transcript.events
    }
}
