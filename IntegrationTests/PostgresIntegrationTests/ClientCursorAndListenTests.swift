import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Cursors and notifications of a `PostgresClient`, which has more than one connection to give them.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct ClientCursorAndListenTests {
    // MARK: Cursors

    @Test func queriesInsideTheLoopOfACursorGoOn() async throws {
        let client = try await makeClient { $0.maximumConnections = 2 }
        var sum = 0
        for try await number in try await client.cursor("SELECT generate_series(1, 10)", as: Int32.self, fetching: 3) {
            sum += try await client.query("SELECT \(Int(number)) * 2", as: Int.self).one()
            #expect(client.statistics.inUse == 1)
        }
        #expect(sum == 110)
        await eventually("the cursor's connection comes back") { client.statistics.idle == 2 }
        #expect(client.statistics.closes.isEmpty)
        await client.shutdown()
    }

    @Test func aCursorThatIsLeftEarlyGivesItsConnectionBackInOrder() async throws {
        let client = try await makeClient { $0.maximumConnections = 1 }
        for _ in 0..<3 {
            for try await number in try await client.cursor(
                "SELECT generate_series(1, 1000)", as: Int32.self, fetching: 2)
            where number == 3 {
                break
            }
            // There is no other connection: it was given back, and its transaction has ended.
            let state = try await client.query(
                "SELECT count(*) FROM pg_cursors WHERE name LIKE 'postgres_swift%'", as: Int.self
            ).one()
            #expect(state == 0)
        }
        #expect(client.statistics.connects == 1)
        #expect(client.statistics.closes.isEmpty)
        await client.shutdown()
    }

    @Test func aCursorThatIsLeftInABodyDoesNotCostTheConnection() async throws {
        let client = try await makeClient { $0.maximumConnections = 1 }
        for _ in 0..<20 {
            try await client.withConnection { db in
                for try await number in try await db.cursor(
                    "SELECT generate_series(1, 1000)", as: Int32.self, fetching: 2)
                where number == 3 {
                    break
                }
            }
            try await client.transaction { tx in
                for try await number in try await tx.cursor(
                    "SELECT generate_series(1, 1000)", as: Int32.self, fetching: 2)
                where number == 3 {
                    break
                }
            }
            try await client.withConnection { db in
                for try await number in try await db.cursor(
                    "SELECT generate_series(1, 1000)", as: Int32.self, fetching: 2, withHold: true)
                where number == 3 {
                    break
                }
            }
        }
        #expect(client.statistics.connects == 1)
        #expect(client.statistics.closes.isEmpty)
        let left = try await client.query(
            "SELECT count(*) FROM pg_cursors WHERE name LIKE 'postgres_swift%'", as: Int.self
        )
        .one()
        #expect(left == 0)
        await client.shutdown()
    }

    @Test func whatACursorDidThatIsLeftIsCommittedAlthoughItsConnectionGoes() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        do {
            let other = try await connect()
            for try await _ in try await other.cursor(
                "INSERT INTO \(identifier: table) SELECT generate_series(1, 10) RETURNING n", as: Int.self, fetching: 2)
            {
                break
            }
        }
        try await eventually("the rows are there") { try await numbers(db, table).count == 10 }
    }

    @Test func aCursorThatFailsGivesItsConnectionBackOnce() async throws {
        let client = try await makeClient { $0.maximumConnections = 1 }
        let refused = await failure { try await client.cursor("SELECT no_such_column", as: Int.self) }
        #expect(refused?.code == .undefinedColumn)
        let failed = await failure {
            for try await _ in try await client.cursor(
                "SELECT 1 / (3 - n) FROM generate_series(1, 5) n", as: Int32.self, fetching: 1)
            {}
        }
        #expect(failed?.code == .divisionByZero)
        #expect(try await client.query("SELECT 1", as: Int.self).one() == 1)
        #expect(client.statistics.connects == 1)
        await client.shutdown()
    }

    @Test func aCursorKeepsItsClientOpen() async throws {
        var client: PostgresClient? = try await makeClient()
        let cursor = try await client?.cursor("SELECT generate_series(1, 5)", as: Int32.self, fetching: 2)
        client = nil
        var count = 0
        for try await _ in try #require(cursor) { count += 1 }
        #expect(count == 5)
    }

    // MARK: Notifications

    @Test func notificationsComeOnAConnectionBesideThePool() async throws {
        let client = try await makeClient { $0.maximumConnections = 1 }
        let channel = uniqueName("channel")
        let notifications = try await client.listen(to: channel)
        #expect(client.statistics.connects == 0)
        try await client.notify(channel, payload: "one")
        try await client.transaction { tx in try await tx.notify(channel, payload: "two") }
        var iterator = notifications.makeAsyncIterator()
        let first = try await iterator.next()
        let second = try await iterator.next()
        #expect(first?.payload == "one")
        #expect(second?.payload == "two")
        #expect(client.statistics.connects == 1)
        await client.shutdown()
    }

    @Test func theConnectionIsClosedWhenNobodyListensAnyMore() async throws {
        let name = uniqueName("listening")
        let client = try await makeClient(name: name)
        do {
            let notifications = try await client.listen(to: uniqueName("channel"))
            try await expectSessions(name, 1)
            withExtendedLifetime(notifications) {}
        }
        try await expectSessions(name, 0)
        await client.shutdown()
    }

    @Test func shuttingDownEndsThoseWhoListen() async throws {
        let client = try await makeClient()
        let notifications = try await client.listen(to: uniqueName("channel"))
        let listening = Task { await failure { for try await _ in notifications {} } }
        await client.shutdown()
        let error = await listening.value
        #expect(error?.code == .connectionClosed)
        let late = await failure { try await client.listen(to: "anything") }
        #expect(late?.code == .clientShutDown)
    }

    @Test func aChannelThatCannotBeIsRefused() async throws {
        let client = try await makeClient()
        let error = await failure { try await client.listen(to: String(repeating: "x", count: 64)) }
        #expect(error?.code == .invalidArgument)
        await client.shutdown()
    }
}
