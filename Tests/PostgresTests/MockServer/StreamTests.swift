import Foundation
import PostgresProtocol
import PostgresTransport
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Rows read as they are wanted.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockStreamTests {
    /// The reply of a first execution with so many rows of one text of so many bytes.
    static func rows(_ count: Int, bytes: Int) -> [Message] {
        let row: [[UInt8]?] = [Array(repeating: UInt8(ascii: "x"), count: bytes)]
        return Message.reply(columns: [.init("t")], rows: Array(repeating: row, count: count))
    }

    static let query: PostgresQuery = "SELECT t FROM big"

    @Test(arguments: [true, false], [[1_000_000], [1], [5, 2, 11]])
    func `a stream gives every row`(callersMayRead: Bool, sizes: [Int]) async throws {
        try await withMock([.expect(firstExecution), .send(Self.rows(300, bytes: 20), split: sizes), .answer(1)]) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            var count = 0
            for try await text in try await db.stream(Self.query, as: String.self) {
                #expect(text.utf8.count == 20)
                count += 1
            }
            #expect(count == 300)
            try await expectNumber(1, db)
        }
    }

    @Test(arguments: [true, false])
    func `who finds a stream at its end finds nothing in flight`(callersMayRead: Bool) async throws {
        let rows = Self.rows(3, bytes: 20)
        let script: [Step] = [
            .expect(firstExecution), .send(rows),
            .serve { _ in [.send(Message.boundReply(rows: Array(repeating: [[1, 2, 3]], count: 3)))] },
        ]
        try await withMock(script) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            var inFlight = 0
            for _ in 0..<5000 {
                for try await _ in try await db.stream(Self.query, as: String.self) {}
                inFlight += db.core.state.withLock { $0.queue.count }
            }
            #expect(inFlight == 0)
        }
    }

    @Test func `a consumer whose server is silent holds no thread of the pool`() async throws {
        let isSuspended = Gate()
        let reply = Self.rows(1, bytes: 20)
        let script: [Step] = [
            .expect(firstExecution), .send(Array(reply.dropLast(2))), .wait(for: isSuspended),
            .send(Array(reply.suffix(2))),
        ]
        try await withMock(script) { db, _ in
            let consumer = Task {
                var count = 0
                for try await _ in try await db.stream(Self.query, as: String.self) { count += 1 }
                return count
            }
            // It may poll for a moment, but then it suspends, although nothing comes.
            await eventually {
                db.core.state.withLock { state in
                    if case .continuation = state.openStream?.consumer { true } else { false }
                }
            }
            isSuspended.open()
            let count = try await consumer.value
            #expect(count == 1)
        }
    }

    /// A row, and the end when the gate opens.
    private static func slowly(_ gate: Gate) -> [Step] {
        let reply = rows(1, bytes: 20)
        return [
            .expect(firstExecution), .send(Array(reply.dropLast(2))), .wait(for: gate), .send(Array(reply.suffix(2))),
        ]
    }

    /// The stream whose consumer has read its row, and suspended for the next.
    private static func suspendedStream(_ db: PostgresConnection) async throws -> RowStream {
        await eventually {
            db.core.state.withLock { state in
                guard let stream = state.openStream, stream.columns != nil, stream.chunks.isEmpty else { return false }
                if case .continuation = stream.consumer { return true } else { return false }
            }
        }
        return try #require(db.core.state.withLock { $0.openStream })
    }

    @Test func `who looked before another began to wait does not take its place`() async throws {
        let gate = Gate()
        try await withMock(Self.slowly(gate)) { db, _ in
            let consumer = Task {
                var count = 0
                for try await _ in try await db.stream(Self.query, as: String.self) { count += 1 }
                return count
            }
            let stream = try await Self.suspendedStream(db)
            // What a second consumer does after its look, at once.
            let hasReturned = Gate()
            Thread.detachNewThread {
                db.core.waitForRowsBlocking(stream)
                hasReturned.open()
            }
            await hasReturned.opened()
            gate.open()
            let count = try await consumer.value
            #expect(count == 1)
        }
    }

    @Test func `who stops a stream wakes its consumer`() async throws {
        let gate = Gate()
        try await withMock(Self.slowly(gate)) { db, _ in
            let consumer = Task {
                await failure { for try await _ in try await db.stream(Self.query, as: String.self) {} }
            }
            let stream = try await Self.suspendedStream(db)
            let second = Task { await db.core.waitForEnd(of: stream) }
            let error = await consumer.value
            #expect(error?.code == .unsupported)
            gate.open()
            await second.value
        }
    }

    @Test(arguments: [16 << 20, 512 * 1024])
    func `a stream whose consumer does not read is cancelled all the same`(bound: Int) async throws {
        let hasRow = Gate()
        let isCancelled = Gate()
        // More than waits for a consumer that does not read.
        let rows = Array(Self.rows(2000, bytes: 1000).dropLast(2))
        let script: [Step] = [
            .acceptTrust(), .expect(firstExecution), .send(rows + [MockCancellingTests.report, .readyForQuery()]),
            .answer(1),
        ]
        try await MockCancellingTests.with([script, [.expect(.cancelRequest), .close]]) {
            $0.cancelTimeout = .seconds(20)
            $0.maximumResultBytes = bound
        } _: { db, _ in
            let consumer = Task { () -> (Int, PostgresError?) in
                var count = 0
                let error = await failure {
                    for try await _ in try await db.stream(Self.query, as: String.self) {
                        count += 1
                        hasRow.open()
                        await isCancelled.opened()
                    }
                }
                return (count, error)
            }
            await hasRow.opened()
            // Neither the consumer nor the loop.
            await eventually { db.core.state.withLock { $0.reader == .nobody } }
            let wasRunning = try await db.cancel()
            #expect(wasRunning)
            isCancelled.open()
            let (count, error) = await consumer.value
            if bound > 2_000_000 {
                #expect(error?.code == .queryCanceled)
                #expect(count == 2000)
            } else {
                #expect(error?.code == .resultTooLarge)
                #expect(error?.outcome == .unknown)
                #expect(error?.message.contains("is being cancelled") == true)
            }
            try await expectNumber(1, db)
        }
    }

    @Test(arguments: [true, false], [10, 3000])
    func `leaving the loop early throws the rest away`(callersMayRead: Bool, count: Int) async throws {
        try await withMock([.expect(firstExecution), .send(Self.rows(count, bytes: 1000)), .answer(1)]) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            for try await _ in try await db.stream(Self.query, as: String.self) { break }
            try await expectNumber(1, db)
        }
    }

    @Test(arguments: [true, false])
    func `a query inside the loop works when the rest of the rows fits`(callersMayRead: Bool) async throws {
        try await withMock([.expect(firstExecution), .send(Self.rows(2000, bytes: 1000)), .answer(1)]) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            var count = 0
            for try await _ in try await db.stream(Self.query, as: String.self) {
                if count == 0 { try await expectNumber(1, db) }
                count += 1
            }
            #expect(count == 2000)
        }
    }

    @Test(arguments: [true, false])
    func `a query inside the loop fails the stream when the rest does not fit`(callersMayRead: Bool) async throws {
        try await withMock([.expect(firstExecution), .send(Self.rows(5000, bytes: 1000)), .answer(1), .answerAgain(2)])
        {
            $0.callersMayRead = callersMayRead
            $0.maximumResultBytes = 1 << 20
        } _: { db, _ in
            let error = await failure {
                var isFirst = true
                for try await _ in try await db.stream(Self.query, as: String.self) {
                    if isFirst { try await expectNumber(1, db) }
                    isFirst = false
                }
            }
            #expect(error?.code == .resultTooLarge)
            try await expectNumber(2, db)
        }
    }

    @Test(arguments: [true, false])
    func `a consumer that does not read holds the server back`(callersMayRead: Bool) async throws {
        // Larger than all buffers between: the script's next step is not reached before the consumer reads.
        let sent = Gate()
        let script: [Step] = [
            .expect(firstExecution), .send(Self.rows(32_000, bytes: 1000)),
            .steps([.open(sent)]), .answer(1),
        ]
        try await withMock(script) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            var count = 0
            for try await _ in try await db.stream(Self.query, as: String.self) {
                count += 1
                if count == 1000 {
                    // What arrived by now is bounded; the server has 31 MB left to send.
                    let buffered = db.core.state.withLock { $0.openStream?.bytes ?? 0 }
                    #expect(buffered < RowStream.limit + 256 * 1024)
                    #expect(!sent.isOpen)
                }
            }
            #expect(count == 32_000)
            await sent.opened()
            try await expectNumber(1, db)
        }
    }

    @Test(arguments: [true, false])
    func `the bound of buffered results does not concern a stream with nobody behind it`(callersMayRead: Bool)
        async throws
    {
        try await withMock([.expect(firstExecution), .send(Self.rows(2000, bytes: 1000)), .answer(1)]) {
            $0.callersMayRead = callersMayRead
            $0.maximumResultBytes = 1000
        } _: { db, _ in
            var count = 0
            for try await _ in try await db.stream(Self.query, as: String.self) { count += 1 }
            #expect(count == 2000)
            try await expectNumber(1, db)
        }
    }

    @Test func `an error in the middle of a stream ends it`() async throws {
        let some = Self.rows(10, bytes: 10).dropLast(2)
        try await withMock([
            .expect(firstExecution), .send(some + [.errorResponse("22012"), .readyForQuery()]), .answer(1),
        ]) { db, _ in
            var count = 0
            let error = await failure {
                for try await _ in try await db.stream(Self.query, as: String.self) { count += 1 }
            }
            #expect(error?.code == .divisionByZero)
            #expect(count == 10)
            try await expectNumber(1, db)
        }
    }

    @Test func `a statement that is refused is the stream's error`() async throws {
        try await withMock([.expect(firstExecution), .send(.errorResponse("42P01"), .readyForQuery()), .answer(1)]) {
            db, _ in
            let error = await failure { for try await _ in try await db.stream(Self.query, as: String.self) {} }
            #expect(error?.code == .undefinedTable)
            try await expectNumber(1, db)
        }
    }

    @Test func `a stream whose prepared statement the server lost is sent once more`() async throws {
        try await withMock([
            .expect(firstExecution), .send(Self.rows(1, bytes: 1)), .expect(nextExecution),
            .send(.errorResponse("26000"), .readyForQuery()), .expect(firstExecution), .send(Self.rows(2, bytes: 1)),
        ]) { db, _ in
            @Sendable func count() async throws -> Int {
                var count = 0
                for try await _ in try await db.stream(Self.query, as: String.self) { count += 1 }
                return count
            }
            let first = try await count()
            let second = try await count()
            #expect(first == 1)
            #expect(second == 2)
        }
    }

    @Test func `inside a transaction a lost statement is the stream's error`() async throws {
        try await withMock([
            .expect(firstExecution), .send(Self.rows(1, bytes: 1)), .expect(nextExecution),
            .send(.errorResponse("26000"), .readyForQuery("E")),
        ]) { db, _ in
            for try await _ in try await db.stream(Self.query, as: String.self) {}
            let error = await failure { for try await _ in try await db.stream(Self.query, as: String.self) {} }
            #expect(error?.code == .invalidSqlStatementName)
        }
    }

    @Test(arguments: [true, false])
    func `a connection that breaks in the middle of a stream is its error`(callersMayRead: Bool) async throws {
        let some = Self.rows(10, bytes: 10).dropLast(2)
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .expect(firstExecution), .send(Array(some)), .close,
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = callersMayRead })
        let error = await failure { for try await _ in try await db.stream(Self.query, as: String.self) {} }
        #expect(error?.code == .connectionLost)
        #expect(error?.outcome == .unknown)
        try await server.finish()
    }

    @Test(arguments: [true, false])
    func `close ends a stream that waits for rows`(callersMayRead: Bool) async throws {
        let some = Self.rows(10, bytes: 10).dropLast(2)
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .expect(firstExecution), .send(Array(some)), .receiveAll,
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = callersMayRead })
        let error = await failure {
            var count = 0
            for try await _ in try await db.stream(Self.query, as: String.self) {
                count += 1
                if count == 10 { db.close() }
            }
        }
        #expect(error?.code == .connectionClosed)
        await server.stop()
    }

    @Test(arguments: [true, false])
    func `a cancelled consumer stops waiting, and the connection goes on`(callersMayRead: Bool) async throws {
        let gate = Gate()
        let waiting = Gate()
        let (head, tail) = (Self.rows(10, bytes: 10).dropLast(2), Self.rows(10, bytes: 10).suffix(2))
        try await withMock([
            .expect(firstExecution), .send(Array(head)), .wait(for: gate), .send(Array(tail)), .answer(1),
        ]) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            let consumer = Task {
                var count = 0
                for try await _ in try await db.stream(Self.query, as: String.self) {
                    count += 1
                    if count == 10 { waiting.open() }
                }
                return count
            }
            await waiting.opened()
            consumer.cancel()
            let error = await failure { try await consumer.value }
            #expect(error?.code == .cancelled)
            gate.open()
            try await expectNumber(1, db)
        }
    }

    @Test func `who waits behind a stream has a reader when the stream ends`() async throws {
        let consumed = Gate()
        let ended = Gate()
        let reply = Self.rows(3, bytes: 10)
        try await withMock([
            .answer(1), .expect(firstExecution), .send(Array(reply.dropLast(2))), .expect(nextExecution),
            .send(Array(reply.suffix(2))), .wait(for: ended), .send(Message.boundReply(rows: [[Int32(2).bytes]])),
        ]) { db, _ in
            try await expectNumber(1, db)
            let core = db.core
            // A thread of its own, that reads for itself without a bound.
            async let count = withCheckedThrowingContinuation { (continuation: CheckedContinuation<Int, any Error>) in
                Thread.detachNewThread {
                    continuation.resume(
                        with: Result {
                            let stream = try core.streamBlocking(Self.query, .text)
                            var count = 0
                            while var block = try core.nextBlockBlocking(stream) {
                                while block.advance() { count += 1 }
                                if count == 3 { consumed.open() }
                            }
                            ended.open()
                            return count
                        })
                }
            }
            await consumed.opened()
            await eventually { core.state.withLock { $0.reader == .caller } }
            try await expectNumber(2, db)
            let read = try await count
            #expect(read == 3)
        }
    }
}
