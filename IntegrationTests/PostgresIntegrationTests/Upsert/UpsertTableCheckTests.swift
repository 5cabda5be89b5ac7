import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

private struct Checked: PostgresTable {
    var id: Int
    var email: String
    var data: String
    var note: String?
    var score: Double
    var length: Int32
    var createdAt: PostgresTimestamp?
    var updatedAt: PostgresTimestamp?

    static let table = Table<Self>("checked_rows", init: Self.init) {
        Column("id", \.id, .identity)
        Column("email", \.email, .primaryKey)
        Column("data", \.data, type: "jsonb")
        Column("note", \.note)
        Column("score", \.score)
        Column("length", \.length, .generated)
        Column("created_at", \.createdAt, .createdAt)
        Column("updated_at", \.updatedAt, .updatedAt)
    }

    static let row = Checked(id: 0, email: "a@x", data: "{}", note: nil, score: 0.5, length: 0)

    init(
        id: Int, email: String, data: String, note: String?, score: Double, length: Int32,
        createdAt: PostgresTimestamp? = nil, updatedAt: PostgresTimestamp? = nil
    ) {
        self.id = id
        self.email = email
        self.data = data
        self.note = note
        self.score = score
        self.length = length
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }
}

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertTableCheckTests {
    private func table(_ alterations: PostgresQuery...) async throws -> PostgresConnection {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS checked_rows")
        try await db.execute(
            """
            CREATE TABLE checked_rows (
                id int8 GENERATED ALWAYS AS IDENTITY, email text PRIMARY KEY, data jsonb NOT NULL, note varchar(20),
                score float8 NOT NULL, length int4 NOT NULL GENERATED ALWAYS AS (length(email)) STORED,
                created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now())
            """)
        for alteration in alterations { try await db.execute(alteration) }
        return db
    }

    /// What is found after alterations; and that the DDL given mends it.
    private func expect(
        _ kinds: [UpsertTableDifference.Kind], after alterations: PostgresQuery..., mended: Bool = true,
        _ sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> [UpsertTableDifference] {
        let db = try await table()
        defer { db.close() }
        for alteration in alterations { try await db.execute(alteration) }
        let differences = try await db.check(Checked.self)
        #expect(differences.map(\.kind) == kinds, sourceLocation: sourceLocation)
        guard mended else { return differences }
        for difference in differences {
            let ddl = try #require(difference.ddl, sourceLocation: sourceLocation)
            try await db.execute("\(unsafeSQL: ddl)")
        }
        let left = try await db.check(Checked.self)
        #expect(left.isEmpty, sourceLocation: sourceLocation)
        try await db.upsert(Checked.row)
        return differences
    }

    @Test func aTableAsDeclaredHasNoDifferences() async throws {
        let db = try await table()
        defer { db.close() }
        let differences = try await db.check(Checked.self, Checked.upsert, Checked.upsert.doNothing().outcomes())
        #expect(differences.isEmpty)
        try await db.upsert(Checked.row)
        try await db.upsert([Checked.row])
    }

    @Test func aMissingTableComesWithItsDDL() async throws {
        struct New: PostgresTable {
            var tenant: Int32
            var name: String
            var tags: [String]?
            var at: PostgresTimestamp?

            static let table = Table<Self>("check new", init: Self.init(tenant:name:tags:at:)) {
                Column("tenant", \.tenant, .primaryKey)
                Column("Name", \.name, .primaryKey)
                Column("tags", \.tags)
                Column("at", \.at, .updatedAt)
            }
        }
        let db = try await connect()
        defer { db.close() }
        try await db.execute(#"DROP TABLE IF EXISTS "check new""#)
        let differences = try await db.check(New.self)
        #expect(differences.map(\.kind) == [.noTable])
        let ddl = try #require(differences.first?.ddl)
        try await db.execute("\(unsafeSQL: ddl)")
        let left = try await db.check(New.self)
        #expect(left.isEmpty)
        try await db.upsert([New(tenant: 1, name: "a", tags: ["x"], at: nil)])
        let stored = try await db.query(#"SELECT tags FROM "check new""#, as: [String].self).one()
        #expect(stored == ["x"])
    }

    @Test func columnsAreFoundMissing() async throws {
        let differences = try await expect(
            [.noColumn, .noColumn], after: "ALTER TABLE checked_rows DROP COLUMN note, DROP COLUMN updated_at")
        #expect(differences.map(\.column) == ["note", "updated_at"])
        #expect(differences[0].description.contains(#"ALTER TABLE "checked_rows" ADD COLUMN "note" text"#))
    }

    @Test func typesAreCompared() async throws {
        let differences = try await expect(
            [.type, .type, .type],
            after:
                "ALTER TABLE checked_rows ALTER data TYPE text, ALTER score TYPE text, ALTER note TYPE xml USING NULL",
            "ALTER TABLE checked_rows ALTER data SET DEFAULT '[]'")
        #expect(differences.map(\.column) == ["data", "note", "score"])
        #expect(differences[0].message.contains("is declared as jsonb, and is text"))
        #expect(differences[1].message.contains("a batch sends text"))
        #expect(differences[2].message.contains("is text, and is sent as float8"))
        // A domain is as good as its base type, and a shorter number is assigned to.
        _ = try await expect(
            [],
            after: "DROP DOMAIN IF EXISTS checked_score CASCADE", "DROP DOMAIN IF EXISTS checked_base CASCADE",
            "CREATE DOMAIN checked_base AS float4", "CREATE DOMAIN checked_score AS checked_base",
            "ALTER TABLE checked_rows ALTER score TYPE checked_score")
    }

    @Test func nullIsCompared() async throws {
        let differences = try await expect(
            [.nullability, .nullability],
            after: "ALTER TABLE checked_rows ALTER note SET NOT NULL, ALTER score DROP NOT NULL")
        #expect(differences.map(\.column) == ["note", "score"])
    }

    @Test func whatTheServerComputesIsCompared() async throws {
        let identity = try await expect(
            [.generated], after: "ALTER TABLE checked_rows ALTER id DROP IDENTITY")
        #expect(identity.first?.column == "id")
        let nullable = try await expect(
            [.type, .generated, .nullability],
            after: "ALTER TABLE checked_rows ALTER id DROP IDENTITY",
            "ALTER TABLE checked_rows ALTER id DROP NOT NULL, ALTER id TYPE text")
        #expect(nullable.map(\.column) == ["id", "id", "id"])
        let expression = try await expect(
            [.generated], after: "ALTER TABLE checked_rows ALTER length DROP EXPRESSION", mended: false)
        #expect(expression.first?.column == "length")
        let undeclared = try await expect(
            [.generated],
            after: "ALTER TABLE checked_rows DROP score",
            "ALTER TABLE checked_rows ADD score float8 NOT NULL GENERATED ALWAYS AS (0.5) STORED")
        #expect(undeclared.first?.message.contains("declare it as .generated") == true)
        let both = try await expect(
            [.generated, .type],
            after: "ALTER TABLE checked_rows DROP score",
            "ALTER TABLE checked_rows ADD score text NOT NULL GENERATED ALWAYS AS ('1') STORED")
        #expect(both.map(\.column) == ["score", "score"])
    }

    @Test func aColumnThatMustBeSetIsMissed() async throws {
        let differences = try await expect(
            [.undeclaredColumn], after: "ALTER TABLE checked_rows ADD other int8 NOT NULL")
        #expect(differences.first?.column == "other")
    }

    @Test func conflictTargetsNeedAnIndex() async throws {
        let differences = try await expect(
            [.noUniqueIndex], after: "ALTER TABLE checked_rows DROP CONSTRAINT checked_rows_pkey",
            "ALTER TABLE checked_rows ALTER email SET NOT NULL")
        #expect(
            differences.first?.description == """
                table "checked_rows" has no unique index over ("email"); \
                ALTER TABLE "checked_rows" ADD PRIMARY KEY ("email")
                """)

        let db = try await table(
            "CREATE UNIQUE INDEX ON checked_rows (note, score) WHERE note IS NOT NULL",
            "ALTER TABLE checked_rows ADD CONSTRAINT late UNIQUE (score) DEFERRABLE")
        defer { db.close() }
        let byPair = Checked.upsert.onConflict(\.score, \.note)
        let partial = try await db.check(Checked.self, byPair)
        #expect(partial.map(\.kind) == [.noUniqueIndex])
        #expect(partial.first?.message.contains("only a partial unique index") == true)
        let given = try await db.check(
            Checked.self, Checked.upsert.onConflict(\.score, \.note, where: "note IS NOT NULL"))
        #expect(given.isEmpty)
        let deferrable = try await db.check(
            Checked.self, Checked.upsert.onConflict(\.score), Checked.upsert.onConstraint("late"),
            Checked.upsert.onConstraint("none"))
        #expect(deferrable.map(\.kind) == [.noUniqueIndex, .noUniqueIndex])
        #expect(deferrable.first?.message.contains("deferrable") == true)
        let ddl = try #require(deferrable.first?.ddl)
        try await db.execute("\(unsafeSQL: ddl)")
        let left = try await db.check(Checked.self, Checked.upsert.onConflict(\.score))
        #expect(left.isEmpty)
    }

    @Test func aVirtualColumnCanOnlyBeDeclared() async throws {
        let db = try await table()
        defer { db.close() }
        let version = try await db.query("SELECT current_setting('server_version_num')::int8", as: Int.self).one()
        guard version >= 180_000 else { try Test.cancel("virtual columns are new in PostgreSQL 18") }
        try await db.execute("ALTER TABLE checked_rows DROP score")
        try await db.execute("ALTER TABLE checked_rows ADD score text NOT NULL GENERATED ALWAYS AS ('1') VIRTUAL")
        let differences = try await db.check(Checked.self)
        #expect(differences.map(\.kind) == [.generated, .type])
        #expect(differences.allSatisfy { $0.ddl == nil })
    }

    @Test func aTableThatIsAllKeyIsCompared() async throws {
        struct Membership: PostgresTable {
            var team: Int
            var person: Int

            static let table = Table<Self>("checked_memberships", init: Self.init(team:person:)) {
                Column("team", \.team, .primaryKey)
                Column("person", \.person, .primaryKey)
            }
        }
        let db = try await connect()
        defer { db.close() }
        try await db.execute("DROP TABLE IF EXISTS checked_memberships")
        try await db.execute("CREATE TABLE checked_memberships (team int8, person int8, PRIMARY KEY (person, team))")
        let differences = try await db.check(Membership.self)
        #expect(differences.isEmpty)
        let given = try await db.check(Membership.self, Membership.upsert.orDoNothing(), Membership.upsert.doNothing())
        #expect(given.isEmpty)
        try await db.execute("ALTER TABLE checked_memberships DROP CONSTRAINT checked_memberships_pkey")
        let missing = try await db.check(Membership.self)
        #expect(missing.map(\.kind) == [.noUniqueIndex])
    }

    @Test func arraysAreComparedByTheirElements() async throws {
        struct Tagged: PostgresTable {
            var id: Int
            var tags: [String]
            var numbers: [Int]
            var names: [String]

            static let table = Table<Self>("checked_arrays", init: Self.init(id:tags:numbers:names:)) {
                Column("id", \.id, .primaryKey)
                Column("tags", \.tags)
                Column("numbers", \.numbers)
                Column("names", \.names)
            }
        }
        let db = try await connect()
        defer { db.close() }
        _ = try await db.script(
            """
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS checked_arrays;
            DROP DOMAIN IF EXISTS checked_name CASCADE;
            CREATE DOMAIN checked_name AS text CHECK (VALUE <> '');
            CREATE TABLE checked_arrays (
                id int8 PRIMARY KEY, tags varchar(9)[] NOT NULL, numbers int4[] NOT NULL, names checked_name[] NOT NULL)
            """)
        let row = Tagged(id: 1, tags: ["a"], numbers: [1], names: ["n"])
        let none = try await db.check(Tagged.self)
        #expect(none.isEmpty)
        try await db.upsert([row])
        // An array is no text, and elements that cannot be assigned are told.
        try await db.execute(
            "ALTER TABLE checked_arrays ALTER tags TYPE text USING '{}', ALTER numbers TYPE bytea[] USING '{}'")
        let differences = try await db.check(Tagged.self)
        #expect(differences.map(\.column) == ["tags", "numbers"])
        #expect(differences.allSatisfy { $0.kind == .type })
    }

    @Test func theTypeToDeclareHasNoLength() async throws {
        struct Short: PostgresTable {
            var id: Int
            var bits: String
            var name: String

            static let table = Table<Self>("checked_short", init: Self.init(id:bits:name:)) {
                Column("id", \.id, .primaryKey)
                Column("bits", \.bits)
                Column("name", \.name, type: "checked_short_name")
            }
        }
        let db = try await connect()
        defer { db.close() }
        _ = try await db.script(
            """
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS checked_short;
            DROP DOMAIN IF EXISTS checked_short_name, checked_short_base CASCADE;
            CREATE DOMAIN checked_short_base AS varchar(5);
            CREATE DOMAIN checked_short_name AS checked_short_base;
            CREATE TABLE checked_short (id int8 PRIMARY KEY, bits bit(4) NOT NULL, name checked_short_name NOT NULL)
            """)
        let differences = try await db.check(Short.self)
        #expect(differences.map(\.column) == ["bits", "name"])
        #expect(differences.first?.message.contains(#"type: "bit")"#) == true)
        // A cast to the domain cuts the elements of a batch.
        #expect(differences.last?.message.contains(#"type: "character varying")"#) == true)
        #expect(differences.last?.ddl == nil)
    }

    @Test func aColumnThatMustNotBeNullIsLeftSo() async throws {
        struct Part: PostgresTable {
            var id: Int
            var note: String?

            static let table = Table<Self>("checked_parts", init: Self.init(id:note:)) {
                Column("id", \.id, .primaryKey)
                Column("note", \.note)
            }
        }
        let db = try await connect()
        defer { db.close() }
        _ = try await db.script(
            """
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS checked_parts;
            DROP DOMAIN IF EXISTS checked_note CASCADE;
            CREATE DOMAIN checked_note AS text NOT NULL;
            CREATE TABLE checked_parts (id int8, tenant int8, note checked_note, PRIMARY KEY (id, tenant))
            """)
        let differences = try await db.check(Part.self)
        #expect(differences.map(\.kind) == [.nullability, .undeclaredColumn, .noUniqueIndex])
        #expect(differences.map { $0.ddl == nil } == [true, true, false])
    }

    @Test func u9NullsThatNeverConflictAreTold() async throws {
        let db = try await table("ALTER TABLE checked_rows ADD CONSTRAINT one_note UNIQUE (note)")
        defer { db.close() }
        let byNote = Checked.upsert.onConflict(\.note)
        let named = Checked.upsert.onConstraint("one_note", \.note)
        let differences = try await db.check(Checked.self, byNote, named, byNote.rejectingNullKeys())
        #expect(differences.map(\.kind) == [.distinctNulls])
        #expect(differences.first?.column == "note")
        #expect(differences.first?.message.contains("NULL never conflicts by \"one_note\" (note)") == true)
        let rejecting = try await db.check(Checked.self, byNote.rejectingNullKeys(), Checked.upsert.onConflict(\.email))
        #expect(rejecting.isEmpty)
        let ddl = try #require(differences.first?.ddl)
        try await db.execute("\(unsafeSQL: ddl)")
        let left = try await db.check(Checked.self, byNote, named)
        // Before 15 NULL is forbidden instead.
        let isKnown = try await PostgresEphemeralServer.shared().majorVersion >= 15
        #expect(left.map(\.kind) == (isKnown ? [] : [.nullability]))

        guard isKnown else { return }
        try await db.execute("ALTER TABLE checked_rows DROP CONSTRAINT one_note")
        try await db.execute("CREATE UNIQUE INDEX ON checked_rows (note)")
        let index = try #require(try await db.check(Checked.self, byNote).first?.ddl)
        try await db.execute("\(unsafeSQL: index)")
        // Rows conflict by either.
        #expect(try await db.check(Checked.self, byNote).isEmpty)
        for email in ["a@x", "b@x"] {
            var row = Checked.row
            row.email = email
            try await db.upsert(byNote(row))
        }
        #expect(try await db.query("SELECT count(*) FROM checked_rows", as: Int.self).one() == 1)
    }

    @Test func u2TheColumnsNamedWithAConstraintAreCompared() async throws {
        let db = try await table("ALTER TABLE checked_rows ADD CONSTRAINT pair UNIQUE (email, score)")
        defer { db.close() }
        let right = try await db.check(
            Checked.self, Checked.upsert.onConstraint("pair"), Checked.upsert.onConstraint("pair", \.score, \.email))
        #expect(right.isEmpty)
        let wrong = try await db.check(
            Checked.self, Checked.upsert.onConstraint("pair", \.email),
            Checked.upsert.onConstraint("pair", \.email, \.note))
        #expect(wrong.map(\.kind) == [.noUniqueIndex, .noUniqueIndex])
        #expect(
            wrong.first?.message == """
                table "checked_rows" has the constraint "pair" over (email, score), and the upsert says that it is over \
                ("email"): name its columns, onConstraint("pair", ...)
                """)
    }
}
