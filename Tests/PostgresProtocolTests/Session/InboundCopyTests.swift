import PostgresProtocol
import Testing

@testable import PostgresTesting

extension Request {
    static let copyIn = Request([.simple, .copiesIn])
    static let copyOut = Request([.simple, .copiesOut])
    static let copyRows = Request([.simple, .copiesOut, .streams])
}

/// COPY that was asked for; the tests of ``InboundTests`` run these, too.
extension InboundTests {
    static let signature: [UInt8] = [0x50, 0x47, 0x43, 0x4F, 0x50, 0x59, 0x0A, 0xFF, 0x0D, 0x0A, 0x00]
    static let header = signature + [0, 0, 0, 0, 0, 0, 0, 0]
    static let trailer: [UInt8] = [0xFF, 0xFF]
    /// A tuple of one int4.
    static func tuple(_ number: UInt8) -> [UInt8] { [0, 1, 0, 0, 0, 4, 0, 0, 0, number] }

    static let copyDialogues: [Dialogue] = [
        Dialogue(
            "COPY FROM STDIN", [.copyIn, .sync],
            [.copyInResponse(columns: 3), .commandComplete("COPY 7"), .readyForQuery("T"), .readyForQuery()],
            [
                "copy of 3 columns, text", "request: ok, 0 rows, 7 affected inTransaction",
                "request: ok, 0 rows, 0 affected idle",
            ]),
        Dialogue(
            "COPY FROM STDIN that is refused", [.copyIn, .first()],
            [.errorResponse("42P01"), .readyForQuery()] + described
                + [.bindComplete, .commandComplete("SELECT 0"), .readyForQuery()],
            ["request: 42P01, 0 rows, 0 affected idle", "request: ok, 0 rows, 0 affected idle"]),
        Dialogue(
            "an error while copying in", [.copyIn, .sync],
            [.copyInResponse(), .errorResponse("22P02"), .readyForQuery("E"), .readyForQuery("E")],
            [
                "copy of 1 columns, text", "request: 22P02, 0 rows, 0 affected failed",
                "request: ok, 0 rows, 0 affected failed",
            ]),
        Dialogue(
            "an error behind the end of a copy", [.copyIn],
            [.copyInResponse(), .commandComplete("COPY 7"), .errorResponse("23503"), .readyForQuery()],
            ["copy of 1 columns, text", "request: 23503, 0 rows, 7 affected idle"]),
        Dialogue(
            "asynchronous messages while copying", [.copyIn, .copyOut],
            [.copyInResponse(), .noticeResponse("n"), .commandComplete("COPY 0"), .readyForQuery()]
                + [.copyOutResponse(), .copyData([1]), .parameterStatus("a", "b"), .copyData([2])]
                + [.notificationResponse(channel: "c"), .copyDone, .noticeResponse("m"), .commandComplete("COPY 2")]
                + [.readyForQuery()],
            [
                "copy of 1 columns, text", "notice n", "request: ok, 0 rows, 0 affected idle",
                "copy of 1 columns, text", "parameter a", "notification c", "notice m",
                "request: ok, 2 rows, 2 affected idle",
            ]),
        Dialogue(
            "COPY TO STDOUT", [.copyOut, .first()],
            [.copyOutResponse(columns: 2), .copyData([1, 2, 3]), .copyData([9]), .copyData([4]), .copyDone]
                + [.commandComplete("COPY 3"), .readyForQuery()] + described
                + [.bindComplete, row, .commandComplete("SELECT 1"), .readyForQuery()],
            ["copy of 2 columns, text", "request: ok, 3 rows, 3 affected idle", "request: ok, 1 rows, 1 affected idle"]
        ),
        Dialogue(
            "COPY TO STDOUT of nothing", [.copyOut],
            [.copyOutResponse(), .copyDone, .commandComplete("COPY 0"), .readyForQuery()],
            ["copy of 1 columns, text", "request: ok, 0 rows, 0 affected idle"]),
        Dialogue(
            "an error in the middle of COPY TO STDOUT", [.copyOut, .sync],
            [.copyOutResponse(), .copyData([1]), .errorResponse("22012"), .readyForQuery(), .readyForQuery()],
            [
                "copy of 1 columns, text", "request: 22012, 1 rows, 0 affected idle",
                "request: ok, 0 rows, 0 affected idle",
            ]),
        Dialogue(
            "binary COPY as rows", [.copyRows],
            [.copyOutResponse(isBinary: true), .copyData(header + tuple(1)), .copyData(tuple(2)), .copyData(trailer)]
                + [.copyDone, .commandComplete("COPY 2"), .readyForQuery()],
            ["copy of 1 columns, binary", "request: ok, 2 rows, 2 affected idle"]),
        Dialogue(
            "binary COPY as rows, the header alone, extended", [.copyRows],
            [.copyOutResponse(isBinary: true), .copyData(signature + [0, 0, 0, 1, 0, 0, 0, 2, 9, 9])]
                + [.copyData(tuple(2)), .copyData(trailer), .copyDone, .commandComplete("COPY 1"), .readyForQuery()],
            ["copy of 1 columns, binary", "request: ok, 1 rows, 1 affected idle"]),
        Dialogue(
            "binary COPY of no rows", [.copyRows],
            [.copyOutResponse(isBinary: true), .copyData(header + trailer), .copyDone, .commandComplete("COPY 0")]
                + [.readyForQuery()],
            ["copy of 1 columns, binary", "request: ok, 0 rows, 0 affected idle"]),
    ]

    static let copyPositions: [Position] = [
        Position(testDescription: "COPY FROM STDIN", requests: [.copyIn], before: [], legal: "GE"),
        Position(testDescription: "copying in", requests: [.copyIn], before: [.copyInResponse()], legal: "CE"),
        Position(
            testDescription: "the end of copying in", requests: [.copyIn],
            before: [.copyInResponse(), .commandComplete("COPY 1")], legal: "ZE"),
        Position(
            testDescription: "behind an error of copying in", requests: [.copyIn],
            before: [.copyInResponse(), .errorResponse("22P02")], legal: "Z"),
        Position(testDescription: "COPY TO STDOUT", requests: [.copyOut], before: [], legal: "HE"),
        Position(testDescription: "copying out", requests: [.copyOut], before: [.copyOutResponse()], legal: "dcE"),
        Position(
            testDescription: "behind CopyDone", requests: [.copyOut], before: [.copyOutResponse(), .copyDone],
            legal: "CE"),
        Position(
            testDescription: "the end of copying out", requests: [.copyOut],
            before: [.copyOutResponse(), .copyDone, .commandComplete("COPY 0")], legal: "ZE"),
        Position(
            testDescription: "copying rows out", requests: [.copyRows], before: [.copyOutResponse(isBinary: true)],
            legal: "E"),
        Position(
            testDescription: "behind the trailer", requests: [.copyRows],
            before: [.copyOutResponse(isBinary: true), .copyData(header + trailer)], legal: "cE"),
    ]

    @Test(arguments: [[Int.max], [1], [2], [3, 1, 4], [5], [6], [7, 64]])
    func `what is copied out is the bytes of the messages, without their headers`(sizes: [Int]) throws {
        let pieces: [[UInt8]] = [[1, 2, 3], [], [4], Array(repeating: 7, count: 70_000), [5, 6]]
        var transcript = SessionTranscript([.copyOut])
        var rest = ([.copyOutResponse()] + pieces.map(Message.copyData) + [.copyDone]).flatMap(\.bytes)[...]
        for size in sizes + Array(repeating: max(sizes.last ?? 1, 64), count: 3000) where !rest.isEmpty {
            try transcript.feed(Array(rest.prefix(size)))
            rest = rest.dropFirst(size)
        }
        #expect(rest.isEmpty)
        #expect(transcript.streamed == pieces.flatMap { $0 })
    }

    @Test func `tuples become rows with a header each`() throws {
        var transcript = SessionTranscript([.copyRows])
        try transcript.feed(
            .copyOutResponse(isBinary: true), .copyData(Self.header + Self.tuple(1)), .copyData(Self.tuple(2)),
            .copyData(Self.trailer))
        let rows = transcript.streamed
        #expect(Array(rows[1..<15]) == [0, 0, 0, 14] + Self.tuple(1))
        #expect(Array(rows[16...]) == [0, 0, 0, 14] + Self.tuple(2))
    }

    @Test(
        arguments: [
            [signature.dropLast() + [1]], [Array(signature)], [signature + [0, 1, 0, 0, 0, 0, 0, 0]],
            [signature + [0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]], [signature + [0, 0, 0, 0, 0, 0, 0, 9]],
            [signature + [0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF]], [[]], [header + [0]], [header + [0, 2, 0, 0, 0, 0]],
            [header + tuple(1) + [0]], [header, []], [header, [0]], [header, [0, 0]],
            [header, Array(tuple(1).dropLast())],
            [header, tuple(1) + tuple(2)], [header, [0, 1, 0xFF, 0xFF, 0xFF, 0xFE]], [header, [0xFF, 0xFE]],
            [header, trailer, tuple(1)], [header, trailer, trailer],
        ] as [[[UInt8]]])
    func `what is no binary COPY of this many columns breaks the protocol`(pieces: [[UInt8]]) throws {
        for sizes in [[Int.max], [1]] {
            #expect(throws: ProtocolError.self) {
                try SessionTranscript.events(
                    [.copyRows], [.copyOutResponse(isBinary: true)] + pieces.map(Message.copyData), split: sizes)
            }
        }
    }

    @Test func `rows are made of binary COPY only`() throws {
        #expect(throws: ProtocolError.self) { try SessionTranscript.events([.copyRows], [.copyOutResponse()]) }
    }

    @Test func `a copy that is thrown away is still read`() throws {
        var transcript = SessionTranscript([.copyOut, .sync])
        try transcript.feed(.copyOutResponse(), .copyData([1]))
        transcript.inbound.discardRows()
        try transcript.feed(.copyData([2]), .copyDone, .commandComplete("COPY 2"), .readyForQuery(), .readyForQuery())
        #expect(transcript.streamed == [1])
        #expect(transcript.events.count == 3)
    }
}
