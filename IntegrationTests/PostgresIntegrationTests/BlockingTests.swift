import Postgres
import PostgresTesting
import TestTurns
import Testing

/// The blocking API on threads of its own.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct BlockingTests {
    private func blocking<Value: Sendable>(
        over address: PostgresEphemeralServer.Address = .unixSocket,
        _ body: @escaping @Sendable (PostgresBlockingConnection) throws -> Value
    ) async throws -> Value {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: address)
        return try await onThread {
            let db = try PostgresBlockingConnection.connect(url)
            defer { db.close() }
            return try body(db)
        }
    }

    @Test(arguments: PostgresEphemeralServer.Address.allCases)
    func severalThreadsShareOneConnection(_ address: PostgresEphemeralServer.Address) async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: address)
        let db = try await onThread { try PostgresBlockingConnection.connect(url) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for thread in 0..<8 {
                group.addTask {
                    try await onThread {
                        for round in 0..<300 {
                            let token = thread * 1000 + round
                            let got = try db.query("SELECT \(token)::int8", as: Int.self).one()
                            #expect(got == token)
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        db.close()
    }

    @Test func severalThreadsMixEverything() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        let db = try await onThread { try PostgresBlockingConnection.connect(url) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for thread in 0..<8 {
                group.addTask {
                    try await onThread {
                        for round in 0..<40 {
                            let token = thread * 1000 + round
                            switch thread % 4 {
                            case 0:
                                let results = try db.script("SELECT \(unsafeSQL: "\(token)"); SELECT 'x'")
                                #expect(try results[0].one().decode(0, as: Int.self) == token)
                            case 1:
                                var pipeline = PostgresPipeline(round.isMultiple(of: 2) ? .isolated : .atomic)
                                let tickets = (0..<50).map {
                                    pipeline.add(PostgresQuery("SELECT \(token * 100 + $0)::int8").as(Int.self))
                                }
                                let results = try db.run(pipeline)
                                for (index, ticket) in tickets.enumerated() {
                                    #expect(try results[ticket].one() == token * 100 + index)
                                }
                            case 2:
                                var rows = try db.stream(
                                    PostgresQuery("SELECT \(token)::int8 FROM generate_series(1, 100)").as(Int.self))
                                var count = 0
                                while let row = try rows.next() {
                                    count += 1
                                    #expect(row == token)
                                }
                                #expect(count == 100)
                            default:
                                do throws(PostgresError) {
                                    try db.execute("SELECT 1 / \(0), \(token)")
                                    Issue.record("no error")
                                } catch {
                                    #expect(error.code == .divisionByZero)
                                }
                            }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let last = try await onThread { try db.query("SELECT 7", as: Int.self).one() }
        #expect(last == 7)
        db.close()
    }

    @Test func errorsAreTypedAndLeaveTheConnectionUsable() async throws {
        try await blocking { db throws in
            do throws(PostgresError) {
                try db.execute("SELEKT")
                Issue.record("no error")
            } catch {
                #expect(error.code == .syntaxError)
                #expect(error.outcome == .rejected)
            }
            #expect(throws: PostgresError.self) { try db.script("SELECT 1; SELECT 1/0") }
            #expect(throws: PostgresError.self) { try db.script("COPY pg_class TO STDOUT") }
            #expect(throws: PostgresError.self) { try db.prepare("SELEKT") }
            #expect(try db.prepare("SELECT \(1)").parameterTypes.map(\.oid) == [20])
            #expect(try db.query("SELECT 1", as: Int.self).one() == 1)
        }
    }

    @Test func aLargePipelineFinishes() async throws {
        try await blocking(over: .tcp) { db in
            let text = String(repeating: "b", count: 10_000)
            for sync in [PostgresPipeline.Sync.isolated, .atomic] {
                var pipeline = PostgresPipeline(sync)
                let tickets = (0..<2000).map {
                    pipeline.add(PostgresQuery("SELECT \($0), \(text)").as((Int, String).self))
                }
                let results = try db.run(pipeline)
                #expect(try results[tickets[1999]].one().0 == 1999)
                try results.check()
            }
        }
    }

    @Test func aStreamThatIsLeftAndAQueryInsideTheLoop() async throws {
        try await blocking { db throws in
            var sum = 0
            do {
                var rows = try db.stream(PostgresQuery("SELECT generate_series(1, 100000)::int8").as(Int.self))
                while let row = try rows.next(), row <= 100 {
                    sum += try db.query("SELECT \(row)::int8", as: Int.self).one()
                }
            }
            #expect(sum == 5050)
            #expect(try db.query("SELECT 1", as: Int.self).one() == 1)
        }
    }

    private struct Point: PostgresRowDecodable, Equatable {
        var x: Int
        var y: String

        init(x: Int, y: String) {
            self.x = x
            self.y = y
        }

        init(row: PostgresRow) throws(PostgresError) {
            self.init(x: try row.decode("x", as: Int.self), y: try row.decode("y", as: String.self))
        }
    }

    private static let points: PostgresQuery = "SELECT n::int8 AS x, 'p' || n AS y FROM generate_series(1, 3) AS n"
    private static let expected = (1...3).map { Point(x: $0, y: "p\($0)") }

    @Test func typedQueriesInOneRoundTrip() async throws {
        try await blocking { db throws in
            let before = db.statistics
            let (points, count) = try db.pipeline(
                Self.points.as(Point.self), PostgresQuery("SELECT 7").as(Int.self))
            #expect((db.statistics - before).roundTrips == 1)
            #expect(try points.all() == Self.expected)
            #expect(try count.one() == 7)
            try db.transaction { tx throws in
                let (first, failed) = try tx.pipeline(
                    .savepoints, PostgresQuery("SELECT 1").as(Int.self), PostgresQuery("SELECT 1 / 0").as(Int.self))
                #expect(try first.one() == 1)
                #expect(throws: PostgresError.self) { try failed.one() }
                #expect(try tx.commit(with: "SELECT 2", as: Int.self).one() == 2)
            }
        }
    }

    @Test func streamsAndCursorsOfEveryForm() async throws {
        try await blocking { db throws in
            try readEveryForm(db)
            try readEveryCursor(
                { try db.cursor(Self.points, as: Point.self, fetching: 2) },
                { try db.cursor(Self.points, as: (Int, String).self, fetching: 2, withHold: true) },
                { try db.cursor(Self.points, fetching: 2) })
            try db.transaction { tx throws in
                try readEveryForm(tx)
                try readEveryCursor(
                    { try tx.cursor(Self.points, as: Point.self, fetching: 2) },
                    { try tx.cursor(Self.points, as: (Int, String).self, fetching: 2) },
                    { try tx.cursor(Self.points, fetching: 2) })
            }
        }
    }

    private func readEveryForm(_ db: some PostgresBlockingStreaming) throws {
        var typed = try db.stream(Self.points, as: Point.self)
        var tuples = try db.stream(Self.points, as: (Int, String).self)
        var rows = try db.stream(Self.points)
        for point in Self.expected {
            #expect(try typed.next() == point)
        }
        #expect(try typed.next() == nil)
        for point in Self.expected {
            let (x, y) = try #require(try tuples.next())
            #expect(Point(x: x, y: y) == point)
        }
        #expect(try tuples.next() == nil)
        #expect(try rows.next()?.decode("y", as: String.self) == "p1")
    }

    private func readEveryCursor(
        _ typed: () throws -> PostgresBlockingCursor<Point>,
        _ tuples: () throws -> PostgresBlockingCursor<(Int, String)>,
        _ rows: () throws -> PostgresBlockingCursor<PostgresRow>
    ) throws {
        var points = try typed()
        for point in Self.expected { #expect(try points.next() == point) }
        #expect(try points.next() == nil)
        var pairs = try tuples()
        for point in Self.expected {
            let (x, y) = try #require(try pairs.next())
            #expect(Point(x: x, y: y) == point)
        }
        #expect(try pairs.next() == nil)
        var last = try rows()
        #expect(try last.next()?.decode("x", as: Int.self) == 1)
        try last.close()
    }

    @Test func typedRowsAreCopiedOut() async throws {
        try await blocking { db throws in
            try db.script("CREATE TEMP TABLE copied (x int8, y text)")
            #expect(try db.copy(into: "copied", column: "x", values: 4...5_000) == 4997)
            try db.execute("TRUNCATE copied")
            try db.copy(into: "copied", columns: ["x", "y"], rows: Self.expected.map { ($0.x, $0.y) })
            var tuples = try db.copy(from: "copied", columns: ["y", "x"], as: (String, Int).self)
            for point in Self.expected {
                let (y, x) = try #require(try tuples.next())
                #expect(Point(x: x, y: y) == point)
            }
            #expect(try tuples.next() == nil)
            var points = try db.copy(from: "copied", as: Point.self)
            for point in Self.expected { #expect(try points.next() == point) }
            #expect(try points.next() == nil)
            var query = try db.copy(rowsOf: Self.points, as: Point.self)
            for point in Self.expected { #expect(try query.next() == point) }
            var numbers = try db.copy(rowsOf: "SELECT generate_series(1, 100000)::int8", as: Int.self)
            var sum = 0
            while let number = try numbers.next() { sum += number }
            #expect(sum == 5_000_050_000)
            var wrong = try db.copy(from: "copied", columns: ["y"], as: Int.self)
            #expect(throws: PostgresError.self) { try wrong.next() }
            #expect(throws: PostgresError.self) { try db.copy(from: "copied", columns: ["z"], as: Int.self) }
            #expect(try db.query("SELECT 1", as: Int.self).one() == 1)
        }
    }

    @Test func largeObjects() async throws {
        try await blocking { db throws in
            try db.transaction { tx throws in
                let object = try PostgresLargeObject.create(in: tx)
                let bytes = (0..<1_500_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
                try object.write(bytes, in: tx)
                try object.write([1, 2], at: bytes.count, in: tx)
                #expect(try object.size(in: tx) == bytes.count + 2)
                #expect(try object.read(0..<Int.max, in: tx) == bytes + [1, 2])
                try object.unlink(in: tx)
            }
        }
    }

    @Test func closingFromAnotherThreadEndsTheWait() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        let db = try await onThread { try PostgresBlockingConnection.connect(url) }
        try await withThrowingTaskGroup(of: PostgresError?.self) { group in
            for _ in 0..<4 {
                group.addTask { await failure { try await onThread { try db.execute("SELECT pg_sleep(60)") } } }
            }
            await eventually("sent") { db.statistics.bytesSent > 0 }
            try await Task.sleep(for: .milliseconds(50))
            let begin = ContinuousClock.now
            db.close()
            for try await error in group { #expect(error?.code == .connectionClosed) }
            #expect(ContinuousClock.now - begin < .seconds(10))
        }
    }

    @Test func aTerminatedSessionIsATypedError() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let url = server.connectionURL(over: .tcp)
        let (db, pid) = try await onThread {
            let db = try PostgresBlockingConnection.connect(url)
            return (db, try db.query("SELECT pg_backend_pid()", as: Int32.self).one())
        }
        try await server.runSQL("SELECT pg_terminate_backend(\(pid), 10000)")
        let error = await failure { try await onThread { try db.execute("SELECT 1") } }
        #expect(error?.code == .adminShutdown)
        #expect(db.isClosed)
    }

    @Test func onTheLoopsThreadABlockingCallIsRefused() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        let async = try await connect()
        let error = await Task(executorPreference: async.executor) {
            await failure { try PostgresBlockingConnection.connect(url).close() }
        }.value
        #expect(error?.code == .unsupported)
    }
}
