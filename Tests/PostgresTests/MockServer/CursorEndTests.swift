import Foundation
import PostgresProtocol
import PostgresTransport
import Synchronization
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// How cursors end when their task was cancelled, or the connection is somebody else's.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct CursorEndTests {
    /// Answers the question for a transaction, and opens a portal in one of its own, with three rows.
    private static let opening = Step.steps([
        .expect(.sync), .send(.readyForQuery()), .receive(until: .sync), .send(FarewellTests.opened),
    ])

    private static let query = PostgresQuery("SELECT 1 AS n").as(Int32.self)

    /// Reads a cursor to its end in a task, which is cancelled when the gate opens.
    private static func read(_ db: PostgresConnection, withHold: Bool = false, cancelAt gate: Gate) async
        -> PostgresError?
    {
        let task = Task {
            await failure {
                for try await _ in try await db.cursor(query, fetching: 3, withHold: withHold) {}
            }
        }
        await gate.opened()
        task.cancel()
        return await task.value
    }

    @Test func `a FETCH that a cancelled task left is stopped before the cursor's transaction is rolled back`()
        async throws
    {
        let asked = Gate()
        let fetching = Gate()
        let script: [Step] = [
            Self.opening, .expect([.execute, .sync]), .open(fetching), .wait(for: asked),
            .send(SilentServerTests.report, .readyForQuery("E")), .expect(.query),
            .send(.commandComplete("ROLLBACK"), .readyForQuery()), .answer(2),
        ]
        try await SilentServerTests.with(script, asked: asked) {
            $0.cancelTimeout = .seconds(30)
        } _: { db in
            let error = await Self.read(db, cancelAt: fetching)
            #expect(error?.code == .cancelled)
            try await expectNumber(2, db)
        }
    }

    @Test func `a FETCH that a cancelled task left, and that nothing stops, costs the connection`() async throws {
        let fetching = Gate()
        let script: [Step] = [Self.opening, .expect([.execute, .sync]), .open(fetching), .wait(for: Gate())]
        try await SilentServerTests.with(script) { db in
            let error = await Self.read(db, cancelAt: fetching)
            #expect(error?.code == .cancelled)
            #expect(db.core.state.withLock { $0.closed?.code } == .connectionClosed)
        }
    }

    @Test func `a ROLLBACK of a cursor that is refused costs the connection`() async throws {
        let script: [Step] = [
            .expect(.sync), .send(.readyForQuery()), .receive(until: .sync),
            .send(Array(FarewellTests.opened.prefix(9)) + [.errorResponse("22012"), .readyForQuery("E")]),
            .expect(.query), .send(.errorResponse("XX000"), .readyForQuery("E")), .expectClose,
        ]
        try await SilentServerTests.with(script) { db in
            let error = await failure { try await db.cursor(Self.query, fetching: 3) }
            #expect(error?.code == .divisionByZero)
            // For that reason, and not because the server did not like it.
            #expect(db.core.state.withLock { $0.closed?.sqlState } == "XX000")
        }
    }

    @Test func `a task that is cancelled while the cursor's COMMIT is not answered waits no longer than its time`()
        async throws
    {
        let ending = Gate()
        let script: [Step] = [
            Self.opening, .expect([.execute, .sync]), .send(.commandComplete("SELECT 3"), .readyForQuery("T")),
            .receive(until: .sync), .open(ending), .wait(for: Gate()),
        ]
        try await SilentServerTests.with(script) { db in
            let error = await Self.read(db, cancelAt: ending)
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .unknown)
            #expect(db.core.state.withLock { $0.closed?.code } == .connectionClosed)
        }
    }

    @Test func `a COMMIT of a cursor that was cancelled before it began is followed by ROLLBACK`() async throws {
        let asked = Gate()
        let ending = Gate()
        let script: [Step] = [
            Self.opening, .expect([.execute, .sync]), .send(.commandComplete("SELECT 3"), .readyForQuery("T")),
            .receive(until: .sync), .open(ending), .wait(for: asked),
            .send(SilentServerTests.report, .readyForQuery("E")), .expect(.query),
            .send(.commandComplete("ROLLBACK"), .readyForQuery()), .answer(2),
        ]
        try await SilentServerTests.with(script, asked: asked) {
            $0.cancelTimeout = .seconds(5)
        } _: { db in
            let error = await Self.read(db, cancelAt: ending)
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .rejected)
            try await expectNumber(2, db)
        }
    }

    /// Answers DECLARE of a cursor with hold.
    private static let declared = Step.steps([
        .receive(until: .sync), .send(SilentServerTests.first("DECLARE CURSOR") + [.readyForQuery()]),
    ])

    @Test func `a task that is cancelled while CLOSE is not answered waits no longer than its time`() async throws {
        let ending = Gate()
        let fetched = Message.reply(columns: [.int4], rows: [], tag: "FETCH 0")
        let script: [Step] = [
            Self.declared, .receive(until: .sync), .send(fetched), .receive(until: .sync), .open(ending),
            .wait(for: Gate()),
        ]
        try await SilentServerTests.with(script) { db in
            let error = await Self.read(db, withHold: true, cancelAt: ending)
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .unknown)
            // Nothing comes from the server.
            await eventually { db.core.state.withLock { $0.closed?.code } == .connectionClosed }
        }
    }

    @Test func `who leaves the loop over a cursor ends it, and does not wait for itself`() async throws {
        let committed = Step.steps([
            .receive(until: .sync), .send(SilentServerTests.first("COMMIT") + [.readyForQuery()]),
        ])
        try await withMock([Self.opening, committed, .answer(2)]) { db, _ in
            let cursor = try await db.cursor(Self.query, fetching: 3)
            for try await _ in cursor { break }
            try await expectNumber(2, db)
            #expect(db.core.state.withLock { $0.leaseUser == nil })
            try await cursor.close()
        }
    }

    @Test func `a cursor with hold that a thread could not wait for is closed`() async throws {
        let gate = Gate()
        let script: [Step] = [
            .acceptTrust(), .expect(firstExecution), .wait(for: gate),
            .send(Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])), Self.declared, .receive(until: .sync),
            .send(SilentServerTests.first("CLOSE CURSOR") + [.readyForQuery()]), .answerAgain(2),
        ]
        let server = try PostgresMockServer(script: script)
        let db = try PostgresBlockingConnection.connect(server.configuration())
        let first = Self.onThread { try db.query("SELECT 1 AS n", as: Int32.self).one() }
        await eventually { db.core.state.withLock { $0.queue.count == 1 } }
        // Another is in flight, so it is not cancelled.
        let second = Self.onThread {
            try withPostgresTimeout(.seconds(2)) { _ = try db.cursor(Self.query, withHold: true) }
            return 0
        }
        let error = await failure { try await second.value }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .unknown)
        gate.open()
        let number = try await first.value
        #expect(number == 1)
        await Self.untilSent(3, server)
        let third = Self.onThread { try db.query("SELECT 1 AS n", as: Int32.self).one() }
        #expect(try await third.value == 2)
        #expect(Self.verbs(server) == ["SELECT", "DECLARE", "CLOSE"])
        db.close()
        try await server.finish()
    }

    private static func onThread(_ body: @escaping @Sendable () throws -> Int32) -> Task<Int32, any Error> {
        Task { try await TestTurns.onThread(body) }
    }

    @Test func `a thread is never taken for one that has ended`() async {
        let found = Lock<[Caller]>([])
        for _ in 0..<20 {
            let hasEnded = Gate()
            let thread = Thread {
                found.withLock { $0.append(.current) }
                hasEnded.open()
            }
            thread.start()
            await hasEnded.opened()
        }
        let callers = found.withLock { $0 }
        for (index, caller) in callers.enumerated() { #expect(!callers[..<index].contains(caller)) }
    }

    // MARK: While somebody else has the connection

    /// The verbs of the statements that were prepared.
    private static func verbs(_ server: PostgresMockServer) -> [Substring] {
        server.messages().filter { $0.kind == .parse }.compactMap { $0.strings[1].split(separator: " ").first }
    }

    private static func waitUntilOneWaits(_ db: PostgresConnection) async {
        await eventually { db.core.state.withLock { $0.waitingForRoom.count == 1 } }
    }

    /// Until the server has so many groups, or the next statement could overtake the last of them.
    private static func untilSent(_ groups: Int, _ server: PostgresMockServer) async {
        await eventually { server.messages().count { $0.kind == .sync } == groups }
    }

    /// Lets the time of a statement pass that begins to wait now, and so that of whatever waits already.
    private static func letTimePass(_ db: PostgresConnection) async {
        let error = await failure { try await db.number() }
        #expect(error?.code == .timedOut)
        #expect(error?.outcome == .notSent)
    }

    @Test func `a cursor with hold is closed behind who has the connection, however long that takes`() async throws {
        let closed = Step.steps([
            .receive(until: .sync), .send(SilentServerTests.first("CLOSE CURSOR") + [.readyForQuery()]),
        ])
        try await withMock([Self.declared, closed, .answer(2)]) {
            $0.queryTimeout = .seconds(2)
        } _: { db, server in
            let cursor = try await db.cursor(Self.query, withHold: true)
            let lease = try await db.core.lease()
            // Its own time passes in there.
            try await cursor.close()
            await Self.waitUntilOneWaits(db)
            await Self.letTimePass(db)
            db.core.endLease(lease)
            await Self.untilSent(2, server)
            try await expectNumber(2, db)
            #expect(Self.verbs(server) == ["DECLARE", "CLOSE", "SELECT"])
        }
    }

    @Test func `UNLISTEN follows behind who has the connection, however long that takes`() async throws {
        let answered = Step.steps([
            .receive(until: .sync), .send(SilentServerTests.first("LISTEN") + [.readyForQuery()]),
        ])
        try await withMock([answered, answered, .answer(2)]) {
            $0.queryTimeout = .seconds(2)
        } _: { db, server in
            var notifications: PostgresNotifications? = try await db.listen(to: "c")
            #expect(notifications != nil)
            let lease = try await db.core.lease()
            notifications = nil
            await Self.waitUntilOneWaits(db)
            await Self.letTimePass(db)
            db.core.endLease(lease)
            await Self.untilSent(2, server)
            try await expectNumber(2, db)
            #expect(Self.verbs(server) == ["LISTEN", "UNLISTEN", "SELECT"])
        }
    }

    @Test func `a cursor with hold that is read inside of a transaction's body fails, and nothing else does`()
        async throws
    {
        let answered = Step.steps([
            .receive(until: .sync), .send(SilentServerTests.first("COMMIT") + [.readyForQuery()]),
        ])
        try await withMock([Self.declared, SilentServerTests.begun, answered, answered, .answerAgain(2)]) {
            db, server in
            let cursor = try await db.cursor(Self.query, withHold: true)
            try await db.transaction { tx in
                _ = try await tx.query(Self.query).one()
                let error = await failure { for try await _ in cursor {} }
                #expect(error?.code == .unsupported)
            }
            await Self.untilSent(4, server)
            try await expectNumber(2, db)
            #expect(Self.verbs(server) == ["DECLARE", "BEGIN", "SELECT", "COMMIT", "CLOSE"])
        }
    }
}
