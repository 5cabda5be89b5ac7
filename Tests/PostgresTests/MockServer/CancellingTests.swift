import PostgresProtocol
import PostgresTransport
import Synchronization
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Deadlines and requests to cancel, against servers that answer as no real one does.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockCancellingTests {
    static let report = Message.errorResponse("57014", "canceling statement due to user request")

    /// A session that answers the first execution when the gate opens, and then one more.
    static func session(_ gate: Gate, _ answer: [Message], then next: [Step] = []) -> [Step] {
        [.acceptTrust(), .expect(firstExecution), .wait(for: gate), .send(answer)] + next
    }

    /// The connection that cancels: takes the request, opens the gate, and closes.
    static func cancelling(_ gate: Gate, then last: Step = .close) -> [Step] {
        [.expect(.cancelRequest), .steps([.open(gate)]), last]
    }

    static func stopped() -> [Message] {
        [.parseComplete, .parameterDescription([]), .rowDescription([.int4]), .bindComplete, report, .readyForQuery()]
    }

    /// Runs `body` with a connection to a server that has these scripts, and holds it to them.
    static func with(
        _ scripts: [[Step]], mayEndEarly: Bool = false, _ change: (inout PostgresConfiguration) -> Void = { _ in },
        _ body: (PostgresConnection, PostgresMockServer) async throws -> Void
    ) async throws {
        // On a busy machine an answer may take so long that the server is asked again.
        let again: [[Step]] = scripts.count > 1 ? Array(repeating: [.expect(.cancelRequest), .close], count: 1000) : []
        let server = try PostgresMockServer(scripts: scripts + again)
        do {
            let db = try await PostgresConnection.connect(
                server.configuration {
                    // A busy machine is no reason to give up.
                    $0.cancelTimeout = .seconds(50)
                    change(&$0)
                })
            try await body(db, server)
            db.close()
        } catch {
            await server.stop()
            throw error
        }
        if again.isEmpty { return mayEndEarly ? await server.stop() : try await server.finish() }
        await server.stop()
        if !mayEndEarly { #expect(server.failures.isEmpty) }
    }

    // MARK: The request

    @Test func `a statement past its deadline is cancelled, and the connection goes on`() async throws {
        let gate = Gate()
        try await Self.with([Self.session(gate, Self.stopped(), then: [.answerAgain(2)]), Self.cancelling(gate)]) {
            db, server in
            let error = await failure { try await withPostgresTimeout(.milliseconds(20)) { try await db.number() } }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            #expect(error?.sqlState == "57014")
            try await expectNumber(2, db)
            // The key as the server gave it, nothing before it and nothing behind it.
            #expect(server.bytes(ofConnection: 1) == [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 18, 103, 1, 2, 3, 4])
        }
    }

    @Test func `a result that came after all is returned`() async throws {
        let gate = Gate()
        let reply = Message.reply(columns: [.int4], rows: [[Int32(7).bytes]])
        try await Self.with([Self.session(gate, reply, then: [.answerAgain(8)]), Self.cancelling(gate)]) { db, _ in
            let number = try await withPostgresTimeout(.milliseconds(20)) { try await db.number() }
            #expect(number == 7)
            try await expectNumber(8, db)
        }
    }

    @Test func `nothing follows before the server has closed the connection that cancels`() async throws {
        let replied = Gate()
        let closing = Gate()
        let hasFollowed = Atomic<Bool>(false)
        let script = Self.session(
            replied, Self.stopped(),
            then: [
                .serve { _ in
                    hasFollowed.store(true, ordering: .relaxed)
                    return [.send(Message.boundReply(rows: [[Int32(2).bytes]]))]
                }
            ])
        try await Self.with([
            script, [.expect(.cancelRequest), .steps([.open(replied)]), .wait(for: closing), .close],
        ]) { db, _ in
            let error = await failure { try await withPostgresTimeout(.milliseconds(20)) { try await db.number() } }
            #expect(error?.outcome == .rejected)
            let next = Task { try await db.number() }
            await eventually { db.core.state.withLock { !$0.waitingForRoom.isEmpty } }
            let early = hasFollowed.load(ordering: .relaxed)
            #expect(!early)
            #expect(db.core.state.withLock { $0.queue.isEmpty && $0.cancelGate != nil })
            closing.open()
            let number = try await next.value
            #expect(number == 2)
        }
    }

    @Test(arguments: [4, 32, 256])
    func `keys of any length are sent back`(length: Int) async throws {
        let key = (0..<length).map { UInt8(truncatingIfNeeded: $0) }
        try await Self.with([[.acceptTrust()], [.expect(.cancelRequest), .close]]) { db, server in
            let request = CancelRequest(
                address: db.core.channel.socket.remoteAddress, host: "", tlsContext: nil, processID: 7, secretKey: key)
            let progress = await request.send(until: Deadline(after: .seconds(20)), loop: .shared)
            guard case .delivered = progress else {
                Issue.record("\(progress)")
                return
            }
            let header: [UInt8] = [0, 0, UInt8((12 + length) >> 8), UInt8((12 + length) & 255), 4, 210, 22, 46]
            #expect(server.bytes(ofConnection: 1) == header + [0, 0, 0, 7] + key)
        }
    }

    @Test func `without a key nothing can be cancelled`() async throws {
        let startup: [Message] = [
            .authenticationOk, .parameterStatus("client_encoding", "UTF8"), .readyForQuery(),
        ]
        try await Self.with([[.expect(.startup), .send(startup), .answer(1)]]) { db, _ in
            let error = await failure { try await db.cancel() }
            #expect(error?.code == .unsupported)
            try await expectNumber(1, db)
        }
    }

    @Test func `a session with TLS never sends its key in the clear`() async throws {
        // The session has TLS as far as it knows; the server offers none to the connection that cancels.
        let gate = Gate()
        let server = try PostgresMockServer(scripts: [Self.session(gate, []), [.answerSSLRequest("N"), .expectClose]])
        let db = try await PostgresConnection.connect(server.configuration { $0.sslmode = .disable })
        let request = CancelRequest(
            address: db.core.channel.socket.remoteAddress, host: "localhost",
            tlsContext: try TLSContext(verification: .none), processID: 4711, secretKey: [1, 2, 3, 4])
        let progress = await request.send(until: Deadline(after: .seconds(5)), loop: .shared)
        guard case .notSent = progress else {
            Issue.record("\(progress)")
            return
        }
        #expect(server.bytes(ofConnection: 1) == [0, 0, 0, 8, 4, 210, 22, 47])
        db.close()
        await server.stop()
    }

    @Test func `a negative time is refused before anything is tried`() async throws {
        for change in [
            { (configuration: inout PostgresConfiguration) in configuration.queryTimeout = .seconds(-1) },
            { (configuration: inout PostgresConfiguration) in configuration.cancelTimeout = .seconds(-1) },
        ] {
            var configuration = PostgresConfiguration(user: "mock")
            change(&configuration)
            let error = await failure { try await PostgresConnection.connect(configuration) }
            #expect(error?.code == .invalidConfiguration)
        }
    }

    // MARK: Servers that do not answer

    @Test(arguments: [true, false])
    func `a server that never answers costs the connection`(takesRequest: Bool) async throws {
        let never = Gate()
        let cancelling: [Step] = takesRequest ? [.expect(.cancelRequest), .wait(for: never)] : [.wait(for: never)]
        try await Self.with([Self.session(never, []), cancelling], mayEndEarly: true) {
            $0.cancelTimeout = .milliseconds(150)
        } _: { db, _ in
            let start = ContinuousClock.now
            let error = await failure { try await withPostgresTimeout(.milliseconds(50)) { try await db.number() } }
            let time = start.duration(to: .now)
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .unknown)
            #expect(time >= .milliseconds(200))
            #expect(time < .seconds(40))
            #expect(db.isClosed)
            let next = await failure { try await db.number() }
            #expect(next?.code == .connectionClosed)
            #expect(next?.outcome == .notSent)
        }
    }

    @Test func `everybody who waits behind is told`() async throws {
        let never = Gate()
        try await Self.with([Self.session(never, []), [.expect(.cancelRequest), .close]], mayEndEarly: true) {
            $0.cancelTimeout = .milliseconds(100)
        } _: { db, _ in
            let first = Task {
                await failure { try await withPostgresTimeout(.milliseconds(10)) { try await db.number() } }
            }
            await eventually { db.core.state.withLock { $0.cancelGate != nil } }
            let others = (0..<20).map { _ in Task { await failure { try await db.number() } } }
            #expect(await first.value?.outcome == .unknown)
            for other in others { #expect(await other.value?.outcome == .notSent) }
            #expect(db.isClosed)
        }
    }

    @Test func `behind a request to cancel that may still arrive nothing follows`() async throws {
        // A RST does not say whether the server has seen to what came before it; the end of a connection in order does.
        let gate = Gate()
        try await Self.with(
            [Self.session(gate, Self.stopped(), then: [.expectClose]), Self.cancelling(gate, then: .reset)],
            mayEndEarly: true
        ) { db, _ in
            let error = await failure { try await withPostgresTimeout(.milliseconds(20)) { try await db.number() } }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            let next = await failure { try await db.number() }
            #expect(next?.code == .connectionClosed)
            #expect(next?.outcome == .notSent)
        }
    }

    @Test func `where no connection that cancels is taken, the result counts if it comes in time`() async throws {
        // The second connection is closed before it has said anything.
        let gate = Gate()
        let reply = Message.reply(columns: [.int4], rows: [[Int32(7).bytes]])
        let refused: [Step] = [.steps([.open(gate)]), .reset]
        try await Self.with([Self.session(gate, reply), refused], mayEndEarly: true) { db, _ in
            let number = try await withPostgresTimeout(.milliseconds(10)) { try await db.number() }
            #expect(number == 7)
        }
    }

    @Test(arguments: [0.9, 1.1])
    func `a server that answers about when time is up gives a truthful outcome`(share: Double) async throws {
        let never = Gate()
        let asked = Gate()
        let script: [Step] = [
            .acceptTrust(), .expect(firstExecution), .wait(for: asked), .delay(.milliseconds(200) * share),
            .send(Self.stopped()),
        ]
        try await Self.with([script, Self.cancelling(asked), [.wait(for: never)]], mayEndEarly: true) {
            $0.cancelTimeout = .milliseconds(200)
        } _: { db, _ in
            let error = await failure { try await withPostgresTimeout(.milliseconds(20)) { try await db.number() } }
            #expect(error?.code == .timedOut)
            // Which of them it is, is a matter of milliseconds; that it is true, is not.
            #expect(error?.outcome == .rejected || error?.outcome == .unknown)
            if error?.outcome == .unknown { #expect(db.isClosed) } else { #expect(error?.sqlState == "57014") }
        }
    }

    @Test func `a server that trickles does not get more time`() async throws {
        let rows = Message.reply(
            columns: [.int4], rows: Array(repeating: [Int32(1).bytes], count: 5000)
        ).flatMap(\.bytes)
        let trickle = rows.prefix(20_000).flatMap { [Step.send(bytes: [$0]), .delay(.milliseconds(2))] }
        try await Self.with(
            [[.acceptTrust(), .expect(firstExecution)] + trickle, [.expect(.cancelRequest), .close]],
            mayEndEarly: true
        ) {
            $0.cancelTimeout = .milliseconds(100)
        } _: { db, _ in
            let start = ContinuousClock.now
            let error = await failure { try await withPostgresTimeout(.milliseconds(50)) { try await db.number() } }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .unknown)
            // All of it would take 40 s.
            #expect(start.duration(to: .now) < .seconds(35))
        }
    }

    // MARK: With others in flight

    @Test func `with others in flight nothing is cancelled`() async throws {
        let gate = Gate()
        let script: [Step] = [
            .acceptTrust(), .expect(firstExecution), .wait(for: gate),
            .send(Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])),
            .serve { group in
                group.map(\.kind) == [.sync]
                    ? [.send(.readyForQuery())] : [.send(Message.boundReply(rows: [[Int32(2).bytes]]))]
            },
        ]
        // No script for a connection that cancels: one would be a failure.
        try await Self.with([script]) { db, _ in
            let first = Task { try await db.number() }
            await eventually { db.core.state.withLock { $0.queue.count == 1 } }
            // Of two in flight the second's time is up; the first goes on.
            let second = Task {
                await failure { try await withPostgresTimeout(.milliseconds(30)) { try await db.number() } }
            }
            let error = await second.value
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .unknown || error?.outcome == .notSent)
            gate.open()
            #expect(try await first.value == 1)
            try await expectNumber(2, db)
        }
    }

    @Test func `cancel is refused with several in flight`() async throws {
        let gate = Gate()
        let script: [Step] = [
            .acceptTrust(), .expect(firstExecution), .wait(for: gate),
            .send(Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])), .answerAgain(2),
        ]
        try await Self.with([script]) { db, _ in
            let first = Task { try await db.number() }
            await eventually { db.core.state.withLock { $0.queue.count == 1 } }
            let second = Task { try await db.number() }
            await eventually { db.core.state.withLock { $0.queue.count == 2 } }
            let error = await failure { try await db.cancel() }
            #expect(error?.code == .unsupported)
            gate.open()
            #expect(try await first.value == 1)
            #expect(try await second.value == 2)
            let wasRunning = try await db.cancel()
            #expect(!wasRunning)
        }
    }

    // MARK: Cancelled tasks

    @Test func `a cancelled task stops its statement where that is asked for`() async throws {
        let gate = Gate()
        try await Self.with([Self.session(gate, Self.stopped(), then: [.answerAgain(2)]), Self.cancelling(gate)]) {
            $0.cancellation = .cancelRequest
        } _: { db, _ in
            let task = Task { await failure { try await db.number() } }
            await eventually { db.core.state.withLock { $0.queue.count == 1 } }
            task.cancel()
            let error = await task.value
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .rejected)
            try await expectNumber(2, db)
        }
    }

    /// The statement that runs, the one that is cancelled before anything of it is sent, and those behind it.
    private func takeBack(
        first: PostgresQuery = "SELECT 1 AS n", cancelled: PostgresQuery, behind: [PostgresQuery],
        sent: [FrontendMessage.Kind], isTaken: Bool = true
    ) async throws {
        let gate = Gate()
        let script: [Step] = [
            .acceptTrust(), .expect(firstExecution), .send(Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])),
            .expect(nextExecution), .wait(for: gate), .send(Message.boundReply(rows: [[Int32(2).bytes]])),
            .serve { group in
                switch group.map(\.kind) {
                case [.sync]: [.send(.readyForQuery())]
                case nextExecution: [.send(Message.boundReply(rows: [[Int32(3).bytes]]))]
                default: [.send(Message.reply(columns: [.int4], rows: [[Int32(3).bytes]]))]
                }
            },
        ]
        try await Self.with([script]) { db, server in
            try await expectNumber(1, db)
            let first = Task { try await db.number() }
            await eventually { db.core.state.withLock { $0.queue.count == 1 && !$0.sending } }
            let before = db.statistics.messagesSent
            // On the loop nothing leaves before the end of its turn, and jobs run in their order.
            let (error, others) = await Task(executorPreference: EventLoop.shared) {
                let second = Task(executorPreference: EventLoop.shared) {
                    await failure { _ = try await db.query(cancelled.as(Int32.self)).one() }
                }
                let others = behind.map { query in
                    Task(executorPreference: EventLoop.shared) { try await db.query(query.as(Int32.self)).one() }
                }
                Task(executorPreference: EventLoop.shared) { second.cancel() }
                return (await second.value, others)
            }.value
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == (isTaken ? .notSent : .unknown))
            gate.open()
            #expect(try await first.value == 2)
            for other in others { #expect(try await other.value == 3) }
            #expect(db.statistics.messagesSent - before == sent.count)
            try await expectNumber(3, db)
            // Once more, as if it had not been.
            let again = try await db.query(cancelled.as(Int32.self)).one()
            #expect(again == 3)
            // In its place in the queue there is a Sync, and no numbers shift.
            let kinds = server.messages().map(\.kind).drop { $0 == .startup }.dropFirst(firstExecution.count)
            #expect(Array(kinds.prefix(nextExecution.count + sent.count)) == nextExecution + sent)
        }
    }

    @Test func `a statement that waits behind others is taken back`() async throws {
        try await takeBack(cancelled: "SELECT 1 AS n", behind: [], sent: [.sync])
    }

    @Test func `a statement that others wait behind is taken back`() async throws {
        try await takeBack(
            cancelled: "SELECT 1 AS n", behind: ["SELECT 1 AS n", "SELECT 3 AS n"],
            sent: [.sync] + nextExecution + firstExecution)
    }

    @Test func `a statement is taken back, and its large parameters with it`() async throws {
        let text = String(repeating: "x", count: LargeParameters.minimum)
        try await takeBack(
            cancelled: "SELECT length(\(text)) AS n", behind: ["SELECT 1 AS n"], sent: [.sync] + nextExecution)
    }

    @Test func `a first execution is taken back, and its Parse with it`() async throws {
        try await takeBack(cancelled: "SELECT 2 AS n", behind: ["SELECT 1 AS n"], sent: [.sync] + nextExecution)
    }

    @Test func `a first execution whose statement others have bound to stays`() async throws {
        try await takeBack(
            cancelled: "SELECT 2 AS n", behind: ["SELECT 2 AS n"], sent: firstExecution + nextExecution, isTaken: false)
    }

    @Test func `the Close of an evicted statement is sent with the next Parse`() async throws {
        let gate = Gate()
        let script: [Step] = [
            .acceptTrust(), .answer(1), .expect(nextExecution), .wait(for: gate),
            .send(Message.boundReply(rows: [[Int32(2).bytes]])), .expect(.sync), .send(.readyForQuery()),
            .expect([.close] + firstExecution),
            .send([.closeComplete] + Message.reply(columns: [.int4], rows: [[Int32(4).bytes]])),
        ]
        try await Self.with([script]) {
            $0.statementCacheCapacity = 1
        } _: { db, _ in
            try await expectNumber(1, db)
            let first = Task { try await db.number() }
            await eventually { db.core.state.withLock { $0.queue.count == 1 && !$0.sending } }
            let error = await Task(executorPreference: EventLoop.shared) {
                let second = Task(executorPreference: EventLoop.shared) {
                    await failure { try await db.query("SELECT 2 AS n", as: Int32.self).one() }
                }
                Task(executorPreference: EventLoop.shared) { second.cancel() }
                return await second.value
            }.value
            #expect(error?.outcome == .notSent)
            gate.open()
            #expect(try await first.value == 2)
            #expect(try await db.query("SELECT 4 AS n", as: Int32.self).one() == 4)
        }
    }

    // MARK: Waiting for a turn

    @Test func `the wait for a connection that another has for itself has a deadline`() async throws {
        try await Self.with([[.acceptTrust(), .answer(1)]]) { db, _ in
            let lease = try await db.core.lease()
            for error in [
                await failure { try await withPostgresTimeout(.milliseconds(20)) { try await db.number() } },
                await failure { try await withPostgresTimeout(.milliseconds(20)) { try await db.core.lease() } },
                await failure {
                    try await withPostgresTimeout(.milliseconds(20)) { try await db.stream("SELECT 1", as: Int.self) }
                },
            ] {
                #expect(error?.code == .timedOut)
                #expect(error?.outcome == .notSent)
            }
            db.core.endLease(lease)
            try await expectNumber(1, db)
        }
    }

    @Test func `a lease whose statement is cancelled goes on, and ends`() async throws {
        let gate = Gate()
        try await Self.with([
            Self.session(gate, Self.stopped(), then: [.answerAgain(2), .answerAgain(3)]), Self.cancelling(gate),
        ]) { db, _ in
            let lease = try await db.core.lease()
            let query: PostgresQuery.Typed<Int32> = PostgresQuery("SELECT 1 AS n").as(Int32.self)
            let error = await failure {
                try await withPostgresTimeout(.milliseconds(20)) {
                    try await db.core.perform(query.query, query.formats, as: lease)
                }
            }
            #expect(error?.outcome == .rejected)
            let reply = try await db.core.perform(query.query, query.formats, as: lease)
            #expect(reply.rowCount == 1)
            db.core.endLease(lease)
            try await expectNumber(3, db)
        }
    }

    // MARK: Streams and pipelines

    @Test func `a stream past its deadline is cancelled`() async throws {
        let gate = Gate()
        let some = Array(Message.reply(columns: [.int4], rows: [[Int32(1).bytes]]).dropLast(2))
        let script: [Step] = [
            .acceptTrust(), .expect(firstExecution), .send(some), .wait(for: gate),
            .send(Self.report, .readyForQuery()), .answerAgain(2),
        ]
        try await Self.with([script, Self.cancelling(gate)]) { db, _ in
            let error = await failure {
                try await withPostgresTimeout(.milliseconds(50)) {
                    for try await number in try await db.stream("SELECT 1 AS n", as: Int32.self) {
                        #expect(number == 1)
                    }
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            try await expectNumber(2, db)
        }
    }

    @Test(arguments: [PostgresPipeline.Sync.isolated, .atomic])
    func `a pipeline past its deadline is cancelled`(sync: PostgresPipeline.Sync) async throws {
        let gate = Gate()
        let isAtomic = sync == .atomic
        let groups: [Step] =
            isAtomic
            ? [
                .receive(until: .sync), .wait(for: gate),
                .send(
                    Message.reply(columns: [.int4], rows: [[Int32(1).bytes]]).dropLast()
                        + [.bindComplete, Self.report, .readyForQuery()]),
            ]
            : [
                .receive(until: .sync), .receive(until: .sync),
                .send(Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])), .wait(for: gate),
                .send([.bindComplete, Self.report, .readyForQuery()]),
            ]
        try await Self.with([[.acceptTrust()] + groups + [.answerAgain(5)], Self.cancelling(gate)]) { db, _ in
            var pipeline = PostgresPipeline(sync)
            for _ in 0..<2 { _ = pipeline.add(PostgresQuery("SELECT 1 AS n").as(Int32.self)) }
            let results = try await withPostgresTimeout(.milliseconds(50)) { try await db.run(pipeline) }
            #expect(results.errors[1]?.code == .timedOut)
            #expect(results.errors[1]?.outcome == .rejected)
            #expect(results.errors[0]?.outcome == (isAtomic ? .aborted : nil))
            try await expectNumber(5, db)
        }
    }

    // MARK: What has several replies

    @Test func `a script past its deadline is cancelled`() async throws {
        let gate = Gate()
        let script: [Step] = [
            .acceptTrust(), .expect(.query), .send(.commandComplete("SET")), .wait(for: gate),
            .send(Self.report, .readyForQuery()), .answer(2),
        ]
        try await Self.with([script, Self.cancelling(gate)]) { db, _ in
            let error = await failure {
                try await withPostgresTimeout(.milliseconds(20)) { try await db.script("SET a.b = 1; SELECT 1") }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            #expect(error?.sqlState == "57014")
            try await expectNumber(2, db)
        }
    }

    @Test func `a cursor whose opening is cancelled has that error`() async throws {
        let begun = Gate()
        let gate = Gate()
        let script: [Step] = [
            .acceptTrust(), .expect(.sync), .send(.readyForQuery()), .receive(until: .sync),
            .send(Array(FarewellTests.opened.prefix(9))), .open(begun), .wait(for: gate),
            .send(Self.report, .readyForQuery("E")), .expect(.query),
            .send(.commandComplete("ROLLBACK"), .readyForQuery()), .answer(2),
        ]
        try await Self.with([script, Self.cancelling(gate)]) {
            $0.cancellation = .cancelRequest
        } _: { db, _ in
            let task = Task {
                await failure { _ = try await db.cursor("SELECT 1 AS n", as: Int32.self, fetching: 3) }
            }
            // Not by a deadline, which on a busy machine could pass before that.
            await begun.opened()
            task.cancel()
            let error = await task.value
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .rejected)
            #expect(error?.sqlState == "57014")
            try await expectNumber(2, db)
        }
    }

    @Test func `a LISTEN past its deadline is cancelled`() async throws {
        let gate = Gate()
        let script: [Step] = [
            .acceptTrust(), .receive(until: .sync), .wait(for: gate),
            .send(.parseComplete, .parameterDescription([]), .noData, .bindComplete, Self.report, .readyForQuery()),
            // UNLISTEN, as soon as the gate is open.
            .serve { _ in
                [
                    .send(
                        .parseComplete, .parameterDescription([]), .noData, .bindComplete,
                        .commandComplete("UNLISTEN"), .readyForQuery())
                ]
            },
        ]
        try await Self.with([script, Self.cancelling(gate)]) { db, _ in
            let error = await failure {
                try await withPostgresTimeout(.milliseconds(20)) { _ = try await db.listen(to: "news") }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            #expect(error?.sqlState == "57014")
            #expect(!db.isClosed)
        }
    }
}
