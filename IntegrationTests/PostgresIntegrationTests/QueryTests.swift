import Postgres
import PostgresTesting
import TestTurns
import Testing

@Suite(.inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct QueryTests {
    @Test(arguments: PostgresEphemeralServer.Address.allCases)
    func valuesComeBackTyped(_ address: PostgresEphemeralServer.Address) async throws {
        let db = try await connect(over: address)
        let (id, name, price) = try await db.query(
            "SELECT \(42)::int8, \("Ännchen"), \(1.5)::float8", as: (Int, String, Double).self
        ).one()
        #expect(id == 42)
        #expect(name == "Ännchen")
        #expect(price == 1.5)
        db.close()
    }

    @Test func aCachedStatementTakesOneRoundTripAndThreeMessages() async throws {
        let db = try await connect()
        for value in 0..<3 { _ = try await db.query("SELECT \(Int32(value))::int4", as: Int32.self).one() }
        let before = db.statistics
        for value in Int32(0)..<10 {
            #expect(try await db.query("SELECT \(value)::int4", as: Int32.self).one() == value)
        }
        let cost = db.statistics - before
        #expect(cost.roundTrips == 10)
        #expect(cost.messagesReceived == 40)
    }

    @Test func concurrentTasksOnOneConnectionGetTheirOwnReplies() async throws {
        let db = try await connect()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for token in 0..<1000 {
                group.addTask {
                    let got = try await db.query("SELECT \(token)::int8", as: Int.self).one()
                    #expect(got == token)
                }
            }
            try await group.waitForAll()
        }
    }

    @Test func anErrorCarriesWhatTheServerSaidAndLeavesTheConnectionUsable() async throws {
        let db = try await connect()
        do {
            try await db.execute("SELECT 1/\(0)")
            Issue.record("no error")
        } catch .divisionByZero {
            // as it should be
        } catch {
            throw error
        }
        do {
            try await db.execute("SELEKT 1")
            Issue.record("no error")
        } catch {
            #expect(error.code == .syntaxError)
            #expect(error.position == 1)
            #expect(error.outcome == .rejected)
            #expect(error.sql == "SELEKT 1")
        }
        #expect(try await db.query("SELECT 1", as: Int.self).one() == 1)
    }

    @Test func aScriptReturnsEachResult() async throws {
        let db = try await connect()
        let results = try await db.script("CREATE TEMP TABLE s (a int); INSERT INTO s VALUES (1), (2); SELECT a FROM s")
        #expect(results.count == 3)
        #expect(try results[1].affected == 2)
        #expect(try results[2].all().map { try $0.decode(0, as: Int.self) } == [1, 2])
    }

    @Test func aPipelineTakesOneRoundTrip() async throws {
        let db = try await connect()
        let one = PostgresQuery("SELECT \(1)::int8").as(Int.self)
        let two = PostgresQuery("SELECT \("two")").as(String.self)
        let before = db.statistics
        let (a, b) = try await db.pipeline(one, two)
        #expect(try a.one() == 1)
        #expect(try b.one() == "two")
        #expect((db.statistics - before).roundTrips == 1)
    }

    @Test func aStreamDeliversEveryRow() async throws {
        let db = try await connect()
        var sum = 0
        for try await (number, text) in try await db.stream(
            "SELECT i, 'row ' || i FROM generate_series(1, 50000) i", as: (Int32, String).self)
        {
            sum += Int(number)
            #expect(text.hasPrefix("row "))
        }
        #expect(sum == 50000 * 50001 / 2)
        #expect(try await db.query("SELECT 1", as: Int.self).one() == 1)
    }

    @Test func theBlockingConnectionDoesTheSame() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let url = server.connectionURL(over: .unixSocket)
        let sum = try await onThread { () throws -> Int in
            let db = try PostgresBlockingConnection.connect(url)
            var sum = 0
            for value in 0..<100 { sum += try db.query("SELECT \(value)::int8", as: Int.self).one() }
            var rows = try db.stream(PostgresQuery("SELECT generate_series(1, 1000)::int8").as(Int.self))
            while let row = try rows.next() { sum += row }
            db.close()
            return sum
        }
        #expect(sum == 4950 + 500_500)
    }
}
