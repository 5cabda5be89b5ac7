import PostgresProtocol
import PostgresTransport
import Synchronization
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Many tasks on one connection: replies stay with their requests.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockConcurrencyTests {
    /// Answers each execution of `SELECT $1` with its own parameter, an int4 in binary.
    static let echo = Step.serve { group in [.send(echoReply(group))] }

    static func echoReply(_ group: [FrontendMessage]) -> [Message] {
        guard let bind = group.last(where: { $0.kind == .bind }) else {
            return [.errorResponse("XX000"), .readyForQuery()]
        }
        // Behind the parameter come the count of result formats and one code.
        let value = Array(bind.body.dropLast(4).suffix(4))
        return group.contains { $0.kind == .parse }
            ? Message.reply(parameters: [23], columns: [.int4], rows: [[value]]) : Message.boundReply(rows: [[value]])
    }

    static func ask(_ number: Int32, _ db: PostgresConnection) async throws(PostgresError) -> Int32 {
        try await db.query("SELECT \(number) AS n", as: Int32.self).one()
    }

    @Test(arguments: [true, false])
    func `a hundred tasks get their own replies`(callersMayRead: Bool) async throws {
        try await withMock([Self.echo]) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            try await withThrowingTaskGroup(of: (Int32, Int32).self) { group in
                for number in Int32(0)..<100 { group.addTask { (number, try await Self.ask(number, db)) } }
                var seen = 0
                for try await (asked, answered) in group {
                    #expect(asked == answered)
                    seen += 1
                }
                #expect(seen == 100)
            }
        }
    }

    @Test func `tasks on the loop's own thread get their own replies`() async throws {
        try await withMock([Self.echo]) { db, _ in
            try await withThrowingTaskGroup(of: (Int32, Int32).self) { group in
                for number in Int32(0)..<100 {
                    group.addTask(executorPreference: db.executor) { (number, try await Self.ask(number, db)) }
                }
                for try await (asked, answered) in group { #expect(asked == answered) }
            }
        }
    }

    @Test func `replies that come byte by byte stay with their requests`() async throws {
        let slow = Step.serve { group in [.send(Self.echoReply(group), split: [1])] }
        try await withMock([slow]) { db, _ in
            try await withThrowingTaskGroup(of: (Int32, Int32).self) { group in
                for number in Int32(0)..<20 { group.addTask { (number, try await Self.ask(number, db)) } }
                for try await (asked, answered) in group { #expect(asked == answered) }
            }
        }
    }

    @Test func `a cancelled task gets its error, and the replies of the others do not shift`() async throws {
        let gate = Gate()
        let received = Gate()
        let counter = Lock(0)
        let script = Step.serve { group in
            let number = counter.withLock { count in
                count += 1
                return count
            }
            let reply = Self.echoReply(group)
            return number == 1 ? [.open(received), .wait(for: gate), .send(reply)] : [.send(reply)]
        }
        try await withMock([script]) {
            $0.callersMayRead = false
        } _: { db, _ in
            async let first = Self.ask(1, db)
            await received.opened()
            let second = Task { try await Self.ask(2, db) }
            await eventually { !(db.core.state.withLock({ $0.queue.count }) < 2) }
            async let third = Self.ask(3, db)
            // All have left: one that has not is taken back, and its outcome known.
            await eventually { db.core.state.withLock { $0.queue.count == 3 && $0.pending.count == 0 } }
            second.cancel()
            let error = await failure { try await second.value }
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .unknown)
            gate.open()
            let numbers = try await [first, third]
            #expect(numbers == [1, 3])
            let fourth = try await Self.ask(4, db)
            #expect(fourth == 4)
        }
    }

    @Test func `a task cancelled before it sends sends nothing`() async throws {
        try await withMock([Self.echo]) { db, server in
            let task = Task {
                while !Task.isCancelled { await Task.yield() }
                return try await Self.ask(1, db)
            }
            task.cancel()
            let error = await failure { try await task.value }
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .notSent)
            #expect(server.messages().map(\.kind) == [.startup])
        }
    }

    @Test func `random cancellations never shift a reply`() async throws {
        try await withMock([Self.echo]) { db, _ in
            await withTaskGroup(of: Void.self) { group in
                for number in Int32(0)..<400 {
                    group.addTask {
                        let task = Task { try await Self.ask(number, db) }
                        if number % 3 == 0 {
                            for _ in 0..<(number % 17) { await Task.yield() }
                            task.cancel()
                        }
                        do {
                            let answered = try await task.value
                            #expect(answered == number)
                        } catch let error as PostgresError {
                            #expect(error.code == .cancelled && number % 3 == 0)
                        } catch { Issue.record("\(error)") }
                    }
                }
            }
            let last = try await Self.ask(-1, db)
            #expect(last == -1)
        }
    }

    @Test func `a pipeline and single queries share the connection`() async throws {
        try await withMock([Self.echo]) { db, _ in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for base in Int32(0)..<10 {
                    group.addTask {
                        var pipeline = PostgresPipeline()
                        let tickets = (Int32(0)..<20).map {
                            pipeline.add(PostgresQuery("SELECT \(base * 100 + $0) AS n").as(Int32.self))
                        }
                        let results = try await db.run(pipeline)
                        let numbers = try tickets.map { try results[$0].one() }
                        #expect(numbers == (Int32(0)..<20).map { base * 100 + $0 })
                    }
                    group.addTask {
                        let number = try await Self.ask(base, db)
                        #expect(number == base)
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test func `more requests than the queue takes wait for room`() async throws {
        // The limit itself would keep the loop, which all tests share, busy for too long.
        let limit = 1000
        let count = limit + 200
        let gate = Gate()
        let server = try PostgresMockServer(
            timeout: .seconds(50), script: [.acceptTrust(), .wait(for: gate), Self.echo])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = false })
        db.core.state.withLock { $0.queueLimit = limit }
        let sum = try await withThrowingTaskGroup(of: Int.self) { group in
            for number in 0..<count {
                group.addTask(executorPreference: db.executor) { Int(try await Self.ask(Int32(number), db)) }
            }
            await eventually { !(db.core.state.withLock({ $0.waitingForRoom.count }) < 100) }
            gate.open()
            return try await group.reduce(0, +)
        }
        #expect(sum == count * (count - 1) / 2)
        db.close()
        try await server.finish()
    }
}
