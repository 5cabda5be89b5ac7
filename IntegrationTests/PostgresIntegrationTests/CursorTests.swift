import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Cursors: portals with a fetch size, and cursors with hold.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct CursorTests {
    private func status(_ db: PostgresConnection) async throws -> Bool {
        // Whether no transaction is open: then two statements have two.
        let first = try await db.query("SELECT txid_current()", as: Int.self).one()
        let second = try await db.query("SELECT txid_current()", as: Int.self).one()
        return first != second
    }

    @Test(arguments: [(0, 3), (1, 3), (2, 1), (3, 3), (9, 3), (10, 3), (10, 100)], [false, true])
    func everyRowComesOnceAndInOrder(_ numbers: (rows: Int, fetching: Int), withHold: Bool) async throws {
        let db = try await connect()
        let query: PostgresQuery = "SELECT n, 'row ' || n FROM generate_series(1, \(Int32(numbers.rows))) n"
        var got: [Int32] = []
        for try await (number, text) in try await db.cursor(
            query, as: (Int32, String).self, fetching: numbers.fetching, withHold: withHold)
        {
            #expect(text == "row \(number)")
            got.append(number)
        }
        #expect(got == Array(1...10).prefix(numbers.rows).map { Int32($0) })
        let isIdle = try await status(db)
        #expect(isIdle)
        let left = try await db.query("SELECT count(*) FROM pg_cursors WHERE name <> ''", as: Int.self).one()
        #expect(left == 0)
    }

    @Test func onlyABatchIsSentAtATime() async throws {
        let db = try await connect()
        let before = db.statistics.bytesReceived
        let cursor = try await db.cursor(
            "SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n", as: (Int32, String).self, fetching: 100)
        var iterator = cursor.makeAsyncIterator()
        for number in 1...150 {
            let row = try await iterator.next()
            #expect(row?.0 == Int32(number))
        }
        try await cursor.close()
        // Two batches of 100 KB of a hundred megabytes.
        #expect(db.statistics.bytesReceived - before < 300_000)
        let after = try await iterator.next()
        // The rest of the batch that is here already.
        #expect(after?.0 == 151)
        try await expectUsable(db)
        let isIdle = try await status(db)
        #expect(isIdle)
    }

    @Test func leavingEarlyFreesTheConnection() async throws {
        let db = try await connect()
        for withHold in [false, true] {
            for try await number in try await db.cursor(
                "SELECT generate_series(1, 1000000)", as: Int32.self, fetching: 10, withHold: withHold)
            {
                if number == 15 { break }
            }
            try await expectUsable(db)
            try await eventually("the cursor is closed") {
                try await db.query("SELECT count(*) FROM pg_cursors WHERE name <> ''", as: Int.self).one() == 0
            }
        }
        let isIdle = try await status(db)
        #expect(isIdle)
    }

    @Test func queriesWaitForAPortalAndGoBetweenTheBatchesOfAHeldCursor() async throws {
        let db = try await connect()
        let cursor = try await db.cursor("SELECT generate_series(1, 10)", as: Int32.self, fetching: 2)
        let waiting = Task {
            try await db.query("SELECT count(*) = 0 FROM pg_cursors WHERE name <> ''", as: Bool.self).one()
        }
        var rows = 0
        for try await _ in cursor { rows += 1 }
        #expect(rows == 10)
        // It ran behind the end of the cursor.
        let isAlone = try await waiting.value
        #expect(isAlone)

        var sum = 0
        for try await number in try await db.cursor(
            "SELECT generate_series(1, 10)", as: Int32.self, fetching: 2, withHold: true)
        {
            sum += try await db.query("SELECT \(Int(number) * 2)", as: Int.self).one()
        }
        #expect(sum == 110)
    }

    @Test func aHeldCursorOutlivesItsTransaction() async throws {
        let db = try await connect()
        try await db.script("CREATE TEMP TABLE held (n int4); INSERT INTO held SELECT generate_series(1, 100)")
        try await db.execute("BEGIN")
        let cursor = try await db.cursor(
            "SELECT n FROM held ORDER BY n", as: Int32.self, fetching: 7, withHold: true)
        var iterator = cursor.makeAsyncIterator()
        let first = try await iterator.next()
        try await db.execute("COMMIT")
        try await db.execute("DELETE FROM held")
        var rows = [first]
        while let row = try await iterator.next() { rows.append(row) }
        #expect(rows == (1...100).map { Int32($0) })
    }

    @Test(arguments: [false, true])
    func anErrorBetweenTheRowsIsThrownThere(_ withHold: Bool) async throws {
        let db = try await connect()
        var rows = 0
        let error = await failure {
            for try await _ in try await db.cursor(
                "SELECT 10 / (20 - n) FROM generate_series(1, 30) n", as: Int32.self, fetching: 5, withHold: withHold)
            {
                rows += 1
            }
        }
        #expect(error?.code == .divisionByZero)
        // Computed in advance, nothing of it is given out.
        #expect(rows == (withHold ? 0 : 15))
        try await expectUsable(db)
        let isIdle = try await status(db)
        #expect(isIdle)
    }

    @Test(arguments: [false, true])
    func aStatementThatTheServerRefusesLeavesTheConnectionUsable(_ withHold: Bool) async throws {
        let db = try await connect()
        let queries: [(PostgresQuery, PostgresError.Code)] = [
            ("SELEKT", .syntaxError), ("SELECT * FROM no_such_table", .undefinedTable), ("SELECT 1/0", .divisionByZero),
        ]
        for (query, code) in queries {
            let error = await failure { for try await _ in try await db.cursor(query, withHold: withHold) {} }
            #expect(error?.code == code)
            try await expectUsable(db)
            let isIdle = try await status(db)
            #expect(isIdle)
        }
        let zero = await failure { try await db.cursor("SELECT 1", fetching: 0, withHold: withHold) }
        #expect(zero?.code == .invalidArgument)
    }

    @Test(arguments: [false, true])
    func aStringWhoseTypeTheServerCannotInferIsText(_ withHold: Bool) async throws {
        let db = try await connect()
        let query: PostgresQuery = "SELECT format('%s-%s', \("a"), \("b"))"
        let cursor = try await db.cursor(query, as: String.self, withHold: withHold)
        var rows: [String] = []
        for try await row in cursor { rows.append(row) }
        #expect(rows == ["a-b"])
    }

    @Test func aTransactionOpenedByHandIsUsedAndLeftOpen() async throws {
        let db = try await connect()
        try await db.execute("BEGIN")
        var rows = 0
        for try await _ in try await db.cursor("SELECT generate_series(1, 10)", fetching: 3) { rows += 1 }
        #expect(rows == 10)
        let inside = try await status(db)
        #expect(!inside)
        let left = try await db.query("SELECT count(*) FROM pg_cursors WHERE name <> ''", as: Int.self).one()
        #expect(left == 0)
        try await db.execute("ROLLBACK")

        try await db.execute("BEGIN")
        await failure { try await db.execute("SELECT 1/0") }
        let error = await failure { try await db.cursor("SELECT 1") }
        #expect(error?.code == .inFailedSqlTransaction)
        try await db.execute("ROLLBACK")
        try await expectUsable(db)
    }

    @Test func aTransactionHasCursorsBetweenItsStatements() async throws {
        let db = try await connect()
        try await db.execute("CREATE TEMP TABLE t (n int4)")
        let escaped = try await db.transaction { tx in
            let cursor = try await tx.cursor("SELECT generate_series(1, 10)", as: Int32.self, fetching: 3)
            for try await number in cursor { try await tx.execute("INSERT INTO t VALUES (\(number))") }
            let left = try await tx.cursor("SELECT generate_series(1, 10)", as: Int32.self, fetching: 3)
            try await left.close()
            let open = try await tx.query("SELECT count(*) FROM pg_cursors WHERE name <> ''", as: Int.self).one()
            #expect(open == 0)
            return try await tx.cursor("SELECT generate_series(1, 10)", as: Int32.self, fetching: 3)
        }
        // It ended with its transaction: what has come is there, and no more.
        var rows = 0
        let error = await failure { for try await _ in escaped { rows += 1 } }
        #expect(rows == 3)
        #expect(error?.code == .transactionEnded)
        try await escaped.close()
        let count = try await db.query("SELECT count(*) FROM t", as: Int.self).one()
        #expect(count == 10)
    }

    @Test func aTransactionWhoseCursorFailsIsRolledBack() async throws {
        let db = try await connect()
        try await db.execute("CREATE TEMP TABLE t (n int4)")
        let error = await failure {
            try await db.transaction { tx in
                for try await number in try await tx.cursor(
                    "SELECT 10 / (5 - n) FROM generate_series(1, 9) n", as: Int32.self, fetching: 2)
                {
                    try await tx.execute("INSERT INTO t VALUES (\(number))")
                }
            }
        }
        #expect(error?.code == .divisionByZero)
        let count = try await db.query("SELECT count(*) FROM t", as: Int.self).one()
        #expect(count == 0)
    }

    @Test func changesThatAPortalMadeAreCommitted() async throws {
        let db = try await connect()
        try await db.execute("CREATE TEMP TABLE t (n int4)")
        let query: PostgresQuery = "INSERT INTO t SELECT generate_series(1, 10) RETURNING n"
        var rows = 0
        for try await _ in try await db.cursor(query, as: Int32.self, fetching: 4) { rows += 1 }
        #expect(rows == 10)
        let count = try await db.query("SELECT count(*) FROM t", as: Int.self).one()
        #expect(count == 10)
    }

    @Test(arguments: ["", "SET search_path = public", "COPY pg_class TO STDOUT"] as [PostgresQuery])
    func aStatementWithoutRowsIsNoEndlessCursor(_ query: PostgresQuery) async throws {
        let db = try await connect()
        var rows = 0
        do throws(PostgresError) {
            for try await _ in try await db.cursor(query) { rows += 1 }
        } catch {
            #expect(error.code == .unsupported)
        }
        #expect(rows == 0)
        try await expectUsable(db)
    }

    @Test func cancellingARunningFetchFreesTheConnection() async throws {
        let db = try await connect()
        let task = Task {
            await failure {
                for try await _ in try await db.cursor(
                    "SELECT pg_sleep(CASE WHEN n > 4 THEN 60 ELSE 0 END)::text FROM generate_series(1, 6) n",
                    fetching: 4)
                {}
            }
        }
        await eventually("rows have come") { db.statistics.bytesReceived > 300 }
        task.cancel()
        let error = await task.value
        #expect(error?.code == .cancelled)
        try await expectUsable(db)
        let isIdle = try await status(db)
        #expect(isIdle)
    }

    @Test func theBlockingAPIHasCursorsToo() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        try await onThread {
            let db = try PostgresBlockingConnection.connect(url)
            defer { db.close() }
            for withHold in [false, true] {
                let query = PostgresQuery("SELECT generate_series(1, \(Int32(10)))").as(Int32.self)
                var cursor = try db.cursor(query, fetching: 3, withHold: withHold)
                var rows: [Int32] = []
                while let row = try cursor.next() { rows.append(row) }
                #expect(rows == Array(1...10))
                #expect(try db.query("SELECT count(*) FROM pg_cursors WHERE name <> ''", as: Int.self).one() == 0)
                let left = try db.cursor(query, fetching: 3, withHold: withHold)
                try left.close()
                #expect(try db.query("SELECT count(*) FROM pg_cursors WHERE name <> ''", as: Int.self).one() == 0)
                let failing = PostgresQuery("SELECT 1 / (3 - n) FROM generate_series(1, 5) n").as(Int32.self)
                #expect(throws: PostgresError.self) {
                    var cursor = try db.cursor(failing, fetching: 1, withHold: withHold)
                    while try cursor.next() != nil {}
                }
                #expect(try db.query("SELECT 1", as: Int.self).one() == 1)
            }
        }
    }
}
