import PostgresProtocol
import PostgresTransport
import Synchronization
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// What is stopped in unusual moments. No time passes in these tests: they say themselves when it is up.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockStoppingTests {
    private static let report = MockCancellingTests.report

    // MARK: cancel()

    @Test func `cancel waits no longer than its statement, wherever its request went`() async throws {
        // The server's RST does not say whether it has seen to the request.
        let asked = Gate()
        let reply = Message.reply(columns: [.int4], rows: [[Int32(7).bytes]])
        try await MockCancellingTests.with(
            [
                MockCancellingTests.session(asked, reply, then: [.expectClose]),
                MockCancellingTests.cancelling(asked, then: .reset),
            ], mayEndEarly: true
        ) {
            $0.cancelTimeout = .seconds(15)
        } _: { db, _ in
            let statement = Task { try await db.number() }
            await eventually { db.core.state.withLock { $0.queue.count == 1 } }
            let wasRunning = try await db.cancel()
            #expect(wasRunning)
            let number = try await statement.value
            #expect(number == 7)
            let next = await failure { try await db.number() }
            #expect(next?.code == .connectionClosed)
            #expect(next?.outcome == .notSent)
            #expect(next?.message.contains("lost on its way") == true)
        }
    }

    // MARK: Pipelines of several pieces

    /// Three statements, each of them a piece.
    private static var inPieces: PostgresPipeline {
        let text = String(repeating: "x", count: 300_000)
        var pipeline = PostgresPipeline(.isolated)
        for _ in 0..<3 { pipeline.add("SELECT \(text) AS n") }
        return pipeline
    }

    /// Waits until the request of that number is waited for.
    private static func waits(for number: Int, _ db: PostgresConnection) async {
        await eventually { db.core.state.withLock { $0.queue.update(number) { $0.waiter.isWaiting } ?? false } }
    }

    @Test func `a dead connection with a pipeline at its head is closed`() async throws {
        try await SilentServerTests.with([.wait(for: Gate())]) {
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let last = db.core.state.withLock { $0.queue.nextNumber } + 2
            let run = Task { try await db.run(Self.inPieces) }
            await Self.waits(for: last, db)
            let other = Task { await failure { try await db.number() } }
            await Self.waits(for: last + 1, db)
            db.core.stop(last, .timedOut, sendsRequest: true)
            let results = try await run.value
            #expect(results.errors.map { $0?.code } == [.timedOut, .timedOut, .timedOut])
            #expect(!db.isClosed)
            // Nothing has come since the deadline.
            db.core.lookAtOverdue()
            let error = await other.value
            #expect(error?.code == .connectionClosed)
            #expect(error?.message.contains("past its deadline") == true)
        }
    }

    @Test func `a pipeline past its deadline is cancelled when it is alone`() async throws {
        let first = Gate()
        let asked = Gate()
        let stopped: [Message] = [.bindComplete, Self.report, .readyForQuery()]
        let script: [Step] = [
            .expect(firstExecution), .wait(for: first),
            .send(Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])), .wait(for: asked),
            .receive(until: .sync),
            .send([.parseComplete, .parameterDescription([25]), .rowDescription([.int4])] + stopped),
            .receive(until: .sync), .send(stopped), .receive(until: .sync), .send(stopped), .answerAgain(3),
        ]
        try await SilentServerTests.with(script, asked: asked) {
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let statement = Task { try await db.number() }
            await eventually { db.core.state.withLock { $0.queue.count == 1 } }
            let last = db.core.state.withLock { $0.queue.nextNumber } + 2
            let run = Task { try await db.run(Self.inPieces) }
            await Self.waits(for: last, db)
            db.core.stop(last, .timedOut, sendsRequest: true)
            let results = try await run.value
            #expect(results.errors.map { $0?.code } == [.timedOut, .timedOut, .timedOut])
            first.open()
            let number = try await statement.value
            #expect(number == 1)
            db.core.lookAtOverdue()
            try await expectNumber(3, db)
        }
    }

    /// In one piece and in several; the first statement is answered, the others never are.
    @Test(arguments: [true, false], [StopReason.cancelled, .timedOut])
    func `what had come of a pipeline when its wait ended is known`(
        isInPieces: Bool, reason: StopReason
    ) async throws {
        let reply = Message.reply(columns: [.int4], rows: [[Int32(7).bytes]])
        try await SilentServerTests.with([.receive(until: .sync), .send(reply), .wait(for: Gate())]) {
            $0.callersMayRead = false
        } _: { db in
            let text = isInPieces ? String(repeating: "x", count: 300_000) : "x"
            var pipeline = PostgresPipeline(.isolated)
            let tickets = (0..<3).map { pipeline.add(PostgresQuery("SELECT \($0)::int4, \(text)").as(Int32.self)) }
            let toSend = pipeline
            let last = db.core.state.withLock { $0.queue.nextNumber } + (isInPieces ? 2 : 0)
            let run = Task { try await db.run(toSend) }
            await Self.waits(for: last, db)
            await eventually { db.statistics.messagesReceived >= reply.count }
            if reason == .cancelled { run.cancel() } else { db.core.stop(last, .timedOut, sendsRequest: false) }
            let results = try await run.value
            let number = try results[tickets[0]].one()
            #expect(number == 7)
            let code: PostgresError.Code = reason == .cancelled ? .cancelled : .timedOut
            #expect(results.errors.map { $0?.code } == [nil, code, code])
            #expect(results.errors.map { $0?.outcome } == [nil, .unknown, .unknown])
        }
    }

    /// The group has no end yet: nothing of it is certain.
    @Test func `nothing of an atomic pipeline is known before its end`() async throws {
        let begun = Message.reply(columns: [.int4], rows: [[Int32(7).bytes]]).dropLast()
        try await SilentServerTests.with([.receive(until: .sync), .send(Array(begun)), .wait(for: Gate())]) {
            $0.callersMayRead = false
        } _: { db in
            var pipeline = PostgresPipeline(.atomic)
            for number in 0..<2 { pipeline.add("SELECT \(number)::int4") }
            let toSend = pipeline
            let number = db.core.state.withLock { $0.queue.nextNumber }
            let run = Task { try await db.run(toSend) }
            await Self.waits(for: number, db)
            await eventually { db.statistics.messagesReceived >= begun.count }
            run.cancel()
            let results = try await run.value
            #expect(results.errors.map { $0?.code } == [.cancelled, .cancelled])
            #expect(results.errors.map { $0?.outcome } == [.unknown, .unknown])
        }
    }

    @Test func `what was stopped before anybody waited leaves nothing behind`() async throws {
        try await withMock([]) { db, _ in
            db.core.state.withLock { state in
                for number in 100...101 {
                    state.parked[number] = Reply()
                    state.stopped[number] = Stopped(reason: .timedOut, flight: Flight([]))
                }
            }
            let (_, reason) = await db.core.waitForEnd(of: 100, until: .now, .asksServer)
            #expect(reason == .timedOut)
            let (_, blockingReason) = db.core.waitForEndBlocking(of: 101, until: .now, .asksServer)
            #expect(blockingReason == .timedOut)
            let isEmpty = db.core.state.withLock { $0.stopped.isEmpty && $0.parked.isEmpty }
            #expect(isEmpty)
        }
    }

    // MARK: COPY

    /// Writes behind the deadline, which ends the COPY.
    private static func writeTooLate(_ writer: PostgresCopyWriter) async {
        let error = await failure {
            try await withPostgresTimeout(.zero) {
                try await writer.write("1\n")
                try await writer.flush()
            }
        }
        #expect(error?.code == .timedOut)
        // Without CopyDone nothing can have been copied.
        #expect(error?.outcome == .rejected)
    }

    @Test func `a COPY that was given up stays so when its writer is used again`() async throws {
        try await SilentServerTests.with([
            .expect(.query), .send(.copyInResponse()), .receive(until: .copyFail), .close,
        ]) {
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let error = await failure {
                try await db.copy(into: "t") { writer in
                    for _ in 0..<2 { await Self.writeTooLate(writer) }
                }
            }
            #expect(error?.outcome == .rejected)
        }
    }

    @Test func `a COPY that was given up is not waited for when its writer is used again`() async throws {
        let written = Gate()
        let script: [Step] = [
            .expect(.query), .send(.copyInResponse()), .receive(until: .copyFail), .wait(for: written),
            .send(CopyTests.failed), .answer(4),
        ]
        try await SilentServerTests.with(script) {
            $0.cancelTimeout = .seconds(5)
        } _: { db in
            let error = await failure {
                try await db.copy(into: "t") { writer in
                    // Somebody's `cancel()` is under way, so this cannot be cancelled as well ...
                    let gate = db.core.state.withLock { db.core.closeGate(for: $0.queue.nextNumber &- 1, &$0) }
                    #expect(gate != nil)
                    await Self.writeTooLate(writer)
                    // ... and comes to nothing, because no second connection is to be had.
                    db.core.state.withLock { state in
                        state.cancelGate = nil
                        state.exclusiveWriter = gate?.lease
                    }
                    await Self.writeTooLate(writer)
                    #expect(!db.isClosed)
                    written.open()
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            try await expectNumber(4, db)
        }
    }

    // MARK: Pipelines with savepoints

    @Test func `a pipeline with savepoints that is cut short is a failure of its transaction`() async throws {
        let asked = Gate()
        let session = FailingSession()
        let script: [Step] = [
            .receive(until: .sync),
            .send(SilentServerTests.first("BEGIN") + SilentServerTests.first("SET") + [.readyForQuery("T")]),
            .wait(for: asked), .serve(session.answer),
        ]
        try await SilentServerTests.with(script, asked: asked) {
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            // Too much to be sent before the server reads.
            let megabyte = String(repeating: "x", count: 1 << 20)
            var pipeline = PostgresPipeline(.savepoints)
            for _ in 0..<12 { pipeline.add("INSERT INTO t VALUES (\(megabyte))") }
            let toSend = pipeline
            try await db.transaction { tx in
                try await tx.execute("SET a.b = 1")
                let error = await failure {
                    try await tx.transaction { inner in
                        let results = try await withPostgresTimeout(.zero) { try await inner.run(toSend) }
                        // Those that came before the cut are undone with the transaction.
                        #expect(results.errors.first??.outcome == .aborted)
                        #expect(results.errors.last??.outcome == .notSent)
                        #expect(results.errors.allSatisfy { $0?.outcome == .aborted || $0?.outcome == .notSent })
                    }
                }
                #expect(error?.code == .inFailedSqlTransaction)
                try await tx.execute("SET a.b = 2")
            }
        }
    }
}

/// Answers statements without rows inside a transaction, and refuses them from when it has failed.
private final class FailingSession: Sendable {
    private struct State {
        /// By their names.
        var texts: [String: String] = [:]
        var hasFailed = false
        var hasEnded = false
    }

    private let state = Lock(State())

    @Sendable func answer(_ group: [FrontendMessage]) -> [Step] {
        state.withLock { state in
            var answers: [Message] = []
            var isSkipped = false
            if group.first?.kind == .query {
                // ROLLBACK TO, and RELEASE.
                state.hasFailed = false
                answers = [.commandComplete("ROLLBACK"), .commandComplete("RELEASE")]
            } else if state.hasFailed {
                answers = [.errorResponse("25P02", "current transaction is aborted")]
                isSkipped = true
            }
            var text = ""
            for message in group where !isSkipped {
                switch message.kind {
                case .parse:
                    text = message.strings.last ?? ""
                    state.texts[message.strings.first ?? ""] = text
                    answers.append(.parseComplete)
                case .describe: answers += [.parameterDescription(text.contains("$1") ? [25] : []), .noData]
                case .bind:
                    text = state.texts[message.strings.last ?? ""] ?? ""
                    answers.append(.bindComplete)
                case .execute where message.strings.first == "":
                    let word = text.prefix { $0 != " " }
                    answers.append(.commandComplete(word == "INSERT" ? "INSERT 0 1" : String(word)))
                    if word == "COMMIT" { state.hasEnded = true }
                case .execute:
                    answers.append(.errorResponse("34000", "there is no such portal"))
                    state.hasFailed = true
                    isSkipped = true
                default: break
                }
            }
            return [.send(answers + [.readyForQuery(state.hasFailed ? "E" : state.hasEnded ? "I" : "T")])]
        }
    }
}
