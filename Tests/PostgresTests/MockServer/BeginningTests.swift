import Glibc
import PostgresTransport
import Synchronization
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// What users' code learns of the beginning of a session, and where.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockBeginningTests {
    // MARK: Observers

    /// On which threads it is called.
    private final class Threads: PostgresObserver {
        let seen = Lock<[pthread_t]>([])

        func began(_ operation: PostgresOperation) -> (any Sendable)? {
            seen.withLock { $0.append(pthread_self()) }
            return nil
        }

        func ended(_ operation: PostgresOperation, _ result: PostgresOperation.Result, _ context: (any Sendable)?) {
            seen.withLock { $0.append(pthread_self()) }
        }
    }

    @Test(arguments: [true, false])
    func `a blocking connect tells its observer on the calling thread`(succeeds: Bool) async throws {
        let threads = Threads()
        let server = try PostgresMockServer(script: succeeds ? [.acceptTrust()] : [.expect(.startup), .close])
        let configuration = server.configuration { $0.observer = threads }
        let own = try await onOwnThread { () throws(PostgresError) -> pthread_t in
            do throws(PostgresError) {
                try PostgresBlockingConnection.connect(configuration).close()
            } catch {
                if succeeds { throw error }
            }
            return pthread_self()
        }
        #expect(threads.seen.withLock { $0 } == [own, own])
        try await server.finish()
    }

    // MARK: Notices

    private final class Collected: Sendable {
        private let notices = Lock<[PostgresNotice]>([])
        func add(_ notice: PostgresNotice) { notices.withLock { $0.append(notice) } }
        var all: [PostgresNotice] { notices.withLock { $0 } }
    }

    @Test func `notices of the start-up reach the handler, in order and before those that follow`() async throws {
        let collected = Collected()
        let server = try PostgresMockServer(script: [
            .expect(.startup),
            .send(
                .noticeResponse("first"), .authenticationOk, .noticeResponse("second"), .backendKeyData(),
                .readyForQuery(), .noticeResponse("third")),
            .answer(1),
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.noticeHandler = { collected.add($0) } })
        // What comes behind it is read with the first reply.
        try await expectNumber(1, db)
        await eventually { collected.all.count == 3 }
        #expect(collected.all.map(\.message) == ["first", "second", "third"])
        db.close()
        try await server.finish()
    }

    @Test func `a flood of notices during the start-up is bounded, and says what is lost`() async throws {
        let collected = Collected()
        let flood = (1...1000).map { Message.noticeResponse("\($0)") }
        let server = try PostgresMockServer(script: [
            .expect(.startup), .send([.authenticationOk] + flood + [.backendKeyData(), .readyForQuery()]),
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.noticeHandler = { collected.add($0) } })
        await eventually { collected.all.last?.message == "1000" }
        #expect(collected.all.count == 64)
        #expect(collected.all.first?.lostBefore == 936)
        db.close()
        try await server.finish()
    }

    @Test func `a server that refuses the session tells the handler nothing`() async throws {
        let collected = Collected()
        let server = try PostgresMockServer(script: [
            .expect(.startup), .send(.noticeResponse("trust me"), .errorResponse("28000", severity: "FATAL")), .close,
        ])
        let error = await failure {
            try await PostgresConnection.connect(server.configuration { $0.noticeHandler = { collected.add($0) } })
        }
        #expect(error?.sqlState == "28000")
        #expect(collected.all.isEmpty)
        try await server.finish()
    }
}
