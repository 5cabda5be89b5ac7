import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Transactions of the blocking API.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct BlockingTransactionTests {
    /// Runs a test on a thread of its own, with a connection and a table.
    private func withConnection(
        _ columns: PostgresQuery = "n int8",
        _ test: @escaping @Sendable (PostgresBlockingConnection, String) throws -> Void
    ) async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL()
        let table = try await makeTable(try await connect(), columns)
        try await onThread { try test(try PostgresBlockingConnection.connect(url), table) }
    }

    private func numbers(_ db: PostgresBlockingConnection, _ table: String) throws -> [Int] {
        try db.query("SELECT n FROM \(identifier: table) ORDER BY n", as: Int.self).all()
    }

    // Swift 6.3.1 crashes on some closures that only throw in `#expect(throws:)`.
    private func thrown(_ operation: () throws -> Void) -> (any Error)? {
        do {
            try operation()
            return nil
        } catch let error { return error }
    }

    private func error(_ operation: () throws -> Void) -> PostgresError? { thrown(operation) as? PostgresError }

    @Test func aCursorIsReadInsideOfATransactionWithStatementsBetween() async throws {
        try await withConnection { db, table in
            try db.transaction { tx in
                try tx.execute("INSERT INTO \(identifier: table) SELECT generate_series(1, 5)")
                var cursor = try tx.cursor(
                    PostgresQuery("SELECT n FROM \(identifier: table) ORDER BY n").as(Int.self), fetching: 2)
                while let number = try cursor.next() {
                    try tx.execute("UPDATE \(identifier: table) SET n = \(number * 10) WHERE n = \(number)")
                }
                // One that is left open ends with the transaction.
                var open = try tx.cursor(PostgresQuery("SELECT generate_series(1, 9)").as(Int32.self), fetching: 2)
                #expect(try open.next() == 1)
            }
            #expect(try numbers(db, table) == [10, 20, 30, 40, 50])
        }
    }

    @Test func aCursorThatOutlivesItsTransactionIsClosedInPeace() async throws {
        try await withConnection { db, _ in
            var kept: PostgresBlockingCursor<Int32>?
            try db.transaction { tx in
                kept = try tx.cursor(PostgresQuery("SELECT generate_series(1, 9)").as(Int32.self), fetching: 2)
            }
            try kept?.close()
            #expect(try db.query("SELECT 1", as: Int.self).one() == 1)
        }
    }

    @Test func aBodyIsCommittedInAsManyRoundTripsAsStatements() async throws {
        try await withConnection { db, table in
            let before = db.statistics
            let count = try db.transaction(isolation: .serializable) { tx in
                try tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
                try tx.transaction { try $0.execute("INSERT INTO \(identifier: table) VALUES (2)") }
                return try tx.commit(with: "INSERT INTO \(identifier: table) VALUES (3)").affected
            }
            #expect(count == 1)
            #expect((db.statistics - before).roundTrips == 3)
            let rows = try numbers(db, table)
            #expect(rows == [1, 2, 3])
        }
    }

    @Test func anErrorRollsBack() async throws {
        try await withConnection { db, table in
            let own = thrown {
                try db.transaction { tx in
                    try tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
                    throw OutOfStock()
                }
            }
            #expect(own is OutOfStock)
            let swallowed = error {
                try db.transaction { tx in
                    try tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
                    _ = try? tx.execute("SELECT 1/\(0)")
                }
            }
            #expect(swallowed?.code == .inFailedSqlTransaction)
            let rows = try numbers(db, table)
            #expect(rows == [])
        }
    }

    @Test func savepointsNest() async throws {
        try await withConnection { db, table in
            try db.transaction { tx in
                try tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
                let own = thrown {
                    try tx.transaction { inner in
                        try inner.execute("INSERT INTO \(identifier: table) VALUES (2)")
                        throw OutOfStock()
                    }
                }
                #expect(own is OutOfStock)
                let swallowed = error {
                    try tx.transaction { inner in _ = try? inner.execute("SELECT 1/\(0)") }
                }
                #expect(swallowed?.code == .inFailedSqlTransaction)
                try tx.execute("INSERT INTO \(identifier: table) VALUES (3)")
            }
            let rows = try numbers(db, table)
            #expect(rows == [1, 3])
        }
    }

    @Test func theConnectionItselfIsRefused() async throws {
        try await withConnection { db, table in
            try db.transaction { tx in
                let own = error { try db.execute("SELECT 1") }
                #expect(own?.code == .unsupported)
                let nested = error { try db.transaction { _ = try $0.execute("SELECT 1") } }
                #expect(nested?.code == .unsupported)
                try tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
            }
            let rows = try numbers(db, table)
            #expect(rows == [1])
        }
    }

    @Test(arguments: [PostgresPipeline.Sync.isolated, .atomic, .savepoints])
    func pipelines(_ sync: PostgresPipeline.Sync) async throws {
        try await withConnection { db, table in
            var pipeline = PostgresPipeline(sync)
            for divisor in [1, 0, 2] {
                pipeline.add("INSERT INTO \(identifier: table) VALUES (2 / \(divisor))")
            }
            let outcomes = try db.run(pipeline).errors.map { $0?.outcome ?? .succeeded }
            #expect(
                outcomes == (sync == .atomic ? [.aborted, .rejected, .aborted] : [.succeeded, .rejected, .succeeded]))
            let rows = try numbers(db, table)
            #expect(rows == (sync == .atomic ? [] : [1, 2]))
            if sync == .savepoints {
                try db.transaction(pipeline)
                let twice = try numbers(db, table)
                #expect(twice == [1, 1, 2, 2])
            } else {
                let failed = error { try db.transaction(pipeline) }
                #expect(failed?.code == .divisionByZero)
            }
        }
    }

    @Test func aBodyIsRetried() async throws {
        try await withConnection { db, table in
            var runs = 0
            let failed = error {
                try db.transaction(retry: .upTo(3, base: .milliseconds(1))) { tx in
                    runs += 1
                    try tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
                    try tx.script("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
                }
            }
            #expect(failed?.code == .deadlockDetected)
            #expect(runs == 3)
            let rows = try numbers(db, table)
            #expect(rows == [])
        }
    }

    @Test func copiesAreOfTheTransaction() async throws {
        try await withConnection { db, table throws in
            let own = thrown {
                try db.transaction { tx throws in
                    #expect(try tx.copy(into: table, column: "n", values: 1...1000) == 1000)
                    #expect(try tx.copy(into: table) { try $0.write("1001\n1002\n") } == 2)
                    var sum = 0
                    var rows = try tx.copy(from: table, as: Int.self)
                    while let n = try rows.next() { sum += n }
                    #expect(sum == 502_503)
                    var bytes: [UInt8] = []
                    let count = try tx.copy(rowsOf: "SELECT n FROM \(identifier: table) WHERE n > 1000 ORDER BY n") {
                        bytes += $0
                    }
                    #expect(count == 2)
                    #expect(bytes == Array("1001\n1002\n".utf8))
                    throw OutOfStock()
                }
            }
            #expect(own is OutOfStock)
            #expect(try numbers(db, table) == [])
            try db.transaction { tx throws in
                try tx.transaction { inner in try inner.copy(into: table, column: "n", values: [1, 2]) }
                try tx.execute("INSERT INTO \(identifier: table) VALUES (3)")
            }
            #expect(try numbers(db, table) == [1, 2, 3])
        }
    }

    @Test func aCopyThatFailsFailsTheTransaction() async throws {
        try await withConnection { db, table throws in
            let swallowed = error {
                try db.transaction { tx throws in
                    try tx.execute("INSERT INTO \(identifier: table) VALUES (1)")
                    _ = try? tx.copy(into: table) { try $0.write("no number\n") }
                }
            }
            #expect(swallowed?.code == .inFailedSqlTransaction)
            #expect(try numbers(db, table) == [])
        }
    }

    @Test func aStatementOfTheTransactionInsideTheSourceOfACopyIsRefused() async throws {
        try await withConnection { db, table throws in
            try db.transaction { tx throws in
                let copied = try tx.copy(into: table) { writer in
                    try writer.write("1\n")
                    let refused = error { try tx.execute("SELECT 1") }
                    #expect(refused?.code == .transactionEnded)
                    #expect(refused?.outcome == .notSent)
                    let outside = error { try db.execute("SELECT 1") }
                    #expect(outside?.code == .unsupported)
                    try writer.write("2\n")
                }
                #expect(copied == 2)
                try tx.execute("INSERT INTO \(identifier: table) VALUES (3)")
            }
            #expect(try numbers(db, table) == [1, 2, 3])
        }
    }

    @Test func threadsTakeTurns() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL()
        let observer = try await connect()
        let table = try await makeTable(observer)
        let db = try await onThread { try PostgresBlockingConnection.connect(url) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 { group.addTask { try await onThread { try add(db, table) } } }
            try await group.waitForAll()
        }
        let rows = try await PostgresIntegrationTests.numbers(observer, table)
        #expect(rows.count == 80)
    }

    @Test func advisoryLocks() async throws {
        let url = try await PostgresEphemeralServer.shared().connectionURL()
        try await withConnection { db, _ in
            let other = try PostgresBlockingConnection.connect(url)
            let key = PostgresAdvisoryLockKey(uniqueName("blocking"))
            try db.withAdvisoryLock(key) {
                let free = try other.transaction { try $0.tryLock(advisory: key) }
                #expect(!free)
            }
            try db.transaction { tx in
                try tx.lock(advisory: key)
                let free = try other.transaction { try $0.tryLock(advisory: key, shared: true) }
                #expect(!free)
            }
            let free = try other.transaction { try $0.tryLock(advisory: key) }
            #expect(free)
        }
    }

    private func add(_ db: PostgresBlockingConnection, _ table: String) throws {
        for _ in 0..<10 {
            try db.transaction { tx in
                let before = try tx.query("SELECT count(*) FROM \(identifier: table)", as: Int.self).one()
                #expect(before.isMultiple(of: 2))
                for _ in 0..<2 { try tx.execute("INSERT INTO \(identifier: table) VALUES (1)") }
            }
        }
    }
}
