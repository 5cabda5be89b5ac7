import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

extension UpsertStrategy {
    fileprivate static var ofUpdateFirst: [UpsertStrategy] { [.automatic, .copy] }
}

private struct HotView: PostgresTable {
    var id: Int
    var n: Int

    static let table = Table<Self>("upsert_hot_view") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
    }
}

/// Of which nothing is known yet when its test begins.
private struct OtherHotView: PostgresTable {
    var id: Int
    var n: Int

    static let table = Table<Self>("upsert_hot_view") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
    }
}

private struct Hot: PostgresTable {
    var id: Int
    var n: Int

    static let table = Table<Self>("upsert_hot") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
    }
}

/// Which rows updateFirst() reaches, on each kind of table.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpdateFirstTests {
    /// ON CONFLICT sees no rows of tables that inherit, so the UPDATE must not either.
    @Test(arguments: UpsertStrategy.ofUpdateFirst) func u35RowsOfATableThatInheritsAreNotUpdated(
        _ strategy: UpsertStrategy
    ) async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_hot_heirs, upsert_hot CASCADE;
            CREATE TABLE upsert_hot (id int PRIMARY KEY, n int NOT NULL);
            CREATE TABLE upsert_hot_heirs (PRIMARY KEY (id)) INHERITS (upsert_hot);
            INSERT INTO upsert_hot_heirs VALUES (1, 100), (2, 200)
            """)
        let hot = Hot.upsert.updateFirst().set(\.n) { $0.existing.n + $0.excluded.n }.strategy(strategy)
        #expect(try await db.upsert(hot(Hot(id: 1, n: 1)).returning(\.n).outcomes()).one().outcome == .inserted)
        #expect(try await db.upsert(hot(Hot(id: 1, n: 1))) == 1)
        let rows = [Hot(id: 1, n: 1), Hot(id: 2, n: 5)]
        #expect(try await db.upsert(hot.rows(rows)) == 2)
        #expect(try await db.query("SELECT sum(n)::int FROM upsert_hot_heirs", as: Int.self).one() == 300)
        #expect(try await db.query("SELECT n FROM ONLY upsert_hot ORDER BY id", as: Int.self).all() == [3, 5])
        db.close()
    }

    /// Of a partitioned table, though, the partitions' rows are its own, and ONLY would reach none.
    @Test(arguments: UpsertStrategy.ofUpdateFirst) func u35RowsOfPartitionsAreUpdated(
        _ strategy: UpsertStrategy
    ) async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_hot_heirs, upsert_hot CASCADE;
            CREATE TABLE upsert_hot (id int PRIMARY KEY, n int NOT NULL, number int4 GENERATED ALWAYS AS IDENTITY)
            PARTITION BY HASH (id);
            CREATE TABLE upsert_hot_heirs PARTITION OF upsert_hot FOR VALUES WITH (MODULUS 1, REMAINDER 0)
            PARTITION BY HASH (id);
            CREATE TABLE upsert_hot_grandheirs PARTITION OF upsert_hot_heirs FOR VALUES WITH (MODULUS 1, REMAINDER 0);
            INSERT INTO upsert_hot VALUES (1, 100)
            """)
        let hot = Hot.upsert.updateFirst().set(\.n) { $0.existing.n + $0.excluded.n }.strategy(strategy)
        #expect(try await db.upsert(hot(Hot(id: 1, n: 1))) == 1)
        #expect(try await db.upsert(hot.rows([Hot(id: 1, n: 1)])) == 1)
        #expect(try await db.query("SELECT n FROM upsert_hot", as: Int.self).one() == 102)
        let last = try await db.query("SELECT last_value FROM upsert_hot_number_seq", as: Int.self).one()
        #expect(last == 1)
        db.close()
    }

    /// A view has no tableoid: the server's refusal tells that it is one, and the statement is made anew, once.
    @Test func u35AViewIsKnownByTheServersRefusal() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_hot_heirs, upsert_hot CASCADE;
            CREATE TABLE upsert_hot (id int PRIMARY KEY, n int NOT NULL);
            CREATE VIEW upsert_hot_view AS SELECT * FROM upsert_hot
            """)
        let hot = HotView.upsert.updateFirst().set(\.n) { $0.existing.n + $0.excluded.n }
        let row = HotView(id: 1, n: 1)
        let refused = await failure {
            try await db.transaction { tx in try await tx.upsert(hot(row)) }
        }
        #expect(refused?.sqlState == "42703")
        #expect(refused?.message.contains("are not those") == true)
        let others = HotView.upsert.updateFirst()
        #expect(try await db.upsert(hot(row)) == 1)
        #expect(try await db.upsert(hot.rows([row, HotView(id: 2, n: 2)])) == 2)
        #expect(try await db.transaction { tx in try await tx.upsert(hot(row)) } == 1)
        #expect(try await db.upsert(hot(row).returning(\.n)).one() == 4)
        let before = db.statistics.roundTrips
        #expect(try await db.upsert(hot(row)) == 1)
        #expect(db.statistics.roundTrips == before + 1)
        #expect(try await db.upsert(others(row).outcomes()).one() == .updated)
        db.close()
    }

    @Test func u35ABatchIntoAViewIsMadeAnew() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_hot_heirs, upsert_hot CASCADE;
            CREATE TABLE upsert_hot (id int PRIMARY KEY, n int NOT NULL);
            CREATE VIEW upsert_hot_view AS SELECT * FROM upsert_hot
            """)
        let hot = OtherHotView.upsert.updateFirst()
        #expect(try await db.upsert(hot.rows([OtherHotView(id: 1, n: 1), OtherHotView(id: 2, n: 1)])) == 2)
        #expect(try await db.upsert(hot(OtherHotView(id: 1, n: 7)).returning(\.n)).one() == 7)
        db.close()
    }
}
