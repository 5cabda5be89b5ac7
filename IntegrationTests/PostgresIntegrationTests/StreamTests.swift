import Glibc
import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Rows read at the consumer's speed.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct StreamTests {
    /// 200 MB in all, if it were read at once.
    private static let large: PostgresQuery =
        "SELECT i, repeat('x', 1000) FROM generate_series(1, 200000) i"

    @Test(arguments: [true, false], PostgresEphemeralServer.Address.allCases)
    func aPausedConsumerHoldsTheServerBack(
        _ callersMayRead: Bool, _ address: PostgresEphemeralServer.Address
    ) async throws {
        let db = try await connect(over: address) { if !callersMayRead { $0.callerReadsBelowLatency = .zero } }
        let start = db.statistics.bytesReceived
        let stream = try await db.stream(Self.large, as: (Int32, String).self)
        var rows = 0
        for try await (number, text) in stream {
            rows += 1
            if Int(number) != rows || text.utf8.count != 1000 {
                Issue.record("row \(rows) is number \(number)")
                break
            }
            if rows % 50_000 == 1 {
                try await Task.sleep(for: .milliseconds(30))
                // What was received and not yet handed out is what this client holds.
                let ahead = db.statistics.bytesReceived - start - rows * 1000
                #expect(ahead < 4 << 20 + rows * 30)
            }
        }
        #expect(rows == 200_000)
        try await expectUsable(db)
    }

    @Test func aStreamThatNobodyReadsTakesNoMemory() async throws {
        let db = try await connect { $0.callerReadsBelowLatency = .zero }
        let stream = try await db.stream(Self.large, as: (Int32, String).self)
        var iterator = stream.makeAsyncIterator()
        _ = try await iterator.next()
        try await Task.sleep(for: .milliseconds(300))
        #expect(db.statistics.bytesReceived < 8 << 20)
        db.close()
    }

    /// Until the server cannot send any more.
    private func untilBlocked(_ db: PostgresConnection) async throws {
        let pid = try #require(db.backendProcessID)
        let other = try await connect()
        defer { other.close() }
        try await eventually("blocked") {
            try await other.query(
                "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = \(pid)", as: String.self
            ).one() == "ClientWrite"
        }
    }

    @Test func aStreamThatNobodyReadsCanBeCancelled() async throws {
        let db = try await connect { $0.cancelTimeout = .seconds(30) }
        var rows = try await db.stream(Self.large, as: (Int32, String).self).makeAsyncIterator()
        _ = try await rows.next()
        try await untilBlocked(db)
        #expect(try await db.cancel())
        let error = await failure { while try await rows.next() != nil {} }
        #expect(error?.code == .queryCanceled)
        try await expectUsable(db)

        var copied = try await db.copy(rowsOf: Self.large, as: (Int32, String).self).makeAsyncIterator()
        _ = try await copied.next()
        try await untilBlocked(db)
        #expect(try await db.cancel())
        let copyError = await failure { while try await copied.next() != nil {} }
        #expect(copyError?.code == .queryCanceled)
        try await expectUsable(db)
    }

    @Test(arguments: [true, false])
    func leavingTheLoopEarlyLeavesTheConnectionInStep(_ callersMayRead: Bool) async throws {
        let db = try await connect { if !callersMayRead { $0.callerReadsBelowLatency = .zero } }
        for leave in [1, 2, 1000, 50_000] {
            var rows = 0
            for try await _ in try await db.stream(
                "SELECT i, repeat('y', 100) FROM generate_series(1, 100000) i", as: (Int32, String).self)
            {
                rows += 1
                if rows == leave { break }
            }
            try await expectUsable(db)
        }
    }

    @Test(arguments: [true, false])
    func aQueryInsideTheLoopWorks(_ callersMayRead: Bool) async throws {
        let db = try await connect { if !callersMayRead { $0.callerReadsBelowLatency = .zero } }
        var rows = 0
        for try await number in try await db.stream("SELECT generate_series(1, 3000)::int8", as: Int.self) {
            rows += 1
            let got = try await db.query("SELECT \(number)::int8 * 2", as: Int.self).one()
            #expect(got == rows * 2)
        }
        #expect(rows == 3000)
    }

    @Test(arguments: [true, false])
    func aQueryInsideTheLoopOfALargeResultEndsTheStreamAndNotTheConnection(_ callersMayRead: Bool) async throws {
        let db = try await connect {
            $0.maximumResultBytes = 1 << 20
            if !callersMayRead { $0.callerReadsBelowLatency = .zero }
        }
        var rows = 0
        let error = await failure {
            for try await _ in try await db.stream(Self.large, as: (Int32, String).self) {
                rows += 1
                if rows == 10 { try await expectUsable(db) }
            }
        }
        #expect(rows >= 10)
        #expect(error?.code == .resultTooLarge)
        #expect(error?.outcome == .succeeded)
        try await expectUsable(db)
    }

    @Test func aBufferedResultOverTheBoundIsRefused() async throws {
        let db = try await connect { $0.maximumResultBytes = 1 << 20 }
        let error = await failure { try await db.query(Self.large, as: (Int32, String).self) }
        #expect(error?.code == .resultTooLarge)
        #expect(error?.outcome == .succeeded)
        #expect(error?.hint?.contains("stream") == true)
        let script = await failure { try await db.script("SELECT 1; SELECT repeat('x', 2000000)") }
        #expect(script?.code == .resultTooLarge)
        try await expectUsable(db)
    }

    @Test(arguments: [true, false], [1, 500, 60_000])
    func anErrorInMidStreamComesAfterTheRowsBeforeIt(_ callersMayRead: Bool, _ row: Int) async throws {
        let db = try await connect { if !callersMayRead { $0.callerReadsBelowLatency = .zero } }
        var rows = 0
        let error = await failure {
            for try await _ in try await db.stream(
                "SELECT 1 / (i - \(row)::int8) FROM generate_series(1, 100000::int8) i", as: Int.self)
            {
                rows += 1
            }
        }
        #expect(error?.code == .divisionByZero)
        #expect(error?.outcome == .rejected)
        #expect(rows == row - 1)
        try await expectUsable(db)
    }

    @Test func aStatementThatIsRefusedIsTheStreamsError() async throws {
        let db = try await connect()
        let error = await failure {
            for try await _ in try await db.stream("SELEKT", as: Int.self) { Issue.record("a row") }
        }
        #expect(error?.code == .syntaxError)
        try await expectUsable(db)
    }

    @Test(arguments: [true, false])
    func twoStreamsAtOnceEachGetTheirRows(_ callersMayRead: Bool) async throws {
        let db = try await connect { if !callersMayRead { $0.callerReadsBelowLatency = .zero } }
        let query: PostgresQuery = "SELECT i, repeat('z', 100) FROM generate_series(1, 20000) i"
        var first = try await db.stream(query, as: (Int32, String).self).makeAsyncIterator()
        #expect(try await first.next()?.0 == 1)
        var second = try await db.stream(query, as: (Int32, String).self).makeAsyncIterator()
        for number in Int32(1)...20000 {
            if number > 1 { #expect(try await first.next()?.0 == number) }
            #expect(try await second.next()?.0 == number)
        }
        #expect(try await first.next() == nil)
        #expect(try await second.next() == nil)
        try await expectUsable(db)
    }

    @Test func twoLargeStreamsAtOnceNeverHang() async throws {
        let db = try await connect { $0.maximumResultBytes = 1 << 20 }
        var first = try await db.stream(Self.large, as: (Int32, String).self).makeAsyncIterator()
        _ = try await first.next()
        var second = try await db.stream(
            "SELECT i, repeat('z', 100) FROM generate_series(1, 100000) i", as: (Int32, String).self
        ).makeAsyncIterator()
        var rows = 0
        while try await second.next() != nil { rows += 1 }
        #expect(rows == 100_000)
        do {
            while try await first.next() != nil {}
            Issue.record("the first stream did not fail")
        } catch {
            #expect(error.code == .resultTooLarge)
        }
        try await expectUsable(db)
    }

    @Test func concurrentQueriesAndAStreamShareTheConnection() async throws {
        let db = try await connect()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                var sum = 0
                for try await n in try await db.stream("SELECT generate_series(1, 200000)::int8", as: Int.self) {
                    sum += n
                }
                #expect(sum == 200_000 * 200_001 / 2)
            }
            for _ in 0..<4 { group.addTask { for _ in 0..<200 { try await expectUsable(db) } } }
            try await group.waitForAll()
        }
    }

    @Test func aCancelledConsumerLeavesTheConnectionInStep() async throws {
        let db = try await connect()
        for pause in [0, 1, 5, 20] {
            let task = Task {
                for try await _ in try await db.stream(Self.large, as: (Int32, String).self) {}
            }
            try await Task.sleep(for: .milliseconds(pause))
            task.cancel()
            let error = await failure { try await task.value }
            #expect(error?.code == .cancelled)
            try await expectUsable(db)
        }
    }

    @Test func closingEndsAnOpenStream() async throws {
        let db = try await connect()
        var iterator = try await db.stream(Self.large, as: (Int32, String).self).makeAsyncIterator()
        _ = try await iterator.next()
        db.close()
        do {
            while try await iterator.next() != nil {}
            Issue.record("the stream ended as if it were complete")
        } catch {
            #expect(error.code == .connectionClosed)
            #expect(error.outcome == .unknown)
        }
    }

    @Test func theBlockingStreamHoldsTheServerBackToo() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        try await onThread {
            let db = try PostgresBlockingConnection.connect(url)
            var rows = 0
            var stream = try db.stream(Self.large.as((Int32, String).self))
            while let (number, _) = try stream.next() {
                rows += 1
                #expect(Int(number) == rows)
                if rows == 1000 {
                    usleep(50_000)
                    #expect(db.statistics.bytesReceived < 8 << 20)
                }
                if rows == 50_000 { break }
            }
            stream = try db.stream(PostgresQuery("SELECT 1, 'x'").as((Int32, String).self))
            #expect(try stream.next()?.0 == 1)
            #expect(try stream.next() == nil)
            #expect(try db.query("SELECT 2", as: Int.self).one() == 2)
            db.close()
        }
    }
}
