import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// A server that says why it ends a session: whoever waits for it is told so, whatever for.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct FarewellTests {
    static let farewell = Message.errorResponse(
        "57P01", "terminating connection due to administrator command", severity: "FATAL")

    /// Three rows of one int4, without an end.
    static let rows: [Message] = (1...3).map { .dataRow([Int32($0).bytes]) }

    /// What an execution says before its rows.
    static let described: [Message] = [
        .parseComplete, .parameterDescription([]), .rowDescription([.int4]), .bindComplete,
    ]

    private func expectFarewell(
        _ error: PostgresError?, _ outcome: PostgresError.Outcome, _ db: PostgresConnection,
        _ sourceLocation: SourceLocation = #_sourceLocation
    ) async {
        #expect(error?.code == .adminShutdown, sourceLocation: sourceLocation)
        #expect(error?.server?.severity == "FATAL", sourceLocation: sourceLocation)
        #expect(error?.outcome == outcome, sourceLocation: sourceLocation)
        #expect(db.isClosed, sourceLocation: sourceLocation)
        let next = await failure(sourceLocation) { try await db.number() }
        #expect(next?.code == .adminShutdown, sourceLocation: sourceLocation)
        #expect(next?.outcome == .notSent, sourceLocation: sourceLocation)
    }

    /// With and without an end of the connection in the same piece, and read by the caller or by the loop.
    static let ends: [Step] = [.close, .halfClose]

    @Test(arguments: ends, [true, false])
    func `a stream ends with the server's last words, behind its rows`(end: Step, callersMayRead: Bool) async throws {
        try await withMock(
            [.expect(firstExecution), .send(Self.described + Self.rows + [Self.farewell]), end], mayEndEarly: true
        ) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            var numbers: [Int32] = []
            let error = await failure {
                for try await number in try await db.stream("SELECT 1 AS n", as: Int32.self) { numbers.append(number) }
            }
            #expect(numbers == [1, 2, 3])
            await expectFarewell(error, .unknown, db)
        }
    }

    /// BEGIN and a portal.
    static let opened: [Message] =
        [.parseComplete, .parameterDescription([]), .noData, .bindComplete, .commandComplete("BEGIN")] + described
        + rows + [.portalSuspended, .readyForQuery("T")]

    @Test(arguments: ends, [true, false])
    func `a cursor ends with the server's last words, behind its rows`(end: Step, callersMayRead: Bool) async throws {
        try await withMock(
            [
                .expect(.sync), .send(.readyForQuery()), .receive(until: .sync), .send(Self.opened),
                .expect([.execute, .sync]), .send(Self.rows + [Self.farewell]), end,
            ], mayEndEarly: true
        ) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            var numbers: [Int32] = []
            let error = await failure {
                for try await number in try await db.cursor("SELECT 1 AS n", as: Int32.self, fetching: 3) {
                    numbers.append(number)
                }
            }
            // A batch comes as a whole, or not.
            #expect(numbers == [1, 2, 3])
            await expectFarewell(error, .unknown, db)
        }
    }

    @Test(arguments: ends, [true, false])
    func `the statements of a pipeline keep what they have`(end: Step, callersMayRead: Bool) async throws {
        let first = Message.reply(columns: [.int4], rows: [[Int32(1).bytes]])
        try await withMock(
            [
                .expect(firstExecution + nextExecution + nextExecution),
                .send(first + [.bindComplete, Self.farewell]), end,
            ], mayEndEarly: true
        ) {
            $0.callersMayRead = callersMayRead
        } _: { db, _ in
            var pipeline = PostgresPipeline(.isolated)
            let tickets = (0..<3).map { _ in pipeline.add(PostgresQuery("SELECT 1 AS n").as(Int32.self)) }
            let results = try await db.run(pipeline)
            let number = try results[tickets[0]].one()
            #expect(number == 1)
            // The server may have gone on to the last one before it was told to end, for all that is known.
            for error in results.errors[1...] { await expectFarewell(error, .unknown, db) }
        }
    }

    /// Behind how many statements of an atomic pipeline the server's last words come, and what is known then: its transaction is
    /// committed by the Sync behind them, and by nothing before.
    @Test(
        arguments: ends,
        [(1, [PostgresError.Outcome.aborted, .rejected]), (2, [.unknown, .unknown])]
            as [(Int, [PostgresError.Outcome])])
    func `an atomic pipeline is not committed before its end`(
        end: Step, done: (count: Int, outcomes: [PostgresError.Outcome])
    ) async throws {
        let first = Message.reply(columns: [.int4], rows: [[Int32(1).bytes]]).dropLast()
        let second: [Message] =
            done.count == 2 ? Message.boundReply(rows: [[Int32(1).bytes]]).dropLast() : [.bindComplete]
        try await withMock(
            [.expect(firstExecution.dropLast() + nextExecution), .send(first + second + [Self.farewell]), end],
            mayEndEarly: true
        ) { db, _ in
            var pipeline = PostgresPipeline(.atomic)
            for _ in 0..<2 { pipeline.add("SELECT 1 AS n") }
            let results = try await db.run(pipeline)
            #expect(results.errors.map { $0?.outcome } == done.outcomes)
            #expect(results.errors.allSatisfy { $0?.code == .adminShutdown })
            #expect(db.isClosed)
        }
    }

    @Test(arguments: ends)
    func `a COPY out ends with the server's last words, behind its rows`(end: Step) async throws {
        try await withMock(
            [.expect(.query), .send(.copyOutResponse(), .copyData(Array("1\n".utf8)), Self.farewell), end],
            mayEndEarly: true
        ) { db, _ in
            var text: [UInt8] = []
            let error = await failure { for try await chunk in try await db.copy(from: "t") { text += chunk } }
            #expect(String(decoding: text, as: UTF8.self) == "1\n")
            await expectFarewell(error, .unknown, db)
        }
    }

    @Test(arguments: ends)
    func `a COPY in that is being written is told the server's last words`(end: Step) async throws {
        try await withMock(
            [.expect(.query), .send(.copyInResponse()), .expect(.copyData), .send(Self.farewell), end],
            mayEndEarly: true
        ) { db, _ in
            let error = await failure {
                try await db.copy(into: "t") { writer in
                    // Until it is told; for ever, if it never is.
                    while true {
                        try await writer.write([10])
                        try await writer.flush()
                    }
                }
            }
            await expectFarewell(error, .unknown, db)
        }
    }

    @Test(arguments: ends)
    func `a COPY in that waits for its end is told the server's last words`(end: Step) async throws {
        try await withMock(
            [.expect(.query), .send(.copyInResponse()), .expect([.copyData, .copyDone]), .send(Self.farewell), end],
            mayEndEarly: true
        ) { db, _ in
            let error = await failure { try await db.copy(into: "t") { try await $0.write("1\n") } }
            await expectFarewell(error, .unknown, db)
        }
    }
}
