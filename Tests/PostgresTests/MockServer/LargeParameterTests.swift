import PostgresProtocol
import PostgresTransport
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Parameters that are not copied: they leave between what is in front of them and what is behind.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockLargeParameterTests {
    /// Who sends, and who has to be told when the socket is full.
    enum Caller: Sendable, CaseIterable {
        case readsForItself, suspends, loop
    }

    private func run<Value: Sendable>(
        as caller: Caller, _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        guard caller == .loop else { return try await body() }
        return try await Task(executorPreference: EventLoop.shared) { try await body() }.value
    }

    /// More than the sockets hold. Of a period that no buffer has.
    private static let big = {
        let pattern = [UInt8]((0..<100_003).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) })
        var bytes: [UInt8] = []
        while bytes.count < 32 << 20 { bytes += pattern }
        return bytes
    }()

    /// The body of the Bind that carries `parameter` alone to the first statement of a connection.
    private func bind(_ parameter: [UInt8]) -> [UInt8] {
        Array("\0s1\0".utf8) + [0, 1, 0, 1, 0, 1] + Int32(parameter.count).bytes + parameter + [0, 1, 0, 1]
    }

    private static func number(_ bytes: [UInt8]) -> PostgresQuery.Typed<Int32> {
        let query: PostgresQuery = "SELECT length(\(PostgresBytes(bytes))) AS n"
        return query.as(Int32.self)
    }

    @Test(arguments: Caller.allCases, [LargeParameters.minimum - 5, LargeParameters.minimum - 4, 32 << 20])
    func `all bytes arrive, in their order, also if the server reads late`(caller: Caller, size: Int) async throws {
        let gate = Gate()
        let bytes = Array(Self.big.prefix(size))
        try await withMock([
            .wait(for: gate), .answer(1), .answerAgain(2), .answerAgain(3),
        ]) {
            $0.callersMayRead = caller == .readsForItself
        } _: { db, server in
            let numbers = Task {
                try await run(as: caller) {
                    // In line behind the first, which does not fit into the socket.
                    async let first = db.query(Self.number(bytes)).one()
                    async let second = db.query(Self.number(bytes)).one()
                    return try await [first, second].sorted()
                }
            }
            // On the loop the first is copied, and there is no room for the second before it has left.
            let queued = caller == .loop && size > ConnectionState.pendingLimit ? 1 : 2
            await eventually { db.core.state.withLock { $0.queue.count == queued } }
            if size > 1 << 20, caller != .loop {
                // The socket is full, and the rest is not copied.
                await eventually { db.core.state.withLock { $0.wantsWrite && db.core.outgoingParameters != nil } }
                #expect(db.core.state.withLock { _ in db.core.outgoing.count } < 1000)
            }
            gate.open()
            #expect(try await numbers.value == [1, 2])
            let third = try await run(as: caller) { try await db.query(Self.number([7])).one() }
            #expect(third == 3)
            let binds = server.messages().filter { $0.kind == .bind }.map(\.body)
            let expected = [bytes, bytes, [7]].map { bind($0) }
            let isEqual = binds == expected
            #expect(isEqual)
        }
    }

    @Test(arguments: Caller.allCases)
    func `a connection that is lost in the middle of them is an error of unknown outcome`(caller: Caller) async throws {
        try await withMock([.receive(until: .parse), .reset], mayEndEarly: true) {
            $0.callersMayRead = caller == .readsForItself
        } _: { db, _ in
            let error = await failure { try await run(as: caller) { try await db.query(Self.number(Self.big)).one() } }
            #expect(error?.code == .connectionLost)
            #expect(error?.outcome == .unknown)
            #expect(error?.sql == "SELECT length($1) AS n")
            #expect(db.isClosed)
            await eventually { db.core.state.withLock { !$0.sending && db.core.unsentBytes == 0 } }
        }
    }

    @Test(arguments: Caller.allCases)
    func `closing in the middle of them leaves nothing`(caller: Caller) async throws {
        let gate = Gate()
        try await withMock([.wait(for: gate), .receive(until: .parse)], mayEndEarly: true) {
            $0.callersMayRead = caller == .readsForItself
        } _: { db, _ in
            let task = Task {
                await failure { try await run(as: caller) { try await db.query(Self.number(Self.big)).one() } }
            }
            await eventually { db.core.state.withLock { $0.wantsWrite } }
            db.close()
            let error = await task.value
            #expect(error?.code == .connectionClosed)
            #expect(error?.outcome == .unknown)
            await eventually { db.core.state.withLock { !$0.sending && db.core.unsentBytes == 0 } }
            #expect(db.core.state.withLock { _ in db.core.outgoingParameters == nil })
            gate.open()
        }
    }

    @Test func `what is too long is refused, and nothing of it is sent`() async throws {
        try await withMock([.answer(1)]) { db, _ in
            let query = PostgresQuery(PostgresQuery.Text(unsafeSQL: "SELECT $1 AS n"), parameterCount: 1) { encoder in
                for _ in 0..<65_536 { encoder.appendParameter(true) }
            }
            let error = await failure { try await db.execute(query) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.outcome == .notSent)
            try await expectNumber(1, db)
        }
    }
}
