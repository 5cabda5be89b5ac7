import PostgresProtocol
import PostgresTransport
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// LISTEN against a server that follows a script.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockListenTests {
    /// Answers LISTEN or UNLISTEN.
    private static let answer = Step.steps([
        .expect(firstExecution), .send(Message.reply(columns: [], rows: [], tag: "LISTEN")),
    ])

    private static func notification(_ number: Int, _ channel: String = "c") -> Message {
        .notificationResponse(processID: 0xFFFF_FFFF, channel: channel, payload: "\(number)")
    }

    @Test(arguments: [[1_000_000], [1], [3, 1, 7]], [true, false])
    func `notifications come while nothing is in flight, however they are cut`(
        _ split: [Int], _ callersMayRead: Bool
    ) async throws {
        let listening = Gate()
        let sent = (0..<20).map { Self.notification($0) }
        let steps: [Step] = [.answer(42), Self.answer, .wait(for: listening), .send(sent, split: split)]
        func configure(_ configuration: inout PostgresConfiguration) { configuration.callersMayRead = callersMayRead }
        try await withMock(steps, configure: configure) { db, _ in
            try await expectNumber(42, db)
            var notifications = try await db.listen(to: "c").makeAsyncIterator()
            listening.open()
            for number in 0..<20 {
                let got = try await notifications.next()
                #expect(got == PostgresNotification(channel: "c", payload: "\(number)", backendProcessID: -1))
            }
            withExtendedLifetime(notifications) { db.close() }
        }
    }

    @Test func `queries between notifications are answered, and the socket is read again after each`() async throws {
        var steps = [Self.answer]
        let gates = (0..<10).map { _ in Gate() }
        for (number, gate) in gates.enumerated() {
            steps.append(number == 0 ? .answer(42) : .answerAgain(42))
            steps += [.wait(for: gate), .send(Self.notification(number))]
        }
        try await withMock(steps) { db, _ in
            var notifications = try await db.listen(to: "c").makeAsyncIterator()
            for (number, gate) in gates.enumerated() {
                try await expectNumber(42, db)
                gate.open()
                let got = try await notifications.next()
                #expect(got?.payload == "\(number)")
            }
            withExtendedLifetime(notifications) { db.close() }
        }
    }

    @Test func `LISTEN that is answered together with a caller's own reply leaves a reader`() async throws {
        let listening = Gate()
        try await withMock([
            .expect(firstExecution + firstExecution),
            .send(
                Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])
                    + Message.reply(columns: [], rows: [], tag: "LISTEN")),
            .wait(for: listening), .send(Self.notification(7)),
        ]) { db, _ in
            async let number = db.number()
            // In the queue behind the query.
            await eventually { db.statistics.messagesSent > 0 }
            var notifications = try await db.listen(to: "c").makeAsyncIterator()
            let got = try await number
            #expect(got == 1)
            listening.open()
            let notification = try await notifications.next()
            #expect(notification?.payload == "7")
            withExtendedLifetime(notifications) { db.close() }
        }
    }

    @Test func `the last listener's end sends UNLISTEN, quoted, and notifications for nobody are dropped`() async throws
    {
        try await withMock([
            Self.answer, Self.answer, Self.answer, .send(Self.notification(1, #"a"b"#)), .answer(42),
        ]) { db, server in
            var first: PostgresNotifications? = try await db.listen(to: #"a"b"#)
            var second: PostgresNotifications? = try await db.listen(to: #"a"b"#)
            #expect(first != nil && second != nil)
            first = nil
            second = nil
            try await expectNumber(42, db)
            let texts = server.messages().filter { $0.kind == .parse }.map { $0.strings[1] }
            #expect(texts == [#"LISTEN "a""b""#, #"LISTEN "a""b""#, #"UNLISTEN "a""b""#, "SELECT 1 AS n"])
        }
    }

    @Test func `a channel that is named twice is listened to once`() async throws {
        try await withMock([Self.answer, .send(Self.notification(1), Self.notification(2)), .expectClose]) {
            db, server in
            var notifications = try await db.listen(to: "c", "c").makeAsyncIterator()
            for number in 1...2 {
                let got = try await notifications.next()
                #expect(got?.payload == "\(number)")
            }
            #expect(server.messages().filter { $0.kind == .parse }.count == 1)
            withExtendedLifetime(notifications) { db.close() }
        }
    }

    @Test func `a LISTEN that is refused leaves no listener`() async throws {
        try await withMock([
            .expect(firstExecution), .send(.errorResponse("42501"), .readyForQuery()), Self.answer, .answer(42),
        ]) { db, server in
            let error = await failure { try await db.listen(to: "c") }
            #expect(error?.code == .insufficientPrivilege)
            try await expectNumber(42, db)
            let isEmpty = db.core.state.withLock { $0.listeners.isEmpty }
            #expect(isEmpty)
        }
    }

    @Test(arguments: [true, false])
    func `what came before the end is given out before the error`(_ byReset: Bool) async throws {
        let end: Step = byReset ? .reset : .close
        try await withMock(
            [Self.answer, .send(Self.notification(1), Self.notification(2)), end], mayEndEarly: true
        ) { db, _ in
            var notifications = try await db.listen(to: "c").makeAsyncIterator()
            if !byReset {
                for number in 1...2 {
                    let got = try await notifications.next()
                    #expect(got?.payload == "\(number)")
                }
            }
            // A reset may take what was not read with it.
            var last: PostgresError?
            do throws(PostgresError) { while try await notifications.next() != nil {} } catch { last = error }
            #expect(last?.code == .connectionLost)
            // And it stays so.
            let again = await failure { try await notifications.next() }
            #expect(again?.code == .connectionLost)
        }
    }

    @Test func `two tasks cannot wait with one iterator`() async throws {
        let ended = Gate()
        try await withMock([Self.answer, .wait(for: ended), .send(Self.notification(1))]) { db, _ in
            let notifications = try await db.listen(to: "c")
            let listeners = db.core.state.withLock { $0.listeners.listeners(to: "c") }
            let listener = try #require(listeners.first)
            let first = Task {
                var iterator = notifications.makeAsyncIterator()
                return try await iterator.next()
            }
            await eventually {
                db.core.state.withLock { _ in
                    if case .continuation = listener.consumer { true } else { false }
                }
            }
            let error = await failure {
                var iterator = notifications.makeAsyncIterator()
                return try await iterator.next()
            }
            #expect(error?.code == .unsupported)
            ended.open()
            let got = try await first.value
            #expect(got?.payload == "1")
            withExtendedLifetime(notifications) { db.close() }
        }
    }
}
