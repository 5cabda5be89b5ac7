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
        try await createCitext(db)
        try await db.script(
            """
            DROP SCHEMA IF EXISTS upsert_key_types CASCADE;
            CREATE SCHEMA upsert_key_types;
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

    /// The row that is there is the table's own, whatever the table is called.
    @Test func u21ATableCalledAsAnAliasHasRowsOfItsOwn() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP SCHEMA IF EXISTS upsert_key_types CASCADE;
            CREATE SCHEMA upsert_key_types;
            SET search_path = upsert_key_types
            """)
        func check<Row: PostgresTable>(_ row: Row, _ n: any KeyPath<Row, Int> & Sendable) async throws {
            let name = Row.table.name
            try await db.execute("CREATE TABLE \(identifier: name) (id int8 PRIMARY KEY, n int8 NOT NULL)")
            try await db.execute("CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (\(identifier: name))")
            try await db.execute("INSERT INTO \(identifier: name) VALUES (1, 10)")
            try await db.execute("INSERT INTO heir VALUES (1, 20)")
            let found = Array(try await db.upsert(Upsert(row).doSelect().returning(n)))
            #expect(found == [10], "\(name)")
            try await db.execute("DROP TABLE heir")
        }
        try await check(CalledO(id: 1, n: 0), \.n)
        try await check(CalledUpsertOwn(id: 1, n: 0), \.n)
        db.close()
    }

    /// A key is compared as the column holds it, by way of a row of the table. Where that cannot be, the error says what to do.
    @Test func u21AColumnThatIsNotDeclaredAndNeverNull() async throws {
        let db = try await connect()
        try await db.script(
            """
            DROP SCHEMA IF EXISTS upsert_key_types CASCADE;
            CREATE SCHEMA upsert_key_types;
            SET search_path = upsert_key_types;
            CREATE DOMAIN amount AS int NOT NULL;
            CREATE DOMAIN positive AS int CHECK (VALUE IS NOT NULL AND VALUE > 0);
            CREATE TABLE sized (size float4 PRIMARY KEY, at timestamptz(0) UNIQUE, n int8 NOT NULL, hidden amount DEFAULT 1);
            INSERT INTO sized VALUES (0.1, '2000-01-01 00:00:01.4+00', 1)
            """)
        let time = PostgresTimestamp(microseconds: 1_400_000)
        let row = Sized(size: 0.1, at: time, n: 1)
        for hidden in ["amount", "positive"] {
            try await db.script("ALTER TABLE sized ALTER hidden TYPE \(unsafeSQL: hidden)")
            for get in [Sized.upsert.doSelect(), Sized.upsert.onConflict(\.at).doSelect()] {
                let error = await failure { try await db.upsert(get(row).returning(\.n)) }
                #expect(error?.outcome == .rejected)
                #expect(error?.message.contains("a column of domain \"\(hidden)\" has no value") == true)
                #expect(error?.message.contains("doSelect() compares key column") == true)
                #expect(error?.hint?.contains("declare the column of that domain") == true)
            }
        }
        // As the hint says, either way.
        let typed = SizedTyped.upsert.doSelect()(SizedTyped(size: 0.1, at: time, n: 2))
        #expect(try await db.upsert(typed.returning(\.n)).one() == 1)
        let again = SizedWhole(size: 0.1, at: time, n: 2, hidden: 1)
        for get in [SizedWhole.upsert.doSelect(), SizedWhole.upsert.onConflict(\.at).doSelect()] {
            let found = try await db.upsert(get(again).returning(\.n).outcomes()).one()
            #expect(found == UpsertedRow(outcome: .skipped, returned: 1))
        }
        // Without such a column both are found as they are.
        try await db.script("ALTER TABLE sized DROP hidden")
        for get in [Sized.upsert.doSelect(), Sized.upsert.onConflict(\.at).doSelect()] {
            let found = try await db.upsert(get(Sized(size: 0.1, at: time, n: 2)).returning(\.n).outcomes()).one()
            #expect(found == UpsertedRow(outcome: .skipped, returned: 1))
        }
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

    /// The rows of a batch are committed when one of them, which another has inserted meanwhile, is looked for again. If that fails,
    /// the error says that the batch is in.
    @Test(arguments: [nil, UpsertIsolation.batch, .row]) func u21WhatFailsBehindTheCommitOfABatchSaysThatItIsIn(
        _ isolation: UpsertIsolation?
    ) async throws {
        let db = try await connect()
        let other = try await connect()
        try await db.script(
            """
            DROP TABLE IF EXISTS upsert_heirs, upsert_ancestors CASCADE;
            DROP SEQUENCE IF EXISTS upsert_ancestor_attempts;
            CREATE TABLE upsert_ancestors (id int PRIMARY KEY, n int);
            CREATE SEQUENCE upsert_ancestor_attempts
            """)
        // The third row proposed is the second one again; the other's own row is not counted.
        try await db.script(
            """
            CREATE OR REPLACE FUNCTION upsert_third_fails() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN
                IF nextval('upsert_ancestor_attempts') = 3 THEN RAISE EXCEPTION 'no third time'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER third BEFORE INSERT ON upsert_ancestors FOR EACH ROW EXECUTE FUNCTION upsert_third_fails()
            """)
        try await other.script(
            """
            BEGIN;
            SET LOCAL session_replication_role = replica;
            INSERT INTO upsert_ancestors VALUES (2, 100)
            """)
        let process = try #require(db.backendProcessID)
        let upsert = Ancestor.upsert.doSelect().rows([Ancestor(id: 1, n: 1), Ancestor(id: 2, n: 2)]).returning(\.n)
        async let running = outcome(of: upsert, isolation, db)
        try await eventually("it does not wait") {
            try await other.query(
                "SELECT count(*) FROM pg_locks WHERE pid = \(process) AND NOT granted", as: Int.self
            ).one() > 0
        }
        try await other.script("COMMIT")
        let stored = try await eventualRows(other)
        #expect(stored == [1, 100])
        switch (isolation, await running) {
        case (.row?, .success(let failures)):
            // The row's own statement: nothing of it took effect, and nobody says more.
            #expect(failures.count == 1)
            #expect(failures.first?.message.contains("no third time") == true)
            #expect(failures.first?.outcome == .rejected)
        case (_, .failure(let error)):
            #expect(error.outcome == .succeeded)
            #expect(
                error.message.hasPrefix("the batch is in, but a row of it that another inserted meanwhile was not read")
            )
            #expect(error.message.contains("no third time"))
        case (_, .success): Issue.record("nothing failed")
        }
        try await expectUsable(db)
        other.close()
        db.close()
    }

    /// The errors of rows, or of the whole.
    private func outcome<Output: Sendable>(
        of upsert: Upsert<Ancestor, Output>, _ isolation: UpsertIsolation?, _ db: PostgresConnection
    ) async -> Result<[PostgresError], PostgresError> {
        do throws(PostgresError) {
            guard let isolation else {
                _ = try await db.upsert(upsert)
                return .success([])
            }
            return .success(try await db.upsert(upsert, isolation: isolation).failures.map(\.error))
        } catch {
            return .failure(error)
        }
    }

    /// Both rows, as soon as they are there.
    private func eventualRows(_ db: PostgresConnection) async throws -> [Int] {
        var rows: [Int] = []
        try await eventually("the batch was not committed") {
            rows = try await db.query("SELECT n FROM upsert_ancestors ORDER BY id", as: Int.self).all()
            return rows.count == 2
        }
        return rows
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

private struct CalledO: PostgresTable {
    var id: Int
    var n: Int

    static let table = Table<Self>("o") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
    }
}

private struct CalledUpsertOwn: PostgresTable {
    var id: Int
    var n: Int

    static let table = Table<Self>("upsert_own") {
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

private struct Sized: PostgresTable {
    var size: Double
    var at: PostgresTimestamp
    var n: Int

    static let table = Table<Self>("sized") {
        Column("size", \.size, .primaryKey)
        Column("at", \.at)
        Column("n", \.n)
    }
}

/// The same with the type that the key column has.
private struct SizedTyped: PostgresTable {
    var size: Double
    var at: PostgresTimestamp
    var n: Int

    static let table = Table<Self>("sized") {
        Column("size", \.size, .primaryKey, type: "float4")
        Column("at", \.at)
        Column("n", \.n)
    }
}

/// The same with all columns.
private struct SizedWhole: PostgresTable {
    var size: Double
    var at: PostgresTimestamp
    var n: Int
    var hidden: Int32

    static let table = Table<Self>("sized") {
        Column("size", \.size, .primaryKey)
        Column("at", \.at)
        Column("n", \.n)
        Column("hidden", \.hidden)
    }
}
