import PostgresProtocol
import Testing

@testable import PostgresTesting

/// The receiving half of a session, without a socket.
struct InboundTests {
    static let described: [Message] = [.parseComplete, .parameterDescription([23]), .rowDescription([.int4])]
    static let row = Message.dataRow([[0, 0, 0, 1]])
    /// Execute of a portal that was bound before.
    static let fetch = Request([.limited, .syncs], statement: UsualReplyTests.prepared(columns: 1).statement)

    /// What is asked, what is answered, and what must be made of it.
    struct Dialogue: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let requests: [Request]
        let messages: [Message]
        let events: [String]

        init(_ name: String, _ requests: [Request], _ messages: [Message], _ events: [String]) {
            testDescription = name
            self.requests = requests
            self.messages = messages
            self.events = events
        }
    }

    static let dialogues: [Dialogue] = [
        Dialogue(
            "a first execution", [.first()],
            described + [.bindComplete, row, row, .commandComplete("SELECT 2"), .readyForQuery()],
            ["request: ok, 2 rows, 2 affected idle"]),
        Dialogue(
            "a statement without rows", [.first()],
            [
                .parseComplete, .parameterDescription([]), .noData, .bindComplete, .commandComplete("INSERT 0 3"),
                .readyForQuery("T"),
            ],
            ["request: ok, 0 rows, 3 affected inTransaction"]),
        Dialogue(
            "an empty statement", [.first()],
            [.parseComplete, .parameterDescription([]), .noData, .bindComplete, .emptyQueryResponse, .readyForQuery()],
            ["request: ok, 0 rows, 0 affected idle"]),
        Dialogue(
            "Close before Parse", [.first(closes: 2)],
            [.closeComplete, .closeComplete] + described + [
                .bindComplete, .commandComplete("SELECT 0"), .readyForQuery(),
            ],
            ["request: ok, 0 rows, 0 affected idle"]),
        Dialogue(
            "an error in place of CloseComplete", [.first(closes: 2), .sync],
            [.closeComplete, .errorResponse("42601"), .readyForQuery(), .readyForQuery()],
            ["request: 42601, 0 rows, 0 affected idle", "request: ok, 0 rows, 0 affected idle"]),
        Dialogue(
            "preparing alone", [Request([.parses, .describes, .syncs])], described + [.readyForQuery()],
            ["request: ok, 0 rows, 0 affected idle"]),
        Dialogue("Sync alone", [.sync], [.readyForQuery("E")], ["request: ok, 0 rows, 0 affected failed"]),
        Dialogue(
            "an error in Parse", [.first()], [.errorResponse("42601"), .readyForQuery()],
            ["request: 42601, 0 rows, 0 affected idle"]),
        Dialogue(
            "an error after a row", [.first()],
            described + [.bindComplete, row, .errorResponse("22012"), .readyForQuery()],
            ["request: 22012, 1 rows, 0 affected idle"]),
        Dialogue(
            "an error at Sync", [.first()],
            described + [.bindComplete, row, .commandComplete("SELECT 1"), .errorResponse("23505"), .readyForQuery()],
            ["request: 23505, 1 rows, 1 affected idle"]),
        Dialogue(
            "isolated statements, the second of which fails", [.first(), .first(), .first()],
            described + [.bindComplete, .commandComplete("SELECT 0"), .readyForQuery()]
                + [.errorResponse("42601"), .readyForQuery()]
                + described + [.bindComplete, row, .commandComplete("SELECT 1"), .readyForQuery()],
            [
                "request: ok, 0 rows, 0 affected idle", "request: 42601, 0 rows, 0 affected idle",
                "request: ok, 1 rows, 1 affected idle",
            ]),
        Dialogue(
            "an atomic group", [.first(sync: false), .first(sync: false), .sync],
            described + [.bindComplete, row, .commandComplete("SELECT 1")]
                + described + [.bindComplete, .commandComplete("SELECT 0"), .readyForQuery()],
            [
                "request: ok, 1 rows, 1 affected", "request: ok, 0 rows, 0 affected",
                "request: ok, 0 rows, 0 affected idle",
            ]),
        Dialogue(
            "an error in the middle of an atomic group",
            [
                .first(sync: false), .first(sync: false), .first(sync: false), .first(sync: false, closes: 1), .sync,
                .first(),
            ],
            described + [.bindComplete, row, .commandComplete("SELECT 1")]
                + [.parseComplete, .errorResponse("23505"), .readyForQuery()]
                + described + [.bindComplete, row, .commandComplete("SELECT 1"), .readyForQuery()],
            [
                "request: ok, 1 rows, 1 affected", "request: 23505, 0 rows, 0 affected",
                "request: aborted, 0 rows, 0 affected",
                "request: aborted, 0 rows, 0 affected", "request: aborted, 0 rows, 0 affected idle",
                "request: ok, 1 rows, 1 affected idle",
            ]),
        Dialogue(
            "an error at the Sync of an atomic group", [.first(sync: false), .sync],
            described + [.bindComplete, .commandComplete("INSERT 0 1"), .errorResponse("23503"), .readyForQuery()],
            ["request: ok, 0 rows, 1 affected", "request: 23503, 0 rows, 0 affected idle"]),
        Dialogue(
            "asynchronous messages everywhere", [.first()],
            [.noticeResponse("a")] + described + [.notificationResponse(channel: "c"), .bindComplete, row]
                + [.parameterStatus("TimeZone", "UTC"), row, .noticeResponse("b"), .commandComplete("SELECT 2")]
                + [.notificationResponse(channel: "d"), .readyForQuery(), .parameterStatus("x", "y")],
            [
                "notice a", "notification c", "parameter TimeZone", "notice b", "notification d",
                "request: ok, 2 rows, 2 affected idle", "parameter x",
            ]),
        Dialogue(
            "COPY FROM STDIN that nobody asked for", [.first()],
            described + [.bindComplete, .copyInResponse(), .errorResponse("57014"), .readyForQuery()],
            ["refuse copy, resync true", "request: copy, 0 rows, 0 affected idle"]),
        Dialogue(
            "COPY TO STDOUT that nobody asked for", [.first()],
            described + [.bindComplete, .copyOutResponse(), .copyData([1]), .copyData([]), .copyDone]
                + [.commandComplete("COPY 2"), .readyForQuery()],
            ["request: copy, 0 rows, 2 affected idle"]),
        Dialogue(
            "a script", [.script],
            [.commandComplete("CREATE TABLE"), .rowDescription([.int4]), .dataRow(["1"]), .commandComplete("SELECT 1")]
                + [.emptyQueryResponse, .commandComplete("INSERT 0 7"), .readyForQuery()],
            [
                "statement: ok, 0 rows, 0 affected", "statement: ok, 1 rows, 1 affected",
                "statement: ok, 0 rows, 7 affected",
                "request: ok, 0 rows, 0 affected idle",
            ]),
        Dialogue(
            "a script that fails", [.script, .sync],
            [.commandComplete("BEGIN"), .rowDescription([.int4]), .dataRow(["1"]), .errorResponse("22012")]
                + [.readyForQuery("E"), .readyForQuery()],
            [
                "statement: ok, 0 rows, 0 affected", "request: 22012, 1 rows, 0 affected failed",
                "request: ok, 0 rows, 0 affected idle",
            ]),
        Dialogue(
            "COPY FROM STDIN in a script", [.script],
            [.copyInResponse(), .errorResponse("57014"), .readyForQuery()],
            ["refuse copy, resync false", "request: copy, 0 rows, 0 affected idle"]),
        Dialogue(
            "a stream", [Request([.parses, .describes, .executes, .syncs, .streams])],
            described + [.bindComplete] + Array(repeating: row, count: 200) + [
                .commandComplete("SELECT 200"), .readyForQuery(),
            ],
            ["request: ok, 200 rows, 200 affected idle"]),
        Dialogue(
            "more rows than allowed", [Request([.parses, .describes, .executes, .syncs], rowByteLimit: 100), .sync],
            described + [.bindComplete] + Array(repeating: row, count: 20)
                + [.commandComplete("SELECT 20"), .readyForQuery(), .readyForQuery()],
            ["request: too large, 0 rows, 20 affected idle", "request: ok, 0 rows, 0 affected idle"]),
        Dialogue(
            "an error behind more rows than allowed",
            [Request([.parses, .describes, .executes, .syncs], rowByteLimit: 30)],
            described + [.bindComplete, row, row, row, .errorResponse("57014"), .readyForQuery()],
            ["request: 57014, 0 rows, 0 affected idle"]),
        Dialogue(
            "a portal in three pieces, and its end",
            [Request([.parses, .describes, .executes, .syncs, .limited]), fetch, fetch, Request(.syncs, closes: 1)],
            described + [.bindComplete, row, row, .portalSuspended, .readyForQuery("T")]
                + [row, row, .portalSuspended, .readyForQuery("T"), row, .commandComplete("SELECT 1")]
                + [.readyForQuery("T"), .closeComplete, .readyForQuery("T")],
            [
                "request: ok, 2 rows, 0 affected inTransaction", "request: ok, 2 rows, 0 affected inTransaction",
                "request: ok, 1 rows, 1 affected inTransaction", "request: ok, 0 rows, 0 affected inTransaction",
            ]),
        Dialogue(
            "a portal that is not there, and an error between rows", [fetch, fetch],
            [.errorResponse("34000"), .readyForQuery(), row, .errorResponse("22012"), .readyForQuery("E")],
            ["request: 34000, 0 rows, 0 affected idle", "request: 22012, 1 rows, 0 affected failed"]),
        Dialogue(
            "an error that answers nothing", [], [.errorResponse("57P01", severity: "FATAL")], ["farewell"]),
        Dialogue(
            "an error and then a fatal one", [.first()],
            [.errorResponse("42601"), .errorResponse("57P01", severity: "FATAL")], []),
    ]

    @Test(arguments: dialogues + copyDialogues)
    func `a dialogue gives the same events however its bytes arrive`(dialogue: Dialogue) throws {
        for sizes in [[Int.max], [1], [2], [3, 1, 4], [5], [6], [7, 64]] {
            let events = try SessionTranscript.events(dialogue.requests, dialogue.messages, split: sizes)
            #expect(events == dialogue.events, "pieces of \(sizes)")
        }
    }

    @Test(arguments: dialogues + copyDialogues)
    func `a dialogue cut at random gives the same events`(dialogue: Dialogue) throws {
        var random = SeededGenerator(seed: 7)
        for _ in 0..<20 {
            let sizes = (0..<400).map { _ in Int.random(in: 1...40, using: &random) }
            let events = try SessionTranscript.events(dialogue.requests, dialogue.messages, split: sizes)
            #expect(events == dialogue.events)
        }
    }

    // MARK: Legal and illegal

    /// A point in a reply, and the types of the messages that may come next.
    struct Position: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let requests: [Request]
        let before: [Message]
        let legal: String
    }

    static let positions: [Position] = [
        Position(testDescription: "nothing in flight", requests: [], before: [], legal: "E"),
        Position(testDescription: "Close", requests: [.first(closes: 1)], before: [], legal: "3E"),
        Position(
            testDescription: "the second Close", requests: [.first(closes: 2)], before: [.closeComplete], legal: "3E"),
        Position(testDescription: "behind Close", requests: [.first(closes: 1)], before: [.closeComplete], legal: "1E"),
        Position(testDescription: "Parse", requests: [.first()], before: [], legal: "1E"),
        Position(testDescription: "parameters", requests: [.first()], before: [.parseComplete], legal: "tE"),
        Position(
            testDescription: "columns", requests: [.first()], before: [.parseComplete, .parameterDescription([])],
            legal: "TnE"),
        Position(testDescription: "Bind", requests: [.first()], before: described, legal: "2E"),
        Position(testDescription: "Bind alone", requests: [Request([.executes, .syncs])], before: [], legal: "2E"),
        Position(testDescription: "rows", requests: [.first()], before: described + [.bindComplete], legal: "DCIGHE"),
        Position(
            testDescription: "rows of a portal that is opened",
            requests: [Request([.parses, .describes, .executes, .syncs, .limited])],
            before: described + [.bindComplete], legal: "DCIGHEs"),
        Position(testDescription: "rows of an open portal", requests: [fetch], before: [], legal: "DCIGHEs"),
        Position(
            testDescription: "behind a suspended portal", requests: [fetch], before: [row, .portalSuspended],
            legal: "ZE"),
        Position(
            testDescription: "behind a row", requests: [.first()], before: described + [.bindComplete, row],
            legal: "DCIGHE"),
        Position(
            testDescription: "Sync", requests: [.first()],
            before: described + [.bindComplete, .commandComplete("SELECT 0")],
            legal: "ZE"),
        Position(testDescription: "Sync alone", requests: [.sync], before: [], legal: "ZE"),
        Position(
            testDescription: "behind an error", requests: [.first()], before: [.errorResponse("42601")], legal: "Z"),
        Position(
            testDescription: "behind an error of a group", requests: [.first(sync: false), .first(sync: false), .sync],
            before: [.errorResponse("42601")], legal: "Z"),
        Position(testDescription: "a script", requests: [.script], before: [], legal: "TCIGHEZ"),
        Position(
            testDescription: "rows of a script", requests: [.script], before: [.rowDescription([.int4])], legal: "DCE"),
        Position(testDescription: "the end of a reply", requests: [.sync], before: [.readyForQuery()], legal: "E"),
    ]

    static let samples: [Message] = [
        .authenticationOk, .backendKeyData(), .bindComplete, .closeComplete, .commandComplete("SELECT 1"),
        .copyBothResponse(),
        .copyData([1]), .copyDone, .copyInResponse(), .copyOutResponse(), row, .emptyQueryResponse,
        .errorResponse("42601"),
        .functionCallResponse(nil), .negotiateProtocolVersion(newest: 3 << 16), .noData, .parameterDescription([]),
        .parseComplete, .portalSuspended, .readyForQuery(), .rowDescription([.int4]),
    ]

    @Test(arguments: positions + copyPositions)
    func `every message is legal or breaks the protocol`(position: Position) throws {
        for sample in Self.samples {
            let isLegal = position.legal.utf8.contains(sample.bytes[0])
            var transcript = SessionTranscript(position.requests)
            try transcript.feed(position.before.flatMap(\.bytes))
            var failure: ProtocolError?
            do { try transcript.feed(sample) } catch { failure = error }
            #expect((failure == nil) == isLegal, "\(Character(UnicodeScalar(sample.bytes[0])))")
        }
        for sample in [Message.noticeResponse("n"), .notificationResponse(channel: "c"), .parameterStatus("a", "b")] {
            var transcript = SessionTranscript(position.requests)
            try transcript.feed(position.before.flatMap(\.bytes))
            let count = transcript.events.count
            try transcript.feed(sample)
            #expect(transcript.events.count == count + 1)
        }
    }

    @Test(arguments: positions + copyPositions)
    func `a type that no server sends, or a length that none has, is refused by the header`(position: Position) throws {
        for header in [
            Message(type: "?", length: 100), Message(type: "D", length: 3), Message(type: "Z", length: 30_001),
            Message(type: "D", length: -1), Message(type: "C", length: .min), Message(type: "N", length: .max),
        ] {
            var transcript = SessionTranscript(position.requests)
            try transcript.feed(position.before.flatMap(\.bytes))
            #expect(throws: ProtocolError.self) { try transcript.feed(header) }
        }
    }

    /// Of binary COPY data only the bytes tell what is legal.
    static let headerPositions = (positions + copyPositions).filter {
        !["copying rows out", "behind the trailer"].contains($0.testDescription)
    }

    @Test(arguments: headerPositions)
    func `what is illegal is refused by its header, and what is legal waits for the rest`(position: Position) throws {
        for sample in Self.samples {
            // A fatal error may come at any time.
            let isLegal = (position.legal + "E").utf8.contains(sample.bytes[0])
            // Long enough that its body is not all there, for those that may be long.
            let length: Int32 = "TDdEV".utf8.contains(sample.bytes[0]) ? 1_000_000 : 20_000
            let header = Message(type: Character(UnicodeScalar(sample.bytes[0])), length: length).bytes.prefix(5)
            for pieces in [[Array(header)], header.map { [$0] }, [Array(header.prefix(4)), Array(header.suffix(1))]] {
                var transcript = SessionTranscript(position.requests)
                try transcript.feed(position.before.flatMap(\.bytes))
                var failure: ProtocolError?
                do throws(ProtocolError) {
                    for piece in pieces { try transcript.feed(piece) }
                } catch {
                    failure = error
                }
                #expect((failure == nil) == isLegal, "\(Character(UnicodeScalar(sample.bytes[0])))")
            }
        }
        for type: Character in ["N", "A", "S"] {
            var transcript = SessionTranscript(position.requests)
            try transcript.feed(position.before.flatMap(\.bytes))
            try transcript.feed(Message(type: type, length: 20_000).bytes)
        }
    }

    @Test func `a farewell that comes in pieces is read when it is whole`() throws {
        let bytes = Message.errorResponse("57P01", severity: "FATAL").bytes
        for size in [1, 5, 6, bytes.count - 1] {
            var transcript = SessionTranscript([])
            try transcript.feed(Array(bytes.prefix(size)))
            #expect(transcript.inbound.farewell == nil)
            try transcript.feed(Array(bytes.dropFirst(size)))
            #expect(transcript.inbound.farewell?.sqlState == "57P01")
        }
    }

    // MARK: Rows

    @Test func `a row is checked against the description`() throws {
        for bad in [
            Message.dataRow([[UInt8]?]()), .dataRow([[1], [2]]), Message(type: "D"), Message(type: "D", body: [0]),
            Message(type: "D", body: [0, 1, 0xFF, 0xFF, 0xFF, 0xFE]), Message(type: "D", body: [0, 1, 0, 0, 0, 2, 1]),
        ] {
            for sizes in [[Int.max], [1]] {
                #expect(throws: ProtocolError.self) {
                    try SessionTranscript.events([.first()], Self.described + [.bindComplete, bad], split: sizes)
                }
            }
        }
    }

    @Test func `a block of rows that somebody holds is not filled again`() throws {
        var transcript = SessionTranscript([.first(), .first()])
        try transcript.feed((Self.described + [.bindComplete, Self.row]).flatMap(\.bytes))
        try transcript.feed(.commandComplete("SELECT 1"))
        var kept: StatementResult?
        // Taken by hand: the transcript lets go of its results.
        Message.readyForQuery().bytes.withUnsafeBytes { transcript.inbound.buffer.append($0) }
        if case .finished = try transcript.inbound.next() { kept = transcript.inbound.takeResult() }
        let chunk = try #require(kept?.firstChunk)
        let before = Array(UnsafeRawBufferPointer(start: chunk.base, count: chunk.byteCount))
        try transcript.feed((Self.described + [.bindComplete, .dataRow([[9, 9, 9, 9]])]).flatMap(\.bytes))
        #expect(Array(UnsafeRawBufferPointer(start: chunk.base, count: chunk.byteCount)) == before)
        #expect(chunk.rowCount == 1)
    }

    @Test func `a fatal error is kept as the farewell`() throws {
        var transcript = SessionTranscript([.first()])
        try transcript.feed(.parseComplete, .errorResponse("57P01", severity: "FATAL"))
        #expect(transcript.inbound.farewell?.sqlState == "57P01")
        var other = SessionTranscript([.first()])
        try other.feed(.errorResponse("42601"))
        #expect(other.inbound.farewell == nil)
    }

    @Test func `random bytes never trap`() {
        var random = SeededGenerator(seed: 42)
        let pool =
            Self.samples + [
                .noticeResponse("n"), .parameterStatus("a", "b"), .errorResponse("57P01", severity: "FATAL"),
            ]
        for _ in 0..<3000 {
            var bytes = (0..<Int.random(in: 1...12, using: &random)).flatMap { _ in
                pool.randomElement(using: &random)?.bytes ?? []
            }
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            let requests: [Request] = [
                .first(closes: 1), .first(sync: false), .sync, .copyOut, .copyRows, .copyIn, .script, .sync,
            ]
            // The same end, whole and byte by byte.
            var ends: [String] = []
            for size in [bytes.count, 1] {
                var transcript = SessionTranscript(requests)
                var end = ""
                do {
                    for start in stride(from: 0, to: bytes.count, by: size) {
                        try transcript.feed(Array(bytes[start..<min(start + size, bytes.count)]))
                    }
                } catch { end = "thrown" }
                ends.append("\(transcript.events) \(end)")
            }
            #expect(ends[0] == ends[1])
        }
    }
}
