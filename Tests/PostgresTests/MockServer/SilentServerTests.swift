import PostgresProtocol
import PostgresTransport
import Synchronization
import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// Waits end although the server says nothing more, each within its bound.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct SilentServerTests {
    private struct OwnFailure: Error, Equatable {}

    /// Who bounds the time.
    enum Bound: Sendable, CaseIterable {
        case queryTimeout, scope, cancelledTask

        /// What the errors of bounded waits say.
        var code: PostgresError.Code { self == .cancelledTask ? .cancelled : .timedOut }
    }

    static let report = MockCancellingTests.report

    /// Enough for what comes before the silence, on a busy machine, too.
    private static let time = Duration.seconds(3)

    /// The answers to a statement without rows on its first execution, without Sync.
    static func first(_ tag: String) -> [Message] {
        [.parseComplete, .parameterDescription([]), .noData, .bindComplete, .commandComplete(tag)]
    }

    static let firstNumber: [Message] = [
        .parseComplete, .parameterDescription([]), .rowDescription([.int4]), .bindComplete,
        .dataRow([Int32(1).bytes]), .commandComplete("SELECT 1"),
    ]

    /// BEGIN and a statement.
    static let begun = Step.steps([
        .receive(until: .sync), .send(first("BEGIN") + firstNumber + [.readyForQuery("T")]),
    ])

    /// A connection to a server that follows the first script, and takes requests to cancel. A wait without bound ends in the loss
    /// of the connection, when the server's own time is up.
    ///
    /// - Parameter asked: opened by the first request to cancel.
    static func with(
        _ script: [Step], asked: Gate = Gate(), _ change: (inout PostgresConfiguration) -> Void = { _ in },
        _ body: (PostgresConnection) async throws -> Void
    ) async throws {
        let cancelling: [[Step]] = Array(
            repeating: [.expect(.cancelRequest), .steps([.open(asked)]), .close], count: 200)
        let server = try PostgresMockServer(timeout: .seconds(20), scripts: [[.acceptTrust()] + script] + cancelling)
        do {
            let db = try await PostgresConnection.connect(
                server.configuration {
                    $0.cancelTimeout = .milliseconds(150)
                    change(&$0)
                })
            try await body(db)
            db.close()
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    /// That this side has closed the connection, and not the server when its time was up.
    private static func expectClosed(_ db: PostgresConnection, _ sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(db.core.state.withLock { $0.closed?.code } == .connectionClosed, sourceLocation: sourceLocation)
    }

    /// Runs an operation that the server does not answer, under the bound.
    ///
    /// - Parameter begun: whether the operation has come to the wait that a cancelled task is to end.
    private static func bounded<Value: Sendable>(
        by bound: Bound, _ begun: @escaping @Sendable () -> Bool,
        _ operation: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        switch bound {
        case .queryTimeout: return try await operation()
        case .scope: return try await withPostgresTimeout(Self.time, operation)
        case .cancelledTask:
            let task = Task { try await operation() }
            await eventually { begun() }
            task.cancel()
            return try await task.value
        }
    }

    private static func configure(_ bound: Bound) -> (inout PostgresConfiguration) -> Void {
        { if bound == .queryTimeout { $0.queryTimeout = time } }
    }

    /// Two groups were sent: the one of BEGIN, and another.
    private static func hasSentEnd(_ db: PostgresConnection) -> @Sendable () -> Bool {
        { db.core.state.withLock { $0.statistics.roundTrips == 1 && $0.queue.count == 1 } || db.isClosed }
    }

    // MARK: The ends of transactions

    @Test(arguments: Bound.allCases)
    func `a COMMIT that is not answered has an unknown outcome`(bound: Bound) async throws {
        try await Self.with([Self.begun, .receive(until: .sync), .wait(for: Gate())], Self.configure(bound)) { db in
            let error = await failure {
                try await Self.bounded(by: bound, Self.hasSentEnd(db)) {
                    try await db.transaction { tx in _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one() }
                }
            }
            #expect(error?.code == bound.code)
            #expect(error?.outcome == .unknown)
            #expect(error?.message.contains("COMMIT") == true)
            Self.expectClosed(db)
        }
    }

    @Test(arguments: Bound.allCases)
    func `a COMMIT that could be cancelled has a known one`(bound: Bound) async throws {
        let asked = Gate()
        let script: [Step] = [
            Self.begun, .receive(until: .sync), .wait(for: asked),
            .send([.parseComplete, .parameterDescription([]), .noData, .bindComplete, Self.report, .readyForQuery()]),
            .answerAgain(3),
        ]
        try await Self.with(script, asked: asked) {
            Self.configure(bound)(&$0)
            $0.cancelTimeout = bound == .cancelledTask ? .seconds(5) : .seconds(20)
        } _: { db in
            let error = await failure {
                try await Self.bounded(by: bound, Self.hasSentEnd(db)) {
                    try await db.transaction { tx in _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one() }
                }
            }
            #expect(error?.code == bound.code)
            #expect(error?.outcome == .rejected)
            try await expectNumber(3, db)
        }
    }

    @Test func `past the deadline COMMIT is not sent`() async throws {
        let script: [Step] = [
            Self.begun, .expect(.query), .send(.commandComplete("ROLLBACK"), .readyForQuery()), .answerAgain(3),
        ]
        try await Self.with(script) {
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let error = await failure {
                try await withPostgresTimeout(Self.time) {
                    try await db.transaction { tx in
                        _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one()
                        while !PostgresScope.hasEnded { try await Task.sleep(for: .milliseconds(5)) }
                    }
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .aborted)
            try await expectNumber(3, db)
        }
    }

    @Test(arguments: Bound.allCases)
    func `a ROLLBACK that is not answered closes the connection`(bound: Bound) async throws {
        try await Self.with([Self.begun, .expect(.query), .wait(for: Gate())], Self.configure(bound)) { db in
            await #expect(throws: OwnFailure()) {
                try await Self.bounded(by: bound, Self.hasSentEnd(db)) {
                    try await db.transaction { tx in
                        _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one()
                        throw OwnFailure()
                    }
                }
            }
            Self.expectClosed(db)
        }
    }

    @Test(arguments: Bound.allCases)
    func `a ROLLBACK TO that is not answered closes the connection`(bound: Bound) async throws {
        let script: [Step] = [
            Self.begun, .receive(until: .sync),
            .send(
                Self.first("SAVEPOINT") + [
                    .bindComplete, .dataRow([Int32(1).bytes]), .commandComplete("SELECT 1"), .readyForQuery("T"),
                ]), .expect(.query), .wait(for: Gate()),
        ]
        try await Self.with(script, Self.configure(bound)) { db in
            await #expect(throws: OwnFailure()) {
                try await Self.bounded(
                    by: bound,
                    { db.core.state.withLock { $0.statistics.roundTrips == 2 && $0.queue.count == 1 } || db.isClosed }
                ) {
                    try await db.transaction { tx in
                        _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one()
                        try await tx.transaction { inner in
                            _ = try await inner.query("SELECT 1 AS n", as: Int32.self).one()
                            throw OwnFailure()
                        }
                    }
                }
            }
            Self.expectClosed(db)
        }
    }

    @Test(arguments: [Bound.queryTimeout, .scope], [PostgresPipeline.Sync.atomic, .savepoints])
    func `a transaction in one flight has a deadline`(bound: Bound, sync: PostgresPipeline.Sync) async throws {
        try await Self.with([.receive(until: .sync), .wait(for: Gate())], Self.configure(bound)) { db in
            var pipeline = PostgresPipeline(sync)
            for _ in 0..<2 { pipeline.add("SELECT 1 AS n") }
            let toSend = pipeline
            let error = await failure {
                try await Self.bounded(by: bound, { false }) { try await db.transaction(toSend) }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .unknown)
            Self.expectClosed(db)
        }
    }

    @Test(arguments: [Bound.queryTimeout, .scope])
    func `a pipeline with savepoints has a deadline`(bound: Bound) async throws {
        try await Self.with([.receive(until: .sync), .wait(for: Gate())], Self.configure(bound)) { db in
            var pipeline = PostgresPipeline(.savepoints)
            for _ in 0..<2 { pipeline.add("SELECT 1 AS n") }
            let toSend = pipeline
            let results = try await Self.bounded(by: bound, { false }) { try await db.run(toSend) }
            #expect(results.errors.map { $0?.outcome } == [.unknown, .unknown])
            #expect(results.errors.map { $0?.code } == [.timedOut, .timedOut])
            Self.expectClosed(db)
        }
    }

    @Test(arguments: Bound.allCases)
    func `the last statement and COMMIT have a deadline`(bound: Bound) async throws {
        try await Self.with([Self.begun, .receive(until: .sync), .wait(for: Gate())], Self.configure(bound)) { db in
            let error = await failure {
                try await Self.bounded(by: bound, Self.hasSentEnd(db)) {
                    try await db.transaction { tx in
                        _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one()
                        try await tx.commit(with: "SELECT 1 AS n")
                    }
                }
            }
            #expect(error?.code == bound.code)
            #expect(error?.outcome == .unknown)
            Self.expectClosed(db)
        }
    }

    @Test func `a cancelled task's statement is stopped before its transaction is rolled back`() async throws {
        let asked = Gate()
        let script: [Step] = [
            Self.begun, .expect(nextExecution), .wait(for: asked),
            .send(.bindComplete, Self.report, .readyForQuery("E")), .expect(.query),
            .send(.commandComplete("ROLLBACK"), .readyForQuery()), .answerAgain(3),
        ]
        try await Self.with(script, asked: asked) {
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let error = await failure {
                try await Self.bounded(by: .cancelledTask, Self.hasSentEnd(db)) {
                    try await db.transaction { tx in
                        for _ in 0..<2 { _ = try await tx.query("SELECT 1 AS n", as: Int32.self).one() }
                    }
                }
            }
            #expect(error?.code == .cancelled)
            try await expectNumber(3, db)
        }
    }

    // MARK: With others in flight

    @Test func `a dead connection that several share is closed`() async throws {
        try await Self.with([.expect(firstExecution), .wait(for: Gate())]) {
            $0.queryTimeout = Self.time
        } _: { db in
            let first = Task { await failure { try await db.number() } }
            await eventually { db.core.state.withLock { $0.queue.count == 1 } }
            let second = Task { await failure { try await db.number() } }
            for error in [await first.value, await second.value] {
                #expect(error?.code == .timedOut)
                #expect(error?.outcome == .unknown || error?.outcome == .notSent)
            }
            await eventually { db.isClosed }
            let next = await failure { try await db.number() }
            #expect(next?.code == .connectionClosed)
            #expect(next?.outcome == .notSent)
            #expect(next?.message.contains("past its deadline") == true)
        }
    }

    @Test func `a statement without a deadline is not ended by those behind it`() async throws {
        let gate = Gate()
        let script: [Step] = [
            .expect(firstExecution), .wait(for: gate),
            .send(Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])),
            .serve { group in
                group.map(\.kind) == [.sync]
                    ? [.send(.readyForQuery())] : [.send(Message.boundReply(rows: [[Int32(2).bytes]]))]
            },
        ]
        try await Self.with(script) {
            $0.cancelTimeout = .milliseconds(20)
        } _: { db in
            let first = Task { try await db.number() }
            await eventually { db.core.state.withLock { $0.queue.count == 1 } }
            let error = await failure {
                try await withPostgresTimeout(.milliseconds(20)) { try await db.number() }
            }
            #expect(error?.code == .timedOut)
            // Several looks at the connection.
            try await Task.sleep(for: .milliseconds(200))
            #expect(!db.isClosed)
            gate.open()
            #expect(try await first.value == 1)
            try await expectNumber(2, db)
        }
    }

    @Test func `a cancelled task's statement keeps its deadline`() async throws {
        try await Self.with([.expect(firstExecution), .wait(for: Gate())]) {
            $0.queryTimeout = Self.time
        } _: { db in
            let task = Task { await failure { try await db.number() } }
            await eventually { db.core.state.withLock { $0.queue.count == 1 } }
            task.cancel()
            #expect(await task.value?.code == .cancelled)
            await eventually { db.isClosed }
            Self.expectClosed(db)
        }
    }

    // MARK: COPY

    @Test(arguments: [Bound.queryTimeout, .scope])
    func `a COPY in that is not answered ends`(bound: Bound) async throws {
        try await Self.with([.expect(.query), .wait(for: Gate())], Self.configure(bound)) { db in
            let error = await failure {
                try await Self.bounded(by: bound, { false }) {
                    try await db.copy(into: "t") { _ in Issue.record("there is no COPY") }
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            Self.expectClosed(db)
        }
    }

    @Test(arguments: [Bound.queryTimeout, .scope])
    func `a COPY in whose data is not read ends`(bound: Bound) async throws {
        try await Self.with([.expect(.query), .send(.copyInResponse()), .wait(for: Gate())], Self.configure(bound)) {
            db in
            let error = await failure {
                try await Self.bounded(by: bound, { false }) {
                    try await db.copy(into: "t") { writer in
                        while true { try await writer.write([UInt8](repeating: 10, count: 65_536)) }
                    }
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            Self.expectClosed(db)
        }
    }

    @Test(arguments: [Bound.queryTimeout, .scope])
    func `a COPY in whose end is not answered has an unknown outcome`(bound: Bound) async throws {
        try await Self.with(
            [.expect(.query), .send(.copyInResponse()), .receive(until: .copyDone), .wait(for: Gate())],
            Self.configure(bound)
        ) { db in
            let error = await failure {
                try await Self.bounded(by: bound, { false }) {
                    try await db.copy(into: "t") { writer in try await writer.write("1\n") }
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .unknown)
            Self.expectClosed(db)
        }
    }

    @Test func `a COPY in past its deadline fails, and the connection goes on`() async throws {
        let script: [Step] = [
            .expect(.query), .send(.copyInResponse()), .receive(until: .copyFail), .send(CopyTests.failed), .answer(4),
        ]
        try await Self.with(script) {
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let error = await failure {
                try await withPostgresTimeout(Self.time) {
                    try await db.copy(into: "t") { writer in
                        try await writer.write("1\n")
                        while !PostgresScope.hasEnded { try await Task.sleep(for: .milliseconds(5)) }
                        try await writer.write("2\n")
                        try await writer.flush()
                        Issue.record("the deadline has passed")
                    }
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            try await expectNumber(4, db)
        }
    }

    @Test(arguments: [Bound.queryTimeout, .scope], [true, false])
    func `a COPY out past its deadline is cancelled`(bound: Bound, hasBegun: Bool) async throws {
        let asked = Gate()
        let first: [Message] = hasBegun ? [.copyOutResponse(), Message(type: "d", body: Array("1\n".utf8))] : []
        let script: [Step] = [
            .expect(.query), .send(first), .wait(for: asked), .send(Self.report, .readyForQuery()), .answer(4),
        ]
        try await Self.with(script, asked: asked) {
            Self.configure(bound)(&$0)
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let error = await failure {
                try await Self.bounded(by: bound, { false }) {
                    for try await chunk in try await db.copy(from: "t") { #expect(chunk == Array("1\n".utf8)) }
                }
            }
            #expect(error?.code == .timedOut)
            #expect(error?.outcome == .rejected)
            try await expectNumber(4, db)
        }
    }

    // MARK: cancel()

    @Test(arguments: [true, false])
    func `cancel fails a COPY in whose source is slow`(writesOn: Bool) async throws {
        let written = Gate()
        let cancelled = Gate()
        let script: [Step] = [
            .expect(.query), .send(.copyInResponse()), .expect(.copyData), .open(written), .receive(until: .copyFail),
            .send(CopyTests.failed), .answer(4),
        ]
        try await Self.with(script) {
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let copy = Task {
                await failure {
                    try await db.copy(into: "t") { writer in
                        try await writer.write("1\n")
                        try await writer.flush()
                        await cancelled.opened()
                        guard writesOn else { return }
                        try await writer.write("2\n")
                        try await writer.flush()
                    }
                }
            }
            await written.opened()
            let wasRunning = try await db.cancel()
            #expect(wasRunning)
            cancelled.open()
            let error = await copy.value
            #expect(error?.code == .queryCanceled)
            #expect(error?.outcome == .rejected)
            try await expectNumber(4, db)
        }
    }

    /// A group too large to be sent before the server reads.
    private static func large(_ sync: PostgresPipeline.Sync, megabytes: Int) -> PostgresPipeline {
        let megabyte = String(repeating: "x", count: 1 << 20)
        var pipeline = PostgresPipeline(sync)
        for _ in 0..<megabytes { pipeline.add("SELECT \(megabyte) AS n") }
        return pipeline
    }

    /// Answers one group whose first statement is stopped.
    private static let stoppedGroup = Step.steps([
        .receive(until: .sync),
        .send(
            [.parseComplete, .parameterDescription([25]), .rowDescription([.int4]), .bindComplete] + [
                report, .readyForQuery(),
            ]),
    ])

    @Test func `cancel lets an atomic pipeline that is sent in part come to its end`() async throws {
        let asked = Gate()
        let script: [Step] = [.wait(for: asked), Self.stoppedGroup, .answer(3)]
        try await Self.with(script, asked: asked) {
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let run = Task { try await db.run(Self.large(.atomic, megabytes: 12)) }
            await eventually { db.core.state.withLock { !$0.waitingForRoom.isEmpty } }
            let wasRunning = try await db.cancel()
            #expect(wasRunning)
            let results = try await run.value
            #expect(results.errors.first??.code == .queryCanceled)
            #expect(results.errors.dropFirst().allSatisfy { $0?.outcome == .aborted })
            try await expectNumber(3, db)
        }
    }

    @Test(arguments: [Bound.queryTimeout, .scope])
    func `an atomic pipeline that is sent in part at its deadline is undone`(bound: Bound) async throws {
        let asked = Gate()
        let script: [Step] = [.wait(for: asked), Self.stoppedGroup, .answer(3)]
        try await Self.with(script, asked: asked) {
            Self.configure(bound)(&$0)
            $0.cancelTimeout = .seconds(20)
        } _: { db in
            let pipeline = Self.large(.atomic, megabytes: 12)
            let results = try await Self.bounded(by: bound, { false }) { try await db.run(pipeline) }
            #expect(results.errors.first??.code == .timedOut)
            #expect(results.errors.first??.outcome == .rejected)
            #expect(results.errors.last??.code == .timedOut)
            #expect(results.errors.last??.outcome == .notSent)
            #expect(results.errors.allSatisfy { $0 != nil && $0?.outcome != .succeeded && $0?.outcome != .unknown })
            try await expectNumber(3, db)
        }
    }

    // MARK: Notifications

    @Test func `the wait for a notification has a deadline, and can begin again`() async throws {
        let gate = Gate()
        let script: [Step] = [
            .receive(until: .sync), .send(Self.first("LISTEN") + [.readyForQuery()]), .wait(for: gate),
            .send(.notificationResponse(channel: "jobs", payload: "1")), .receive(until: .terminate),
        ]
        try await Self.with(script) { db in
            var notifications = try await db.listen(to: "jobs").makeAsyncIterator()
            let error = await failure {
                try await withPostgresTimeout(.milliseconds(20)) { try await notifications.next() }
            }
            #expect(error?.code == .timedOut)
            gate.open()
            let notification = try await notifications.next()
            #expect(notification?.payload == "1")
        }
    }

    @Test func `a listener that cannot connect again has a deadline`() async throws {
        let server = try PostgresMockServer(scripts: [
            [.acceptTrust(), .receive(until: .sync), .send(Self.first("LISTEN") + [.readyForQuery()]), .close]
        ])
        let listener = PostgresListener(
            server.configuration(), channels: "jobs",
            backoff: .init(initial: .seconds(300), maximum: .seconds(300)))
        var events = listener.makeAsyncIterator()
        let error = await failure {
            try await withPostgresTimeout(Self.time) { while true { _ = try await events.next() } }
        }
        #expect(error?.code == .timedOut)
        await server.stop()
    }
}
