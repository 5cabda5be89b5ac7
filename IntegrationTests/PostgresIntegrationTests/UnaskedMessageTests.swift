import Postgres
import PostgresTesting
import TestTurns
import Testing

/// What the server sends without being asked.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct UnaskedMessageTests {
    @Test func aFloodOfNoticesDisturbsNothing() async throws {
        let db = try await connect()
        try await db.script(
            """
            DO $$ BEGIN FOR i IN 1..20000 LOOP RAISE NOTICE 'notice % %', i, repeat('x', 100); END LOOP; END $$
            """)
        let notices: PostgresQuery = "SELECT set_config('client_min_messages', 'debug5', false)"
        _ = try await db.query(notices).one()
        for _ in 0..<100 { try await expectUsable(db) }
    }

    @Test func notificationsDisturbNothing() async throws {
        let db = try await connect()
        let other = try await connect()
        let channel = uniqueName("channel")
        try await db.execute("LISTEN \(identifier: channel)")
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for number in 0..<500 {
                    try await other.execute("SELECT pg_notify(\(channel), \("message \(number)"))")
                }
            }
            for _ in 0..<4 { group.addTask { for _ in 0..<250 { try await expectUsable(db) } } }
            try await group.waitForAll()
        }
        // While nobody asks anything, too.
        for _ in 0..<50 { try await other.execute("SELECT pg_notify(\(channel), 'idle')") }
        try await expectUsable(db)
    }

    @Test func aClientEncodingThatThisClientDoesNotSpeakClosesTheConnection() async throws {
        let db = try await connect()
        let error = await failure { try await db.execute("SET client_encoding = 'LATIN1'") }
        #expect(error?.code == .brokenProtocol)
        #expect(db.isClosed)
    }
}
