import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

/// Keys whose column has another type than what is sent, in tables that make that hard.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertKeyTypeTests {
    /// A table called as a type of pg_catalog, with a column that is never NULL.
    @Test(arguments: [false, true])
    func u21ATableCalledAsATypeWithADomainThatIsNotNull(_ isView: Bool) async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP SCHEMA IF EXISTS upsert_key_types CASCADE;
            CREATE SCHEMA upsert_key_types;
            CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
            SET search_path = upsert_key_types, public;
            CREATE DOMAIN amount AS int NOT NULL;
            CREATE TABLE path_rows (name citext PRIMARY KEY, n amount, size float4 UNIQUE)
            """)
        try await db.script(
            isView
                ? "CREATE VIEW \"path\" AS SELECT name, n, size FROM path_rows"
                : "ALTER TABLE path_rows RENAME TO \"path\"")
        let rows = [NamedAsType(name: "b", n: 1, size: 0.1), NamedAsType(name: "a", n: 2, size: 0.2)]
        let capital = NamedAsType(name: "A", n: 7, size: 0.3)
        #expect(try await db.upsert(Upsert(rows).doNothing().outcomes()).outcomes == [.inserted, .inserted])
        let again = try await db.upsert(Upsert([capital, rows[0]]).ifChanged().returning(\.n).outcomes())
        #expect(again.outcomes == [.updated, .unchanged])
        let found = try await db.upsert(Upsert(capital).doSelect().returning(\.n).outcomes()).one()
        #expect(found == UpsertedRow(outcome: .skipped, returned: 7))
        let bySize = NamedAsType.upsert.onConflict(\.size).doSelect()
        let other = NamedAsType(name: "other", n: 9, size: 0.1)
        #expect(try await db.upsert(bySize(other).returning(\.n)).one() == 1)
        let report = try await db.upsert(
            NamedAsType.upsert.doSelect().rows([capital, other]).returning(\.n).outcomes(), isolation: .row)
        #expect(report.failures.count == 1)
        #expect(report.rows[0]?.outcome == .skipped)
        db.close()
    }

    /// ON CONFLICT sees no rows of tables that inherit, so doSelect() must not either.
    @Test func u21RowsOfATableThatInheritsAreLeftAlone() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_heirs, upsert_ancestors CASCADE;
            CREATE TABLE upsert_ancestors (id int PRIMARY KEY, n int NOT NULL);
            CREATE TABLE upsert_heirs (PRIMARY KEY (id)) INHERITS (upsert_ancestors);
            INSERT INTO upsert_heirs VALUES (1, 100), (2, 200)
            """)
        let got = try await db.upsert(Upsert(Ancestor(id: 1, n: 1)).doSelect().returning(\.n).outcomes()).one()
        #expect(got == UpsertedRow(outcome: .inserted, returned: 1))
        let again = try await db.upsert(Upsert(Ancestor(id: 1, n: 5)).doSelect().returning(\.n).outcomes()).one()
        #expect(again == UpsertedRow(outcome: .skipped, returned: 1))
        #expect(try await db.query("SELECT sum(n)::int FROM upsert_heirs", as: Int.self).one() == 300)
        db.close()
    }

    @Test func u21PartitionsAreSearched() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_heirs, upsert_ancestors CASCADE;
            CREATE TABLE upsert_ancestors (id int PRIMARY KEY, n int NOT NULL) PARTITION BY HASH (id);
            CREATE TABLE upsert_heirs PARTITION OF upsert_ancestors FOR VALUES WITH (MODULUS 1, REMAINDER 0);
            INSERT INTO upsert_ancestors VALUES (1, 100)
            """)
        let got = try await db.upsert(Upsert(Ancestor(id: 1, n: 1)).doSelect().returning(\.n).outcomes()).one()
        #expect(got == UpsertedRow(outcome: .skipped, returned: 100))
        db.close()
    }

    /// Nor may the UPDATE of updateFirst().
    @Test(arguments: UpsertStrategy.ofKeyTypes) func u35RowsOfATableThatInheritsAreNotUpdated(
        _ strategy: UpsertStrategy
    ) async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_heirs, upsert_ancestors CASCADE;
            CREATE TABLE upsert_ancestors (id int PRIMARY KEY, n int NOT NULL);
            CREATE TABLE upsert_heirs (PRIMARY KEY (id)) INHERITS (upsert_ancestors);
            INSERT INTO upsert_heirs VALUES (1, 100), (2, 200)
            """)
        let hot = Ancestor.upsert.updateFirst().set(\.n) { $0.existing.n + $0.excluded.n }.strategy(strategy)
        #expect(try await db.upsert(hot(Ancestor(id: 1, n: 1)).returning(\.n).outcomes()).one().outcome == .inserted)
        #expect(try await db.upsert(hot(Ancestor(id: 1, n: 1))) == 1)
        let rows = [Ancestor(id: 1, n: 1), Ancestor(id: 2, n: 5)]
        #expect(try await db.upsert(hot.rows(rows)) == 2)
        #expect(try await db.query("SELECT sum(n)::int FROM upsert_heirs", as: Int.self).one() == 300)
        #expect(try await db.query("SELECT n FROM ONLY upsert_ancestors ORDER BY id", as: Int.self).all() == [3, 5])
        db.close()
    }

    /// Of a partitioned table, though, the partitions' rows are its own, and ONLY would reach none.
    @Test(arguments: UpsertStrategy.ofKeyTypes) func u35RowsOfPartitionsAreUpdated(
        _ strategy: UpsertStrategy
    ) async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_heirs, upsert_ancestors CASCADE;
            CREATE TABLE upsert_ancestors (id int PRIMARY KEY, n int NOT NULL, number int4 GENERATED ALWAYS AS IDENTITY)
            PARTITION BY HASH (id);
            CREATE TABLE upsert_heirs PARTITION OF upsert_ancestors FOR VALUES WITH (MODULUS 1, REMAINDER 0)
            PARTITION BY HASH (id);
            CREATE TABLE upsert_grandheirs PARTITION OF upsert_heirs FOR VALUES WITH (MODULUS 1, REMAINDER 0);
            INSERT INTO upsert_ancestors VALUES (1, 100)
            """)
        let hot = Ancestor.upsert.updateFirst().set(\.n) { $0.existing.n + $0.excluded.n }.strategy(strategy)
        #expect(try await db.upsert(hot(Ancestor(id: 1, n: 1))) == 1)
        #expect(try await db.upsert(hot.rows([Ancestor(id: 1, n: 1)])) == 1)
        #expect(try await db.query("SELECT n FROM upsert_ancestors", as: Int.self).one() == 102)
        let last = try await db.query("SELECT last_value FROM upsert_ancestors_number_seq", as: Int.self).one()
        #expect(last == 1)
        db.close()
    }

    /// A view has no tableoid: the server's refusal tells that it is one, and the statement is made anew, once.
    @Test func u35AViewIsKnownByTheServersRefusal() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_heirs, upsert_ancestors CASCADE;
            CREATE TABLE upsert_ancestors (id int PRIMARY KEY, n int NOT NULL);
            CREATE VIEW upsert_ancestors_view AS SELECT * FROM upsert_ancestors
            """)
        let hot = AncestorView.upsert.updateFirst().set(\.n) { $0.existing.n + $0.excluded.n }
        let row = AncestorView(id: 1, n: 1)
        let refused = await failure {
            try await db.transaction { tx in try await tx.upsert(hot(row)) }
        }
        #expect(refused?.sqlState == "42703")
        #expect(refused?.message.contains("are not those") == true)
        let others = AncestorView.upsert.updateFirst()
        #expect(try await db.upsert(hot(row)) == 1)
        #expect(try await db.upsert(hot.rows([row, AncestorView(id: 2, n: 2)])) == 2)
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
            DROP TABLE IF EXISTS upsert_heirs, upsert_ancestors CASCADE;
            CREATE TABLE upsert_ancestors (id int PRIMARY KEY, n int NOT NULL);
            CREATE VIEW upsert_ancestors_view AS SELECT * FROM upsert_ancestors
            """)
        let hot = OtherAncestorView.upsert.updateFirst()
        #expect(try await db.upsert(hot.rows([OtherAncestorView(id: 1, n: 1), OtherAncestorView(id: 2, n: 1)])) == 2)
        #expect(try await db.upsert(hot(OtherAncestorView(id: 1, n: 7)).returning(\.n)).one() == 7)
        db.close()
    }

    /// Each of the rows' statements is run again by itself, as one row's is.
    @Test func u21ARowThatAnotherInsertsMeanwhileIsFoundWithIsolation() async throws {
        let db = try await connect()
        let other = try await connect()
        try await db.script(
            "DROP TABLE IF EXISTS upsert_heirs, upsert_ancestors CASCADE; CREATE TABLE upsert_ancestors (id int PRIMARY KEY, n int)"
        )
        try await other.script("BEGIN; INSERT INTO upsert_ancestors VALUES (2, 100)")
        let process = try #require(db.backendProcessID)
        let rows = [Ancestor(id: 1, n: 1), Ancestor(id: 2, n: 2)]
        async let report = db.upsert(Ancestor.upsert.doSelect().rows(rows).returning(\.n).outcomes(), isolation: .row)
        try await eventually("it does not wait") {
            try await other.query(
                "SELECT count(*) FROM pg_locks WHERE pid = \(process) AND NOT granted", as: Int.self
            ).one() > 0
        }
        try await other.script("COMMIT")
        let answers = try await report
        #expect(answers.failures.isEmpty)
        #expect(answers.rows.map { $0?.outcome } == [.inserted, .skipped])
        #expect(answers.rows.map { $0?.returned } == [1, 100])
        #expect(answers.affected == 1)
        other.close()
        db.close()
    }
}

private struct NamedAsType: PostgresTable {
    var name: String
    var n: Int
    var size: Double

    static let table = Table<Self>("path") {
        Column("name", \.name, .primaryKey)
        Column("n", \.n)
        Column("size", \.size)
    }
}

extension UpsertStrategy {
    fileprivate static var ofKeyTypes: [UpsertStrategy] { [.automatic, .copy] }
}

private struct AncestorView: PostgresTable {
    var id: Int
    var n: Int

    static let table = Table<Self>("upsert_ancestors_view") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
    }
}

/// Of which nothing is known yet when its test begins.
private struct OtherAncestorView: PostgresTable {
    var id: Int
    var n: Int

    static let table = Table<Self>("upsert_ancestors_view") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
    }
}

private struct Ancestor: PostgresTable {
    var id: Int
    var n: Int

    static let table = Table<Self>("upsert_ancestors") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
    }
}
