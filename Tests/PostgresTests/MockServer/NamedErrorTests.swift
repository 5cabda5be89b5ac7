import PostgresProtocol
import PostgresTransport
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Whoever does not know what became of a statement is told which one it is, and on which server.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockNamedErrorTests {
    private static let sql = "SELECT 1 AS n"
    private static let text = "COPY \"t\" FROM STDIN"

    /// What may be under way when the connection ends.
    enum Operation: Sendable, CaseIterable {
        case query, blockingQuery, execute, stream, prepare, script, copyOut, listen

        func run(_ db: PostgresConnection) async throws {
            switch self {
            case .query: _ = try await db.number()
            case .blockingQuery:
                let blocking = PostgresBlockingConnection(core: db.core)
                try await onOwnThread { () throws(PostgresError) in
                    _ = try blocking.query("SELECT 1 AS n", as: Int32.self).one()
                }
            case .execute: try await db.execute("SELECT 1 AS n")
            case .stream: for try await _ in try await db.stream("SELECT 1 AS n", as: Int32.self) {}
            case .prepare: try await db.prepare("SELECT 1 AS n")
            case .script: try await db.script("SELECT 1 AS n")
            case .copyOut: for try await _ in try await db.copy(from: "t") {}
            case .listen: _ = try await db.listen(to: "c")
            }
        }

        var sql: String {
            switch self {
            case .copyOut: #"COPY "t" TO STDOUT"#
            case .listen: #"LISTEN "c""#
            default: MockNamedErrorTests.sql
            }
        }
        var last: FrontendMessage.Kind { self == .script || self == .copyOut ? .query : .sync }
    }

    @Test(arguments: Operation.allCases, [false, true])
    func `a lost connection and a farewell name the statement and the server`(
        operation: Operation, saysFarewell: Bool
    ) async throws {
        let farewell: [Step] = saysFarewell ? [.send(FarewellTests.farewell)] : []
        try await withMock([.receive(until: operation.last)] + farewell + [.close], mayEndEarly: true) { db, server in
            let error = await failure { try await operation.run(db) }
            #expect(error?.outcome == .unknown)
            #expect(error?.sql == operation.sql)
            #expect(error?.code == (saysFarewell ? .adminShutdown : .connectionLost))
            #expect(error?.message.contains("\(server.port)") == true)
            #expect(error?.server?.message.contains("\(server.port)") != true, "what the server said stays as it was")
        }
    }

    @Test func `the rest of a stream names its statement`() async throws {
        let script: [Step] = [.expect(firstExecution), .send(FarewellTests.described + FarewellTests.rows), .close]
        try await withMock(script, mayEndEarly: true) { db, _ in
            let error = await failure {
                for try await _ in try await db.stream("SELECT 1 AS n", as: Int32.self) {}
            }
            #expect(error?.code == .connectionLost)
            #expect(error?.sql == Self.sql)
        }
    }

    @Test(arguments: [false, true])
    func `a COPY in that is lost names itself`(isWritten: Bool) async throws {
        let begun: [Step] = isWritten ? [.send(.copyInResponse()), .receive(until: .copyDone)] : []
        try await withMock([.expect(.query)] + begun + [.close], mayEndEarly: true) { db, _ in
            let error = await failure { try await db.copy(into: "t") { try await $0.write("1\n") } }
            #expect(error?.code == .connectionLost)
            #expect(error?.sql == Self.text)
        }
    }

    @Test(arguments: [true, false], [true, false])
    func `whoever stops waiting names the statement`(isCancelled: Bool, isStream: Bool) async throws {
        try await SilentServerTests.with([.wait(for: Gate())]) { db in
            let number = db.core.state.withLock { $0.queue.nextNumber }
            let run = Task { await failure { try await (isStream ? Operation.stream : .query).run(db) } }
            if isCancelled || isStream {
                await eventually { db.core.state.withLock { $0.queue.count == 1 } }
                // A stream's consumer looks at its task only.
                run.cancel()
            } else {
                await eventually { db.core.state.withLock { $0.queue.update(number) { $0.waiter.isWaiting } ?? false } }
                db.core.stop(number, .timedOut, sendsRequest: false)
            }
            let error = await run.value
            #expect(error?.code == (isCancelled || isStream ? .cancelled : .timedOut))
            #expect(error?.outcome == .unknown)
            #expect(error?.sql == Self.sql)
        }
    }

    @Test(arguments: [PostgresPipeline.Sync.isolated, .atomic])
    func `each statement of a pipeline that is lost is named`(sync: PostgresPipeline.Sync) async throws {
        try await withMock([.receive(until: .sync), .close], mayEndEarly: true) { db, _ in
            var pipeline = PostgresPipeline(sync)
            for number in 0..<3 { pipeline.add("SELECT \(unsafeSQL: "\(number)") AS n, \(number)") }
            let errors = try await db.run(pipeline).errors
            #expect(errors.map { $0?.outcome } == [.unknown, .unknown, .unknown])
            #expect(errors.map { $0?.sql } == (0..<3).map { "SELECT \($0) AS n, $1" })
        }
    }

    @Test func `a statement that was undone is named, and not the one it was undone for`() async throws {
        let messages: [Message] =
            SilentServerTests.first("BEGIN") + SilentServerTests.first("INSERT 0 1") + [.errorResponse("23505")]
        try await withMock([.receive(until: .sync), .send(messages + [.readyForQuery("I")])], mayEndEarly: true) {
            db, _ in
            var pipeline = PostgresPipeline(.atomic)
            pipeline.add("INSERT INTO a VALUES (1)")
            pipeline.add("INSERT INTO b VALUES (1)")
            let error = await failure { try await db.transaction(pipeline) }
            #expect(error?.sql == "INSERT INTO b VALUES (1)")
        }
    }

    // MARK: The login

    @Test func `a server that proved itself is named in its refusal, too`() async throws {
        let authority = try PostgresTestCertificate.authority()
        let certificate = try authority.issue()
        let server = try PostgresMockServer(script: [
            .acceptTLS(certificate), .expect(.startup),
            .send(.errorResponse("3D000", "database \"shop\" does not exist", severity: "FATAL")), .close,
        ])
        let roots = try RootFile(authority.certificatePEM)
        let error = await failure {
            try await PostgresConnection.connect(
                server.configuration {
                    $0.database = "shop"
                    $0.sslmode = .verifyFull
                    $0.sslrootcert = roots.path
                })
        }
        #expect(error?.code == .invalidCatalogName)
        let place = "127.0.0.1:\(server.port)"
        #expect(error?.message == "database \"shop\" does not exist (connecting to \(place) as mock, database shop)")
        #expect(error?.server?.message == "database \"shop\" does not exist")
        await server.stop()
    }
}
