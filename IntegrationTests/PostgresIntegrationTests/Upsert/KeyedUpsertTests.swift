import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

/// Upserts without a declaration of the table.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct KeyedUpsertTests {
    @Test func u8AnUpsertWithoutADeclarationNamesTheIndexesToo() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_keyed;
            CREATE TABLE upsert_keyed (id int PRIMARY KEY, "a b" text NOT NULL, other text UNIQUE)
            """)
        @Sendable func missing(_ db: some PostgresExecutor) async -> PostgresError? {
            await failure { try await db.upsert(into: "upsert_keyed", key: ("a b", "x"), set: ("id", 1), touch: nil) }
        }
        let error = await missing(db)
        #expect(
            error?.message == """
                table "upsert_keyed" has no unique index over exactly ("a b"), which the upsert conflicts by; \
                it has "upsert_keyed_pkey" (id); "upsert_keyed_other_key" (other)
                """)
        #expect(error?.hint == #"CREATE UNIQUE INDEX ON "upsert_keyed" ("a b")"#)
        #expect(error?.code == .invalidColumnReference)
        let inside = await failure {
            try await db.transaction { tx in if let error = await missing(tx) { throw error } }
        }
        #expect(inside?.message.hasSuffix("which the upsert conflicts by") == true)
        let hint = try #require(error?.hint)
        try await db.execute("\(unsafeSQL: hint)")
        #expect(try await db.upsert(into: "upsert_keyed", key: ("a b", "x"), set: ("id", 1), touch: nil) == 1)
        db.close()
    }

    /// The row of which there is one, of both APIs.
    @Test func u1ATableOfOneRow() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_single;
            CREATE TABLE upsert_single (id int PRIMARY KEY CHECK (id = 1), token text NOT NULL, n int8,
                fetched_at timestamptz, seen_at timestamptz)
            """)
        #expect(try await db.upsert(singleRowOf: "upsert_single", set: ("token", "a"), ("n", 1)) == 1)
        try await db.transaction { tx in
            try await tx.upsert(singleRowOf: "upsert_single", set: ("token", "b"), touch: "seen_at")
        }
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        try await onThread {
            let blocking = try PostgresBlockingConnection.connect(PostgresConfiguration(url: url))
            defer { blocking.close() }
            try blocking.upsert(singleRowOf: "upsert_single", set: ("n", 3), ("token", "c"), touch: nil)
        }
        let row = try await db.query(
            "SELECT token, n, fetched_at IS NOT NULL, seen_at IS NOT NULL, id FROM upsert_single",
            as: (String, Int, Bool, Bool, Int).self
        ).one()
        #expect(row == ("c", 3, true, true, 1))
        db.close()
    }

    @Test func u10AnUpsertWithoutADeclarationNamesTheConstraintThatFired() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_keyed;
            CREATE TABLE upsert_keyed (id int PRIMARY KEY, "a b" text NOT NULL DEFAULT '', other text UNIQUE)
            """)
        try await db.upsert(into: "upsert_keyed", key: ("id", 1), set: ("other", "x"), touch: nil)
        let error = await failure {
            try await db.upsert(into: "upsert_keyed", key: ("id", 2), set: ("other", "x"), touch: nil)
        }
        #expect(error?.code == .uniqueViolation)
        #expect(error?.constraint == "upsert_keyed_other_key")
        #expect(
            error?.message.hasPrefix(
                "table \"upsert_keyed\": a row conflicts by \"upsert_keyed_other_key\", which is not the conflict target"
            )
                == true)
        let url = try await PostgresEphemeralServer.shared().connectionURL(over: .unixSocket)
        try await onThread {
            let blocking = try PostgresBlockingConnection.connect(PostgresConfiguration(url: url))
            defer { blocking.close() }
            do throws(PostgresError) {
                try blocking.upsert(into: "upsert_keyed", key: ("other", "y"), set: ("a b", "x"), touch: nil)
                Issue.record("it was written")
            } catch { #expect(error.sqlState == "23502") }
            do throws(PostgresError) {
                try blocking.upsert(into: "upsert_keyed", key: ("a b", "y"), set: ("id", 3), touch: nil)
                Issue.record("it was written")
            } catch { #expect(error.message.contains("; it has \"upsert_keyed_pkey\" (id)")) }
            do throws(PostgresError) {
                try blocking.upsert(into: "upsert_keyed", key: ("id", 2), set: ("other", "x"), touch: nil)
                Issue.record("it was written")
            } catch { #expect(error.message.contains("which is not the conflict target")) }
        }
        db.close()
    }
}
