import PostgresProtocol
import PostgresTransport
import Synchronization
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// COPY against a server that follows a script.
@Suite(.inTurn, .timeLimit(.minutes(2)))
struct CopyTests {
    private struct SourceFailure: Error, Equatable {}

    static let done: [Message] = [.commandComplete("COPY 2"), .readyForQuery()]
    static let failed: [Message] = [.errorResponse("57014", "COPY from stdin failed"), .readyForQuery()]

    /// Answers a statement of the usual kind behind what was still on its way.
    static let answerBehindData: [Step] = [
        .receive(until: .sync), .send(Message.reply(columns: [.int4], rows: [[Int32(5).bytes]])),
    ]

    // MARK: In

    @Test func `a COPY is a Query, CopyData and CopyDone`() async throws {
        try await withMock([
            .expect(bytes: Self.query("COPY \"a\"\"b\".\"t\" (\"n\") FROM STDIN WITH (FORMAT csv, NULL 'it''s')")),
            .send(.copyInResponse(columns: 2, isBinary: true)),
            .expect(bytes: Message(type: "d", body: Array("one\ntwo\n".utf8)).bytes), .expect(.copyDone),
            .send(Self.done), .answer(4),
        ]) { db, _ in
            let count = try await db.copy(
                into: "t", schema: "a\"b", columns: ["n"], format: .csv(null: "it's")
            ) { writer in
                #expect(writer.columnCount == 2)
                #expect(writer.format == .binary)
                try await writer.write("one\n")
                try await writer.write([UInt8]("two\n".utf8))
            }
            #expect(count == 2)
            try await expectNumber(4, db)
        }
    }

    private static func query(_ sql: String) -> [UInt8] { Message(type: "Q", body: Array(sql.utf8) + [0]).bytes }

    @Test func `a COPY that the server refuses sends nothing`() async throws {
        try await withMock([
            .expect(.query), .send(.errorResponse("42P01"), .readyForQuery()), .answer(4),
        ]) { db, _ in
            let error = await failure { try await db.copy(into: "t") { _ in Issue.record("there is no COPY") } }
            #expect(error?.code == .undefinedTable)
            #expect(error?.outcome == .rejected)
            #expect(error?.sql == "COPY \"t\" FROM STDIN")
            try await expectNumber(4, db)
        }
    }

    @Test func `an error of the server stops the sender`() async throws {
        try await withMock(
            [.expect(.query), .send(.copyInResponse()), .expect(.copyData)]
                + [.send(.errorResponse("22P02", "bad"), .readyForQuery())] + Self.answerBehindData
        ) { db, server in
            let error = await failure {
                try await db.copy(into: "t") { writer in
                    // Until it is told; for ever, if it never is.
                    while true { try await writer.write([UInt8](repeating: 10, count: 65_536)) }
                }
            }
            #expect(error?.code == .invalidTextRepresentation)
            #expect(error?.outcome == .rejected)
            try await expectNumber(5, db)
            #expect(!server.messages().contains { $0.kind == .copyDone || $0.kind == .copyFail })
        }
    }

    @Test func `an error that the writer's closure ignores is an error of the COPY`() async throws {
        try await withMock(
            [.expect(.query), .send(.copyInResponse()), .expect(.copyData)]
                + [.send(.errorResponse("23505", "twice"), .readyForQuery())] + Self.answerBehindData
        ) { db, _ in
            let error = await failure {
                try await db.copy(into: "t") { writer in
                    while (try? await writer.write([UInt8](repeating: 10, count: 65_536))) != nil {}
                }
            }
            #expect(error?.code == .uniqueViolation)
            try await expectNumber(5, db)
        }
    }

    @Test func `what the source throws arrives as itself, behind CopyFail`() async throws {
        try await withMock([
            .expect(.query), .send(.copyInResponse()), .expect([.copyData, .copyFail]), .send(Self.failed), .answer(4),
        ]) { db, _ in
            await #expect(throws: SourceFailure()) {
                try await db.copy(into: "t") { writer in
                    try await writer.write("1\n")
                    try await writer.flush()
                    throw SourceFailure()
                }
            }
            try await expectNumber(4, db)
        }
    }

    @Test func `a cancelled task gives the COPY up`() async throws {
        let written = Gate()
        try await withMock([
            .expect(.query), .send(.copyInResponse()), .expect(.copyData), .open(written), .expect(.copyFail),
            .send(Self.failed), .answer(4),
        ]) { db, _ in
            let copy = Task { () -> PostgresError? in
                await failure {
                    try await db.copy(into: "t") { writer in
                        try await writer.write("1\n")
                        try await writer.flush()
                        while true {
                            await Task.yield()
                            try await writer.write("")
                            if Task.isCancelled { try await writer.write("2\n") }
                            if Task.isCancelled { return }
                        }
                    }
                }
            }
            await written.opened()
            copy.cancel()
            let error = await copy.value
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .rejected)
            try await expectNumber(4, db)
        }
    }

    @Test func `behind the deadline CopyDone is not sent`() async throws {
        let script: [Step] = [
            .acceptTrust(), .expect(.query), .send(.copyInResponse()), .expect(.copyData), .expect(.copyFail),
            .send(Self.failed), .answer(4),
        ]
        // A server that is busy may be asked to cancel, too.
        try await MockCancellingTests.with([script, [.expect(.cancelRequest), .close]]) { db, _ in
            let error = await failure {
                try await withPostgresTimeout(.seconds(5)) {
                    try await db.copy(into: "t") { writer in
                        try await writer.write("1\n")
                        try await writer.flush()
                        while !PostgresScope.hasEnded { try await Task.sleep(for: .milliseconds(5)) }
                    }
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            try await expectNumber(4, db)
        }
    }

    @Test func `a source that ends because its task was cancelled has not ended`() async throws {
        let begun = Gate()
        try await withMock([
            .expect(.query), .send(.copyInResponse()), .open(begun), .expect(.copyFail), .send(Self.failed),
            .answer(4),
        ]) { db, _ in
            // An AsyncStream says that it is at its end when its task is cancelled.
            let (source, continuation) = AsyncStream<[UInt8]>.makeStream()
            let copy = Task { () -> PostgresError? in
                await failure { try await db.copy(into: "t", from: source) }
            }
            await begun.opened()
            copy.cancel()
            let error = await copy.value
            #expect(error?.code == .cancelled)
            continuation.finish()
            try await expectNumber(4, db)
        }
    }

    @Test func `a COPY that is cancelled before the server has answered leaves the connection to others`() async throws
    {
        let asked = Gate()
        try await withMock([
            .expect(.query), .open(asked), .expect(.copyFail), .send([.copyInResponse()] + Self.failed), .answer(4),
        ]) { db, _ in
            let copy = Task { () -> PostgresError? in
                await failure { try await db.copy(into: "t") { _ in Issue.record("there is no COPY") } }
            }
            await asked.opened()
            copy.cancel()
            let error = await copy.value
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .rejected)
            try await expectNumber(4, db)
        }
    }

    @Test func `statements of other tasks wait for the end of a COPY`() async throws {
        let begun = Gate()
        try await withMock([
            .expect(.query), .send(.copyInResponse()), .open(begun), .expect([.copyData, .copyDone]), .send(Self.done),
            .answer(4),
        ]) { db, _ in
            async let copied = db.copy(into: "t") { writer in
                await eventually { db.core.state.withLock { $0.waitingForRoom.count == 1 } }
                try await writer.write("1\n")
            }
            await begun.opened()
            try await expectNumber(4, db)
            let count = try await copied
            #expect(count == 2)
        }
    }

    private final class Counter: Sendable {
        let count = Atomic<Int>(0)
    }

    @Test func `a writer waits while the server does not read`() async throws {
        let reading = Gate()
        try await withMock([
            .expect(.query), .send(.copyInResponse()), .wait(for: reading), .receive(until: .copyDone),
            .send(Self.done), .answer(4),
        ]) { db, _ in
            let written = Counter()
            async let count = db.copy(into: "t") { writer in
                for _ in 0..<1000 {
                    try await writer.write([UInt8](repeating: 10, count: 65_536))
                    written.count.add(1, ordering: .relaxed)
                }
            }
            await eventually { !db.core.state.withLock { $0.waitingForRoom.isEmpty } }
            // A megabyte that waits, one that the sender has, and what sockets hold.
            #expect(written.count.load(ordering: .relaxed) < 500)
            #expect(db.core.state.withLock { $0.pending.count } < ConnectionState.pendingLimit + 300_000)
            reading.open()
            let copied = try await count
            #expect(copied == 2)
            try await expectNumber(4, db)
        }
    }

    private static let pattern = (0..<300_100).map { UInt8(truncatingIfNeeded: $0 &* 7) }

    /// Longer than a writer waits for the socket, and shorter: what is sent from where it lies, and what is copied, in order.
    @Test(arguments: [0, 1, 3, 12])
    func `nothing is lost or changes places while the server reads in fits`(milliseconds: Int) async throws {
        let fits = (0..<20).flatMap { _ in
            [Step.delay(.milliseconds(milliseconds)), .expect(.copyData), .expect(.copyData)]
        }
        try await withMock(
            [.expect(.query), .send(.copyInResponse())] + fits
                + [.delay(.milliseconds(2 * milliseconds)), .receive(until: .copyDone), .send(Self.done), .answer(4)]
        ) { db, server in
            let pieces = (0..<60).map { piece in
                Array(Self.pattern[piece..<(piece + (piece.isMultiple(of: 3) ? 300_000 : 70_000))])
            }
            try await db.copy(into: "t") { writer in
                for piece in pieces { try await writer.write(piece) }
            }
            let received = server.messages().filter { $0.kind == .copyData }.flatMap(\.body)
            let isEqual = received == pieces.flatMap { $0 }
            #expect(isEqual)
            try await expectNumber(4, db)
        }
    }

    @Test func `a connection that is lost in the middle leaves the outcome unknown`() async throws {
        try await withMock([.expect(.query), .send(.copyInResponse()), .expect(.copyData), .close]) { db, _ in
            let error = await failure {
                try await db.copy(into: "t") { writer in
                    while true { try await writer.write([UInt8](repeating: 10, count: 65_536)) }
                }
            }
            #expect(error?.code == .connectionLost)
            #expect(error?.outcome == .unknown)
            #expect(db.isClosed)
        }
    }

    @Test func `a connection that is lost behind CopyDone leaves the outcome unknown`() async throws {
        try await withMock([.expect(.query), .send(.copyInResponse()), .expect(.copyDone), .close]) { db, _ in
            let error = await failure { try await db.copy(into: "t") { _ in } }
            #expect(error?.code == .connectionLost)
            #expect(error?.outcome == .unknown)
        }
    }

    @Test func `close ends a COPY`() async throws {
        let begun = Gate()
        try await withMock([.expect(.query), .send(.copyInResponse()), .open(begun), .expectClose]) { db, _ in
            let error = await failure {
                try await db.copy(into: "t") { writer in
                    await begun.opened()
                    db.close()
                    try await writer.write("1\n")
                }
            }
            #expect(error?.code == .connectionClosed)
        }
    }

    @Test(
        arguments: [
            [.copyOutResponse()], [.copyBothResponse()], [.commandComplete("COPY 1"), .readyForQuery()],
            [.rowDescription([.int4])], [.readyForQuery()], [.emptyQueryResponse], [.copyData([1])],
            [.copyInResponse(), .copyData([1])], [.copyInResponse(), .copyDone],
            [.copyInResponse(), .copyInResponse()],
            [.copyInResponse(), .readyForQuery()],
        ] as [[Message]])
    func `what is no answer to COPY FROM STDIN breaks the connection`(answer: [Message]) async throws {
        try await withMock([.expect(.query), .send(answer), .receive(until: .copyData)], mayEndEarly: true) { db, _ in
            let error = await failure {
                try await db.copy(into: "t") { writer in
                    while true {
                        try await writer.write([10])
                        try await writer.flush()
                    }
                }
            }
            #expect(error?.code == .brokenProtocol)
            #expect(db.isClosed)
        }
    }

    @Test func `a server that ends a COPY before all of it was sent is not believed`() async throws {
        let ended = Gate()
        try await withMock([.expect(.query), .send([.copyInResponse()] + Self.done), .open(ended), .answer(4)]) {
            db, _ in
            let error = await failure {
                try await db.copy(into: "t") { _ in
                    await ended.opened()
                    await eventually { db.core.state.withLock { $0.queue.isEmpty } }
                }
            }
            #expect(error?.code == .brokenProtocol)
            try await expectNumber(4, db)
        }
    }

    @Test func `a writer is of no use after its COPY`() async throws {
        try await withMock([
            .expect(.query), .send(.copyInResponse()), .expect(.copyDone), .send(Self.done), .answer(4),
        ]) {
            db, _ in
            var kept: PostgresCopyWriter?
            try await db.copy(into: "t") { writer in kept = writer }
            let error = await failure {
                try await kept?.write("1\n")
                try await kept?.flush()
            }
            #expect(error?.code == .unsupported)
            try await expectNumber(4, db)
        }
    }

    // MARK: Typed rows in

    static func describes(_ columns: [Message.Column]) -> Step {
        .steps([
            .expect([.parse, .describe, .sync]),
            .send(.parseComplete, .parameterDescription([]), .rowDescription(columns), .readyForQuery()),
        ])
    }

    @Test func `typed rows are described, and sent as binary tuples`() async throws {
        let tuples: [UInt8] =
            [0, 2, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 2] + Array("é".utf8) + [0, 2, 0, 0, 0, 4, 0, 0, 0, 8]
            + [0xFF, 0xFF, 0xFF, 0xFF]
        let file: [UInt8] =
            [0x50, 0x47, 0x43, 0x4F, 0x50, 0x59, 0x0A, 0xFF, 0x0D, 0x0A, 0x00] + [0, 0, 0, 0, 0, 0, 0, 0] + tuples
            + [0xFF, 0xFF]
        try await withMock([
            Self.describes([.int4, Message.Column("s")]),
            .expect(bytes: Self.query("COPY \"t\" (\"n\", \"s\") FROM STDIN WITH (FORMAT binary)")),
            .send(.copyInResponse(columns: 2, isBinary: true)),
            .expect(bytes: Message(type: "d", body: file).bytes), .expect(.copyDone), .send(Self.done), .answer(4),
        ]) { db, _ in
            let rows: [(Int32, String?)] = [(7, "é"), (8, nil)]
            let count = try await db.copy(into: "t", columns: ["n", "s"], rows: rows)
            #expect(count == 2)
            try await expectNumber(4, db)
        }
    }

    @Test func `values of another type than the column's are refused before the COPY`() async throws {
        try await withMock([Self.describes([.int4]), Self.describes([.int4, .int4]), .answer(4)]) { db, _ in
            let type = await failure { try await db.copy(into: "t", column: "n", values: [1, 2]) }
            #expect(type?.code == .typeMismatch)
            #expect(type?.outcome == .notSent)
            #expect(type?.hint == "pass Int32")
            let count = await failure { try await db.copy(into: "t", column: "n", values: [Int32(1)]) }
            #expect(count?.code == .columnCount)
            let names = await failure { try await db.copy(into: "t", columns: ["n"], rows: [(1, 2)]) }
            #expect(names?.code == .columnCount)
            try await expectNumber(4, db)
        }
    }

    @Test func `a value that cannot be encoded gives the COPY up`() async throws {
        try await withMock([
            Self.describes([Message.Column("s")]), .expect(.query), .send(.copyInResponse(isBinary: true)),
            .expect(.copyFail), .send(Self.failed), .answer(4),
        ]) { db, _ in
            let error = await failure { try await db.copy(into: "t", column: "s", values: ["a", "b\0"]) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.outcome == .rejected)
            #expect(error?.message.hasPrefix("row 1: ") == true)
            try await expectNumber(4, db)
        }
    }

    // MARK: Out

    @Test func `what is copied out comes in pieces of whole messages`() async throws {
        try await withMock([
            .expect(bytes: Self.query("COPY (SELECT 1 -- one\n) TO STDOUT")),
            .send(
                [.copyOutResponse(), .copyData(Array("a\n".utf8)), .copyData([]), .copyData(Array("b\n".utf8))]
                    + [.copyDone] + Self.done), .answer(4),
        ]) { db, _ in
            let chunks = try await db.copy(rowsOf: "SELECT 1 -- one")
            var bytes: [UInt8] = []
            for try await chunk in chunks { bytes += chunk }
            #expect(String(decoding: bytes, as: UTF8.self) == "a\nb\n")
            #expect(chunks.rowCount == 2)
            try await expectNumber(4, db)
        }
    }

    @Test func `a COPY that is left early is read to its end`() async throws {
        let piece = Message.copyData([UInt8](repeating: 10, count: 10_000))
        try await withMock([
            .expect(.query), .send([.copyOutResponse()] + Array(repeating: piece, count: 1000)),
            .send([.copyDone] + Self.done), .answer(4),
        ]) { db, _ in
            for try await _ in try await db.copy(from: "t") { break }
            try await expectNumber(4, db)
        }
    }

    @Test func `a consumer that does not read holds the server back`() async throws {
        let sent = Gate()
        let piece = Message.copyData([UInt8](repeating: 10, count: 10_000))
        try await withMock([
            .expect(.query), .send([.copyOutResponse()] + Array(repeating: piece, count: 3200)), .open(sent),
            .send([.copyDone] + Self.done), .answer(4),
        ]) { db, _ in
            var count = 0
            for try await chunk in try await db.copy(from: "t") {
                if count == 0 {
                    for _ in 0..<1000 { await Task.yield() }
                    let buffered = db.core.state.withLock { $0.openStream?.bytes ?? 0 }
                    #expect(buffered < RowStream.limit + 256 * 1024)
                    #expect(!sent.isOpen)
                }
                count += chunk.count
            }
            #expect(count == 32_000_000)
            try await expectNumber(4, db)
        }
    }

    @Test func `an error in the middle comes behind the bytes before it`() async throws {
        try await withMock([
            .expect(.query),
            .send(.copyOutResponse(), .copyData([1]), .errorResponse("22012"), .readyForQuery()), .answer(4),
        ]) { db, _ in
            var bytes: [UInt8] = []
            let error = await failure { for try await chunk in try await db.copy(from: "t") { bytes += chunk } }
            #expect(error?.code == .divisionByZero)
            #expect(bytes == [1])
            try await expectNumber(4, db)
        }
    }

    @Test(
        arguments: [
            [.copyInResponse()], [.copyBothResponse()], [.commandComplete("COPY 1")], [.copyData([1])],
            [.copyOutResponse(), .copyDone, .copyData([1])], [.copyOutResponse(), .copyDone, .copyDone],
            [.copyOutResponse(), .commandComplete("COPY 0")], [.copyOutResponse(), .readyForQuery()],
            [.copyOutResponse(), .copyDone, .readyForQuery()], [.copyOutResponse(), .dataRow([[1]])],
        ] as [[Message]])
    func `what is no answer to COPY TO STDOUT breaks the connection`(answer: [Message]) async throws {
        try await withMock([.expect(.query), .send(answer)], mayEndEarly: true) { db, _ in
            let error = await failure { for try await _ in try await db.copy(from: "t") {} }
            #expect(error?.code == .brokenProtocol)
            #expect(db.isClosed)
        }
    }

    @Test func `typed rows out are binary tuples, read by the described types`() async throws {
        let header: [UInt8] = [
            0x50, 0x47, 0x43, 0x4F, 0x50, 0x59, 0x0A, 0xFF, 0x0D, 0x0A, 0x00, 0, 0, 0, 0, 0, 0, 0, 0,
        ]
        try await withMock([
            Self.describes([.int4]), .expect(.query),
            .send(
                [.copyOutResponse(isBinary: true), .copyData(header + [0, 1, 0, 0, 0, 4, 0, 0, 0, 7])]
                    + [.copyData([0, 1, 0, 0, 0, 4, 0, 0, 0, 8]), .copyData([0xFF, 0xFF]), .copyDone] + Self.done),
            .answer(4),
        ]) { db, _ in
            var numbers: [Int] = []
            for try await number in try await db.copy(from: "t", as: Int.self) { numbers.append(number) }
            #expect(numbers == [7, 8])
            try await expectNumber(4, db)
        }
    }

    @Test func `a table that changed since it was described is an error`() async throws {
        let header: [UInt8] = [
            0x50, 0x47, 0x43, 0x4F, 0x50, 0x59, 0x0A, 0xFF, 0x0D, 0x0A, 0x00, 0, 0, 0, 0, 0, 0, 0, 0,
        ]
        let nulls: [UInt8] = [0, 2] + [UInt8](repeating: 0xFF, count: 8)
        try await withMock([
            Self.describes([.int4]), .expect(.query),
            .send(
                [.copyOutResponse(columns: 2, isBinary: true), .copyData(header + nulls), .copyData([0xFF, 0xFF])]
                    + [.copyDone] + Self.done), .answer(4),
        ]) { db, _ in
            let error = await failure { try await db.copy(from: "t", as: Int.self) }
            #expect(error?.code == .columnCount)
            try await expectNumber(4, db)
        }
    }

    // MARK: A server that is gone

    /// Two rows, each in a CopyData of its own, as a server sends them.
    private static let header: [UInt8] = [
        0x50, 0x47, 0x43, 0x4F, 0x50, 0x59, 0x0A, 0xFF, 0x0D, 0x0A, 0x00, 0, 0, 0, 0, 0, 0, 0, 0,
    ]

    @Test(arguments: MockLostConnectionTests.End.allCases)
    func `a connection that is lost at any byte of a COPY out gives whole rows and an error`(
        end: MockLostConnectionTests.End
    ) async throws {
        let rows = ["one\t1\n", "two\t2\n"]
        let bytes = ([.copyOutResponse(columns: 2)] + rows.map { .copyData(Array($0.utf8)) } + [.copyDone] + Self.done)
            .flatMap(\.bytes)
        let scripts = bytes.indices.map {
            [Step.acceptTrust(), .expect(.query), .send(bytes: Array(bytes[..<$0])), end.step]
        }
        let server = try PostgresMockServer(scripts: scripts)
        var most = 0
        for _ in scripts {
            let db = try await PostgresConnection.connect(server.configuration())
            var text = ""
            let error = await failure {
                for try await chunk in try await db.copy(from: "t") { text += String(decoding: chunk, as: UTF8.self) }
            }
            #expect(error?.code == .connectionLost)
            #expect(error?.outcome == .unknown)
            #expect(["", rows[0], rows.joined()].contains(text))
            #expect(db.isClosed)
            most = max(most, text.utf8.count)
        }
        // A RST may take what has not been read with it.
        if end != .reset { #expect(most == rows.joined().utf8.count) }
        try await server.finish()
    }

    @Test(arguments: MockLostConnectionTests.End.allCases)
    func `a connection that is lost at any byte of typed rows gives whole rows and an error`(
        end: MockLostConnectionTests.End
    ) async throws {
        let rows: [[UInt8]] = [[0, 1, 0, 0, 0, 4, 0, 0, 0, 7], [0, 1, 0, 0, 0, 4, 0, 0, 0, 8]]
        let pieces: [Message] = [.copyData(Self.header + rows[0]), .copyData(rows[1]), .copyData([0xFF, 0xFF])]
        let bytes = ([.copyOutResponse(isBinary: true)] + pieces + [.copyDone] + Self.done).flatMap(\.bytes)
        let scripts = bytes.indices.map {
            [Step.acceptTrust(), Self.describes([.int4]), .expect(.query), .send(bytes: Array(bytes[..<$0])), end.step]
        }
        let server = try PostgresMockServer(scripts: scripts)
        var most = 0
        for _ in scripts {
            let db = try await PostgresConnection.connect(server.configuration())
            var numbers: [Int] = []
            let error = await failure {
                for try await number in try await db.copy(from: "t", as: Int.self) { numbers.append(number) }
            }
            #expect(error?.code == .connectionLost)
            #expect(error?.outcome == .unknown)
            #expect([[], [7], [7, 8]].contains(numbers))
            #expect(db.isClosed)
            most = max(most, numbers.count)
        }
        if end != .reset { #expect(most == 2) }
        try await server.finish()
    }
}
