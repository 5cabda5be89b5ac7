import PostgresProtocol
import PostgresTransport
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Connections that break, at any point, and what their statements are told.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockLostConnectionTests {
    enum End: Sendable, CaseIterable {
        case close, reset, halfClose

        var step: Step {
            switch self {
            case .close: .close
            case .reset: .reset
            case .halfClose: .halfClose
            }
        }
    }

    static let startup = Message.startupComplete().flatMap(\.bytes)
    static let reply = Message.reply(columns: [.int4], rows: [[Int32(1).bytes]]).flatMap(\.bytes)

    @Test(arguments: End.allCases)
    func `a server that ends the connection at any byte of the start-up is a typed error`(end: End) async throws {
        let scripts = Self.startup.indices.map {
            [Step.expect(.startup), .send(bytes: Array(Self.startup[..<$0])), end.step]
        }
        let server = try PostgresMockServer(scripts: scripts)
        for _ in scripts {
            let error = await failure { try await PostgresConnection.connect(server.configuration()) }
            #expect(error?.code == .connectionLost || error?.code == .cannotConnect)
            #expect(error?.outcome == .notSent)
        }
        #expect(openSockets(toPort: server.port) == 0)
        try await server.finish()
    }

    @Test(arguments: End.allCases, [true, false])
    func `a server that ends the connection at any byte of a reply is a typed error`(
        end: End, callersMayRead: Bool
    ) async throws {
        let scripts = Self.reply.indices.map {
            [Step.acceptTrust(), .expect(firstExecution), .send(bytes: Array(Self.reply[..<$0])), end.step]
        }
        let server = try PostgresMockServer(scripts: scripts)
        for _ in scripts {
            let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = callersMayRead })
            let error = await failure { try await db.number() }
            #expect(error?.code == .connectionLost)
            #expect(error?.outcome == .unknown)
            #expect(db.isClosed)
        }
        try await server.finish()
        await noSocket(toPort: server.port)
    }

    @Test(arguments: [true, false])
    func `every request in flight is told`(callersMayRead: Bool) async throws {
        let gate = Gate()
        let server = try PostgresMockServer(script: [.acceptTrust(), .receive(until: .sync), .wait(for: gate), .reset])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = callersMayRead })
        await withTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<50 { group.addTask { await failure { try await db.number() } } }
            gate.open()
            for await error in group { #expect(error?.code == .connectionLost) }
        }
        #expect(db.isClosed)
        try await server.finish()
    }

    @Test func `what a server said before it closed is the error`() async throws {
        let goodbye = Message.errorResponse(
            "57P01", "terminating connection due to administrator command", severity: "FATAL")
        for described in [
            [Message](), [.parseComplete, .parameterDescription([]), .rowDescription([.int4]), .bindComplete],
        ] {
            let server = try PostgresMockServer(script: [
                .acceptTrust(), .expect(firstExecution), .send(described + [goodbye]), .close,
            ])
            let db = try await PostgresConnection.connect(server.configuration())
            let error = await failure { try await db.number() }
            #expect(error?.code == .adminShutdown)
            #expect(error?.outcome == .unknown)
            #expect(db.isClosed)
            let next = await failure { try await db.number() }
            #expect(next?.outcome == .notSent)
            try await server.finish()
        }
    }

    @Test(arguments: [true, false])
    func `what a server said while nothing was in flight is the error of the next query`(callersMayRead: Bool)
        async throws
    {
        let said = Gate()
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .answer(1),
            .send(.errorResponse("57P01", "terminating connection", severity: "FATAL")), .halfClose, .open(said),
            .receive(until: .sync),
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = callersMayRead })
        try await expectNumber(1, db)
        await said.opened()
        let error = await failure { try await db.number() }
        #expect(error?.code == .adminShutdown)
        #expect(error?.outcome != .rejected)
        #expect(db.isClosed)
        await server.stop()
    }

    @Test func `the end of a connection that nobody reads is seen at once, and reaches the next query`() async throws {
        let isUnread = Gate()
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .answer(1), .wait(for: isUnread),
            .send(.errorResponse("57P01", "terminating connection", severity: "FATAL")), .halfClose,
        ])
        let db = try await PostgresConnection.connect(server.configuration())
        try await expectNumber(1, db)
        // As it is when a caller read its own reply.
        db.core.state.withLock { state in
            state.reader = .nobody
            db.core.arm(&state)
        }
        isUnread.open()
        await eventually { db.isClosed }
        let error = await failure { try await db.number() }
        #expect(error?.outcome == .notSent)
        #expect(error?.code == .adminShutdown)
        await server.stop()
    }

    @Test func `an error that is not fatal and then the end is a lost connection`() async throws {
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .expect(firstExecution), .send(.errorResponse("42601")), .close,
        ])
        let db = try await PostgresConnection.connect(server.configuration())
        let error = await failure { try await db.number() }
        #expect(error?.code == .connectionLost)
        #expect(error?.outcome == .unknown)
        try await server.finish()
    }

    /// The errors of two statements of which the first fills the socket, because the server reads nothing, and the second waits
    /// behind it.
    private func errorsBehindAFullSocket(
        _ end: Step, _ body: (PostgresConnection, Gate) -> Void
    ) async throws -> [PostgresError?] {
        let full = Gate()
        let server = try PostgresMockServer(script: [.acceptTrust(), .wait(for: full), end])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = false })
        // (Repeating a string takes seconds without optimization.)
        let text = String(decoding: [UInt8](repeating: UInt8(ascii: "x"), count: 32 << 20), as: UTF8.self)
        let first = Task { try await db.execute("SELECT \(text)") }
        await eventually { db.core.state.withLock({ $0.wantsWrite }) }
        let second = Task { try await db.number() }
        await eventually { !(db.core.state.withLock({ $0.queue.count }) < 2) }
        body(db, full)
        let errors = [await failure { try await first.value }, await failure { try await second.value }]
        await server.stop()
        return errors
    }

    @Test func `of statements behind a full socket only those that were sent count as sent`() async throws {
        let errors = try await errorsBehindAFullSocket(.reset) { $1.open() }
        #expect(errors.map { $0?.code } == [.connectionLost, .connectionLost])
        #expect(errors.map { $0?.outcome } == [.unknown, .notSent])
    }

    // MARK: close()

    @Test(arguments: [true, false])
    func `close answers everybody who waits`(callersMayRead: Bool) async throws {
        let received = Gate()
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .receive(until: .sync), .open(received), .receiveAll,
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = callersMayRead })
        await withTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<10 { group.addTask { await failure { try await db.number() } } }
            await received.opened()
            db.close()
            for await error in group { #expect(error?.code == .connectionClosed) }
        }
        let next = await failure { try await db.number() }
        #expect(next?.code == .connectionClosed)
        #expect(next?.outcome == .notSent)
        await server.stop()
        await noSocket(toPort: server.port)
    }

    @Test func `a request that was sent before close has an unknown outcome`() async throws {
        let received = Gate()
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .expect(firstExecution), .open(received), .receiveAll,
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = false })
        let task = Task { try await db.number() }
        await received.opened()
        db.close()
        let error = await failure { try await task.value }
        #expect(error?.code == .connectionClosed)
        #expect(error?.outcome == .unknown)
        await server.stop()
    }

    @Test func `close sends Terminate when nothing is in flight, and can be called again`() async throws {
        let server = try PostgresMockServer(script: [.acceptTrust(), .answer(1), .expect(.terminate), .expectClose])
        let db = try await PostgresConnection.connect(server.configuration())
        try await expectNumber(1, db)
        db.close()
        db.close()
        try await server.finish()
        #expect(openSockets(toPort: server.port) == 0)
    }

    @Test(arguments: [true, false])
    func `close sends Terminate behind the statements in flight`(callersMayRead: Bool) async throws {
        let received = Gate()
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .expect(firstExecution), .expect(nextExecution), .open(received), .expect(.terminate),
            .expectClose,
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = callersMayRead })
        try await withThrowingTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<2 { group.addTask { await failure { try await db.number() } } }
            await received.opened()
            db.close()
            for try await error in group {
                #expect(error?.code == .connectionClosed)
                #expect(error?.outcome == .unknown)
            }
        }
        try await server.finish()
    }

    @Test func `close leaves Terminate, and the end, to a thread that is sending`() async throws {
        let received = Gate()
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .expect(firstExecution), .open(received), .expect(.terminate), .expectClose,
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = false })
        let task = Task { try await db.number() }
        await received.opened()
        await eventually { !db.core.state.withLock({ $0.sending }) }
        // This thread is the sender now.
        db.core.state.withLock { $0.sending = true }
        db.close()
        #expect(db.isClosed)
        let next = await failure { try await db.number() }
        #expect(next?.outcome == .notSent)
        let isUnanswered = db.core.state.withLock { $0.queue.count == 1 }
        #expect(isUnanswered)
        db.core.pump()
        let error = await failure { try await task.value }
        #expect(error?.code == .connectionClosed)
        #expect(error?.outcome == .unknown)
        try await server.finish()
        await noSocket(toPort: server.port)
    }

    @Test func `close sends what is pending, and Terminate behind it`() async throws {
        let server = try PostgresMockServer(script: [
            .acceptTrust(), .expect(firstExecution), .expect(nextExecution), .expect(.terminate), .expectClose,
        ])
        let db = try await PostgresConnection.connect(server.configuration { $0.callersMayRead = false })
        // On the loop's own thread nothing is sent before the end of the turn, and close() comes before that.
        let errors = try await Task(executorPreference: db.executor) {
            var numbers: [Int] = []
            for _ in 0..<2 {
                let begun = try db.core.begin("SELECT 1 AS n", .text, .cached, as: nil, mayRead: false, blocking: false)
                guard case .queued(let number, flush: false) = begun else { throw PostgresError.cancelled(.notSent) }
                numbers.append(number)
            }
            db.close()
            var errors: [PostgresError?] = []
            for number in numbers { errors.append(await db.core.wait(for: number).error) }
            return errors
        }.value
        for error in errors {
            #expect(error?.code == .connectionClosed)
            #expect(error?.outcome == .unknown)
        }
        try await server.finish()
    }

    @Test func `close with a full socket waits for nothing, and says what was not sent`() async throws {
        let errors = try await errorsBehindAFullSocket(.expectClose) { db, _ in db.close() }
        #expect(errors.map { $0?.code } == [.connectionClosed, .connectionClosed])
        #expect(errors.map { $0?.outcome } == [.unknown, .notSent])
    }

    @Test func `a connection that is dropped closes its descriptor`() async throws {
        let server = try PostgresMockServer(
            scripts: Array(repeating: [.acceptTrust(), .answer(1), .expectClose], count: 10))
        for _ in 0..<10 {
            let db = try await PostgresConnection.connect(server.configuration())
            try await expectNumber(1, db)
        }
        try await server.finish()
        await noSocket(toPort: server.port)
    }

    @Test(arguments: PostgresMockServer.Address.allCases)
    func `a connection works over every kind of socket`(address: PostgresMockServer.Address) async throws {
        let server = try PostgresMockServer(over: address, script: [.acceptTrust(), .answer(1), .answerAgain(2)])
        let db = try await PostgresConnection.connect(server.connectionURL)
        try await expectNumber(1, db)
        try await expectNumber(2, db)
        db.close()
        try await server.finish()
    }

    /// The reader may find the server's end, or the sender a broken socket, while close() is on its way.
    @Test(arguments: [ConnectionCore.Role.reader, .sender])
    func `what close says is the reason, whatever is found before it is done`(role: ConnectionCore.Role) async throws {
        try await withMock([.expectClose], mayEndEarly: true) { db, _ in
            // Somebody else is the sender, and is left the Terminate.
            db.core.state.withLock { $0.sending = true }
            db.close()
            db.core.lost(.endOfFile, holding: role)
            #expect(db.isClosed)
            if role == .reader { db.core.lost(.endOfFile, holding: .sender) }
            let error = await failure { try await db.number() }
            #expect(error?.code == .connectionClosed)
            #expect(db.core.state.withLock { $0.isDescriptorClosed })
        }
    }
}

extension Step {
    /// Takes whatever comes until the client closes.
    static let receiveAll = Step.serve { _ in [] }
}

/// The descriptor may be closed a moment later, by the loop's thread.
private func noSocket(toPort port: Int, _ sourceLocation: SourceLocation = #_sourceLocation) async {
    let deadline = ContinuousClock.now + .seconds(10)
    while openSockets(toPort: port) != 0, ContinuousClock.now < deadline { await Task.yield() }
    #expect(openSockets(toPort: port) == 0, sourceLocation: sourceLocation)
}
