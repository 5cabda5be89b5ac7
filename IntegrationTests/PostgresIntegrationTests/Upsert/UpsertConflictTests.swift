import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

private struct Member: PostgresTable, Equatable {
    var id: Int
    var email: String?
    var name: String
    var n: Int
    var updatedAt: PostgresTimestamp?

    static let table = Table<Self>("upsert_members", init: Self.init(id:email:name:n:updatedAt:)) {
        Column("id", \.id, .primaryKey, .identity)
        Column("email", \.email)
        Column("name", \.name)
        Column("n", \.n)
        Column("updated_at", \.updatedAt, .updatedAt)
    }

    static let byEmail = upsert.onConflict(\.email)

    init(id: Int = 0, email: String?, name: String = "", n: Int = 0, updatedAt: PostgresTimestamp? = nil) {
        self.id = id
        self.email = email
        self.name = name
        self.n = n
        self.updatedAt = updatedAt
    }
}

private struct Booking: PostgresTable {
    var room: Int
    var days: String

    static let table = Table<Self>("upsert_bookings") {
        Column("room", \.room)
        Column("days", \.days, type: "int4range")
    }
}

private struct Tag: PostgresTable, Equatable {
    var name: String

    static let table = Table<Self>("upsert_tags", init: Self.init(name:)) { Column("name", \.name, .primaryKey) }
}

private struct Part: PostgresTable {
    var region: Int
    var key: Int

    static let table = Table<Self>("upsert_parts") {
        Column("region", \.region)
        Column("key", \.key, .primaryKey)
    }
}

/// What rows conflict by, and what is done then.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertConflictTests {
    /// - Parameter index: what rows conflict by.
    private func members(_ index: PostgresQuery = "UNIQUE (email)") async throws -> PostgresConnection {
        let db = try await connect()
        try await db.script(
            """
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS upsert_members;
            CREATE TABLE upsert_members (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text,
                name text NOT NULL UNIQUE, n int NOT NULL, updated_at timestamptz NOT NULL, \(index))
            """)
        return db
    }

    private func names(_ db: PostgresConnection) async throws -> [String] {
        try await db.query("SELECT name FROM upsert_members ORDER BY id", as: String.self).all()
    }

    @Test func u5AnIndexWithCollationAndOperatorClassIsFound() async throws {
        let db = try await members("CHECK (true)")
        try await db.execute("CREATE UNIQUE INDEX ON upsert_members (email COLLATE \"C\" text_pattern_ops)")
        let upsert = Member.upsert.onIndex("email COLLATE \"C\" text_pattern_ops")
        #expect(try await db.upsert(upsert(Member(email: "a", name: "x")).outcomes()).one() == .inserted)
        #expect(try await db.upsert(upsert(Member(email: "a", name: "y")).outcomes()).one() == .updated)
        #expect(try await names(db) == ["y"])
        db.close()
    }

    private func bookings() async throws -> PostgresConnection {
        let db = try await connect()
        try await db.script(
            """
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS upsert_bookings;
            CREATE TABLE upsert_bookings (room int8 NOT NULL CONSTRAINT room_numbers CHECK (room > 0), days int4range NOT NULL,
                CONSTRAINT no_overlap EXCLUDE USING gist (days WITH &&))
            """)
        return db
    }

    @Test func u7RowsThatAnExclusionConstraintForbidsAreLeftOut() async throws {
        let db = try await bookings()
        let book = Booking.upsert.doNothing(onExclusionConstraint: "no_overlap")
        #expect(try await db.upsert(book(Booking(room: 1, days: "[1,5)")).outcomes()).one() == .inserted)
        #expect(try await db.upsert(book(Booking(room: 2, days: "[3,7)")).outcomes()).one() == .skipped)
        #expect(try await db.uniqueIndexes(of: Booking.self).map(\.isExclusion) == [true])
        db.close()
    }

    /// Wherever an upsert goes, one by an exclusion constraint goes too.
    @Test func u7ExclusionConstraintsGoWithBatchesStreamsWritersAndFunctions() async throws {
        let db = try await bookings()
        let book = Booking.upsert.doNothing(onExclusionConstraint: "no_overlap")
        let rows = [Booking(room: 1, days: "[1,5)"), Booking(room: 2, days: "[3,7)"), Booking(room: 3, days: "[8,9)")]
        #expect(try await db.upsert(book.rows(rows).outcomes()).outcomes == [.inserted, .skipped, .inserted])
        #expect(try await db.upsert(book.rows(rows)) == 0)
        let report = try await db.upsert(book.rows(rows).outcomes(), isolation: .row)
        #expect(report.rows == [.skipped, .skipped, .skipped])
        let stream = AsyncStream<Booking> { continuation in
            for row in rows { continuation.yield(row) }
            continuation.finish()
        }
        #expect(try await db.upsert(book, from: stream).rows == 3)
        let writer = UpsertWriter(db, book.returning(\.room))
        #expect(try await writer.upsert(Booking(room: 4, days: "[10,12)")) == 4)
        #expect(try await writer.upsert(Booking(room: 5, days: "[11,12)")) == nil)
        try await UpsertWriter(db, book).upsert(Booking(room: 6, days: "[11,12)"))
        let function = try await db.install(UpsertFunction("book_room", book))
        #expect(try await db.upsert(function(Booking(room: 7, days: "[20,21)"))) == 1)
        #expect(try await db.upsert(function(Booking(room: 8, days: "[20,21)"))) == 0)
        #expect(try await db.check(Booking.self, book) == [])
        #expect(try await db.check(Booking.self, Booking.upsert.doNothing(onExclusionConstraint: "none")).count == 1)
        let (answer, count) = try await db.pipeline(
            .atomic, book(Booking(room: 9, days: "[30,31)")).query,
            PostgresQuery("SELECT count(*) FROM upsert_bookings").as(Int.self))
        #expect(try answer.affected == 1)
        #expect(try count.one() == 5)
        db.close()
    }

    /// By what kind of constraint rows conflict only the server knows, if it is just named.
    @Test func u7AnUpdateByAnExclusionConstraintIsExplained() async throws {
        let db = try await bookings()
        let row = Booking(room: 2, days: "[3,7)")
        let update = await failure { try await db.upsert(Booking.upsert.onConstraint("no_overlap")(row)) }
        #expect(
            update?.message
                == "table \"upsert_bookings\": \"no_overlap\", by which the upsert conflicts, is an exclusion constraint, "
                + "which goes with DO NOTHING only; it has \"no_overlap\" (days), an exclusion constraint")
        #expect(update?.code == .wrongObjectType)
        #expect(update?.hint == "doNothing(onExclusionConstraint: \"no_overlap\")")
        #expect(update?.outcome == .rejected)
        // The check() says so beforehand.
        let difference = try await db.check(Booking.self, Booking.upsert.onConstraint("no_overlap")).first
        #expect(difference?.message.contains("by which rows cannot be updated") == true)
        let check = await failure {
            try await db.upsert(Booking.upsert.doNothing(onExclusionConstraint: "room_numbers")(row))
        }
        #expect(check?.message.contains("cannot conflict by the constraint \"room_numbers\"") == true)
        let missing = await failure {
            try await db.upsert(Booking.upsert.doNothing(onExclusionConstraint: "none")(row))
        }
        #expect(missing?.message.contains("has no constraint \"none\"") == true)
        #expect(missing?.message.hasSuffix("it has \"no_overlap\" (days), an exclusion constraint") == true)
        db.close()
    }

    @Test func u8AMissingIndexIsToldWithThoseThatThereAre() async throws {
        let db = try await members("CHECK (true)")
        try await db.script(
            """
            CREATE UNIQUE INDEX upsert_members_lower ON upsert_members (lower(email)) WHERE n > 0;
            ALTER TABLE upsert_members ADD CONSTRAINT later UNIQUE (n) DEFERRABLE
            """)
        let expected = """
            it has "upsert_members_pkey" (id); "later" (n), deferrable; \
            "upsert_members_lower" (lower(email)) WHERE n > 0; "upsert_members_name_key" (name)
            """
        let row = Member(email: "a", name: "x")
        var errors: [PostgresError?] = []
        errors.append(await failure { try await db.upsert(Member.byEmail(row)) })
        errors.append(await failure { try await db.upsert(Member.byEmail.rows([row])) })
        errors.append(await failure { try await db.upsert(Member.byEmail(row).outcomes()) })
        errors.append(await failure { try await db.upsert(Member.upsert.onIndex("lower(name)")(row)) })
        errors.append(await failure { try await db.upsert(Member.upsert.onConstraint("nowhere")(row)) })
        for error in errors { #expect(error?.message.hasSuffix(expected) == true, "\(String(describing: error))") }
        #expect(errors[0]?.code == .invalidColumnReference)
        // In a transaction nothing can be asked any more; the rest is said all the same.
        let inside = await failure { try await db.transaction { tx in try await tx.upsert(Member.byEmail(row)) } }
        #expect(
            inside?.message.hasSuffix("no unique index over exactly (\"email\"), which the upsert conflicts by") == true
        )
        let indexes = try await db.uniqueIndexes(of: Member.self)
        #expect(indexes.map(\.constraint) == ["upsert_members_pkey", "later", nil, "upsert_members_name_key"])
        #expect(indexes[0].isPrimaryKey)
        db.close()
    }

    /// The server is asked when the first NULL comes, however the rows travel, and only then.
    @Test func u9NullKeysAreRejectedUnlessTheIndexSaysTheyAreEqual() async throws {
        var db = try await members()
        let row = Member(email: nil, name: "x")
        var asking = Member.byEmail.rejectingNullKeys(unlessNotDistinct: true)
        try await db.upsert(asking(Member(email: "a", name: "y")))
        let before = db.statistics.roundTrips
        #expect(try await db.upsert(asking(Member(email: "a", name: "z"))) == 1)
        #expect(db.statistics.roundTrips == before + 1)
        var errors: [PostgresError?] = []
        errors.append(await failure { try await db.upsert(asking(row)) })
        errors.append(await failure { try await db.upsert(asking.rows([row])) })
        errors.append(await failure { try await db.upsert(asking(row).outcomes()) })
        errors.append(await failure { try await db.upsert(asking.rows([row]), isolation: .row).check() })
        errors.append(await failure { try await db.transaction { tx in try await tx.upsert(asking(row)) } })
        for error in errors {
            #expect(error?.message.contains("does not say NULLS NOT DISTINCT") == true, "\(String(describing: error))")
            #expect(error?.outcome == .notSent)
        }
        #expect(try await names(db) == ["z"])
        db.close()

        guard try await PostgresEphemeralServer.shared().majorVersion >= 15 else { return }
        db = try await members("UNIQUE NULLS NOT DISTINCT (email)")
        // It is known from before that NULLs are distinct.
        #expect(await failure { try await db.upsert(asking(row)) } != nil)
        try await db.prepareNullKeys(of: asking)
        #expect(try await db.upsert(asking(row)) == 1)
        #expect(try await db.query(asking(Member(email: nil, name: "w")).outcomes().query).one() == .updated)
        #expect(try await names(db) == ["w"])
        // By the constraint nothing is known yet.
        asking = Member.upsert.onConstraint("upsert_members_email_key", \.email)
            .rejectingNullKeys(unlessNotDistinct: true)
        #expect(try await db.transaction { tx in try await tx.upsert(asking.rows([row])) } == 1)
        #expect(try await db.upsert(asking(Member(email: nil, name: "v")).outcomes()).one() == .updated)
        #expect(try await db.upsert(asking.strategy(.copy).rows([row])) == 1)
        #expect(try await names(db) == ["x"])
        db.close()
    }

    @Test func u9NullNeverConflictsUnlessTheIndexSaysSo() async throws {
        var db = try await members()
        let rows = [Member(email: nil, name: "x"), Member(email: nil, name: "y")]
        for row in rows { #expect(try await db.upsert(Member.byEmail(row).outcomes()).one() == .inserted) }
        #expect(try await db.uniqueIndexes(of: Member.self).allSatisfy { !$0.nullsNotDistinct })
        let error = await failure { try await db.upsert(Member.byEmail.rejectingNullKeys().rows(rows)) }
        #expect(error?.outcome == .notSent)
        db.close()

        guard try await PostgresEphemeralServer.shared().majorVersion >= 15 else { return }
        db = try await members("UNIQUE NULLS NOT DISTINCT (email)")
        #expect(try await db.upsert(Member.byEmail(rows[0]).outcomes()).one() == .inserted)
        // By the row, not by its key, which is NULL in both.
        #expect(try await db.upsert(Member.byEmail(rows[1]).outcomes()).one() == .updated)
        #expect(try await names(db) == ["y"])
        #expect(try await db.uniqueIndexes(of: Member.self).contains { $0.keys == ["email"] && $0.nullsNotDistinct })
        db.close()
    }

    @Test func u10OfSeveralConstraintsTheOneThatFiredIsNamed() async throws {
        let db = try await members()
        try await db.upsert(Member.byEmail(Member(email: "a", name: "x")))
        let error = await failure { try await db.upsert(Member.byEmail(Member(email: "b", name: "x"))) }
        #expect(error?.code == .uniqueViolation)
        #expect(error?.constraint == "upsert_members_name_key")
        #expect(error?.message.contains("\"upsert_members_name_key\", which is not the conflict target") == true)
        #expect(try await db.upsert(Member.upsert.onAnyConflict().doNothing()(Member(email: "b", name: "x"))) == 0)
        db.close()
    }

    @Test func u16AnUnchangedRowIsNotRewritten() async throws {
        let db = try await members()
        let rows = [Member(email: "a", name: "x", n: 1), Member(email: "b", name: "y", n: 1)]
        try await db.upsert(Member.byEmail.rows(rows))
        func places() async throws -> [String] {
            try await db.query("SELECT ctid::text FROM upsert_members ORDER BY email", as: String.self).all()
        }
        let before = try await places()
        var changed = rows
        changed[1].n = 2
        let result = try await db.upsert(Member.byEmail.ifChanged().rows(changed).outcomes())
        #expect(result.outcomes == [.unchanged, .updated])
        let after = try await places()
        #expect(after[0] == before[0])
        #expect(after[1] != before[1])
        db.close()
    }

    @Test func u18UpdatedAtStaysWhereNothingElseChanges() async throws {
        let db = try await members()
        let rows = [Member(email: "a", name: "x", n: 1), Member(email: "b", name: "y", n: 1)]
        let upsert = Member.byEmail.touchOnlyChanged()
        func times(_ rows: [Member]) async throws -> [PostgresTimestamp?] {
            try await db.upsert(upsert.rows(rows).returning(\.updatedAt)).returned()
        }
        let first = try await times(rows)
        var changed = rows
        changed[1].n = 2
        let second = try await times(changed)
        #expect(second[0] == first[0])
        #expect(try #require(second[1]) > #require(first[1]))
        // It was written, though: the outcome says so.
        #expect(try await db.upsert(upsert.rows(changed).outcomes()).outcomes == [.updated, .updated])
        db.close()
    }

    @Test func u19IdentityColumnsCanBeOverridden() async throws {
        let db = try await members()
        let row = Member(id: 500, email: "a", name: "x")
        let refused = await failure { try await db.upsert(row) }
        #expect(refused?.hint?.contains("overriding(.systemValue)") == true)
        #expect(try await db.upsert(Member.upsert.overriding(.systemValue)(row).returning(\.id)).one() == 500)
        #expect(try await db.upsert(Member.upsert.overriding(.systemValue)(row).outcomes()).one() == .updated)
        let user = Member.byEmail.overriding(.userValue)
        #expect(try await db.upsert(user(Member(id: 900, email: "b", name: "y")).returning(\.id)).one() < 500)
        #expect(
            try await db.upsert(user.rows([Member(id: 9, email: "c", name: "z")]).returning(\.id)).returned()[0] != 9)
        db.close()
    }

    @Test func u20AKeyWithoutColumnsIsInsertedOrLeft() async throws {
        let db = try await connect()
        try await db.script("DROP TABLE IF EXISTS upsert_tags; CREATE TABLE upsert_tags (name text PRIMARY KEY)")
        let upsert = Tag.upsert.orDoNothing().outcomes()
        #expect(try await db.upsert(upsert(Tag(name: "a"))).one() == .inserted)
        #expect(try await db.upsert(upsert.rows([Tag(name: "b"), Tag(name: "a")])).outcomes == [.inserted, .skipped])
        db.close()
    }

    @Test func u21ARowIsGotOrCreated() async throws {
        let db = try await members()
        let get = Member.byEmail.doSelect().returningRow().outcomes()
        let first = try await db.upsert(get(Member(email: "a", name: "x", n: 1))).one()
        #expect(first.outcome == .inserted)
        let second = try await db.upsert(get(Member(email: "a", name: "other", n: 2))).one()
        #expect(second.outcome == .skipped)
        #expect(second.returned == first.returned)
        let plain = try await db.upsert(Member.byEmail.doSelect()(Member(email: "a", name: "z")).returning(\.name))
        #expect(try plain.one() == "x")
        #expect(plain.affected == 0)

        let rows = ["c", "a", "b"].map { (email: String) in Member(email: email, name: "new \(email)") }
        let many = try await db.upsert(Member.byEmail.doSelect().rows(rows).returning(\.name).outcomes())
        #expect(many.outcomes == [.inserted, .skipped, .inserted])
        #expect(many.returned() == ["new c", "x", "new b"])
        #expect(many.affected == 2)
        // No row was written over another, nor locked.
        #expect(try await db.query("SELECT count(*) FROM upsert_members WHERE xmax <> 0", as: Int.self).one() == 0)
        let null = await failure { try await db.upsert(get(Member(email: nil, name: "x"))) }
        #expect(null?.constraint == "upsert_members_name_key")
        db.close()
    }

    @Test func u21ARowThatAnotherInsertsMeanwhileIsFound() async throws {
        let db = try await members()
        let other = try await connect()
        try await other.script(
            "BEGIN; INSERT INTO upsert_members (email, name, n, updated_at) VALUES ('a', 'theirs', 1, now())")
        let process = try #require(db.backendProcessID)
        async let name = db.upsert(Member.byEmail.doSelect()(Member(email: "a", name: "mine")).returning(\.name)).one()
        try await eventually("it does not wait") {
            try await other.query(
                "SELECT count(*) FROM pg_locks WHERE pid = \(process) AND NOT granted", as: Int.self
            ).one() > 0
        }
        try await other.script("COMMIT")
        #expect(try await name == "theirs")
        other.close()
        db.close()
    }

    /// Whoever conflicts has taken a value of the sequence by then.
    @Test func u37EachUpsertTakesASequenceValue() async throws {
        let db = try await members()
        defer { db.close() }
        let bump = Member.byEmail.set(\.n) { $0.existing.n + $0.excluded.n }
        for _ in 0..<3 { try await db.upsert(bump(Member(email: "a", name: "x", n: 1))) }
        try await db.upsert(bump(Member(email: "b", name: "y", n: 1)))
        let ids = try await db.query("SELECT id FROM upsert_members ORDER BY email", as: Int.self).all()
        #expect(ids == [1, 4])
    }

    @Test func u35AnUpdateTakesNoSequenceValue() async throws {
        let db = try await members()
        func used() async throws -> Int {
            try await db.query(
                "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM upsert_members_id_seq", as: Int.self
            ).one()
        }
        let bump = Member.byEmail.set(\.n) { $0.existing.n + $0.excluded.n }
        let hot = bump.updateFirst()
        let row = Member(email: "a", name: "x", n: 1)
        #expect(try await db.upsert(hot(row).outcomes()).one() == .inserted)
        for _ in 0..<5 { #expect(try await db.upsert(hot(row)) == 1) }
        let seventh = try await db.upsert(hot(row).returning(\.n).outcomes()).one()
        #expect(seventh == UpsertedRow(outcome: .updated, returned: 7))
        #expect(try await used() == 1)

        let rows = [Member(email: "b", name: "y", n: 1), row]
        #expect(try await db.upsert(hot.rows(rows)) == 2)
        #expect(try await used() == 2)
        #expect(try await db.upsert(hot.rows(rows)) == 2)
        let result = try await db.upsert(hot.rows(rows).returning(\.n).outcomes())
        #expect(result.outcomes == [.updated, .updated])
        #expect(result.returned() == [3, 10])
        #expect(try await db.upsert(hot.strategy(.copy).rows(rows)) == 2)
        #expect(try await used() == 2)
        let filtered = hot.where { $0.existing.n > 5 }
        #expect(try await db.upsert(filtered.rows(rows).outcomes()).outcomes == [.skipped, .updated])
        #expect(try await db.upsert(hot.ifChanged().set(\.n) { $0.existing.n }.rows(rows)) == 0)

        // U37: without it every conflict takes one.
        let before = try await used()
        for _ in 0..<5 { try await db.upsert(bump(row)) }
        #expect(try await used() == before + 5)
        db.close()
    }

    @Test func u35ARowThatAnotherInsertsMeanwhileIsUpdated() async throws {
        let db = try await members()
        let other = try await connect()
        try await other.script(
            "BEGIN; INSERT INTO upsert_members (email, name, n, updated_at) VALUES ('a', 'theirs', 10, now())")
        let process = try #require(db.backendProcessID)
        let hot = Member.byEmail.updateFirst().set(\.n) { $0.existing.n + $0.excluded.n }
        async let row = db.upsert(hot(Member(email: "a", name: "mine", n: 1)).returning(\.n).outcomes()).one()
        try await eventually("it does not wait") {
            try await other.query(
                "SELECT count(*) FROM pg_locks WHERE pid = \(process) AND NOT granted", as: Int.self
            ).one() > 0
        }
        try await other.script("COMMIT")
        let updated = try await row
        #expect(updated == UpsertedRow(outcome: .updated, returned: 11))
        other.close()
        db.close()
    }

    // MARK: What the server says of tables of their own kind

    @Test func u38EffectsOfATriggerShowInExcluded() async throws {
        let db = try await members()
        try await db.script(
            """
            CREATE OR REPLACE FUNCTION upsert_raise() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.n := NEW.n + 100; RETURN NEW; END $$;
            CREATE TRIGGER raise BEFORE INSERT ON upsert_members FOR EACH ROW EXECUTE FUNCTION upsert_raise()
            """)
        let row = Member(email: "a", name: "x", n: 1)
        #expect(try await db.upsert(Member.byEmail(row).returning(\.n)).one() == 101)
        // Once for the row proposed, though nothing is inserted.
        let bump = Member.byEmail.set(\.n) { $0.existing.n + $0.excluded.n }
        #expect(try await db.upsert(bump(row).returning(\.n)).one() == 202)
        // The UPDATE of updateFirst() proposes no row.
        #expect(try await db.upsert(bump.updateFirst()(row).returning(\.n)).one() == 203)
        db.close()
    }

    @Test func u39TheKeyOfAPartitionedTableHoldsItsPartitionKey() async throws {
        let db = try await connect()
        try await db.script(
            """
            SET client_min_messages = warning;
            DROP TABLE IF EXISTS upsert_parts;
            CREATE TABLE upsert_parts (region int, key int, UNIQUE (region, key)) PARTITION BY LIST (region);
            CREATE TABLE upsert_parts_1 PARTITION OF upsert_parts FOR VALUES IN (1)
            """)
        let error = await failure { try await db.upsert(Part(region: 1, key: 1)) }
        #expect(error?.message.contains("over exactly (\"key\")") == true)
        #expect(error?.message.contains("(region, key)") == true)
        let upsert = Part.upsert.onConflict(\.region, \.key).orDoNothing().outcomes()
        #expect(try await db.upsert(upsert(Part(region: 1, key: 1))).one() == .inserted)
        let noPartition = await failure { try await db.upsert(upsert(Part(region: 2, key: 1))) }
        #expect(noPartition?.code == .checkViolation)
        db.close()
    }

    @Test func u40ATableWithRulesIsRefused() async throws {
        let db = try await members()
        try await db.execute("CREATE RULE quiet AS ON UPDATE TO upsert_members DO ALSO NOTHING")
        let error = await failure { try await db.upsert(Member.byEmail(Member(email: "a", name: "x"))) }
        #expect(error?.code == .featureNotSupported)
        #expect(error?.outcome == .rejected)
        db.close()
    }

    @Test func u41RowSecurityAsksForSelectAndUpdatePolicies() async throws {
        let db = try await members()
        try await db.script(
            """
            DO $$ BEGIN CREATE ROLE upsert_guest; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
            GRANT ALL ON upsert_members TO upsert_guest;
            ALTER TABLE upsert_members ENABLE ROW LEVEL SECURITY;
            CREATE POLICY write ON upsert_members FOR INSERT TO upsert_guest WITH CHECK (true);
            INSERT INTO upsert_members (email, name, n, updated_at) VALUES ('a', 'x', 1, now());
            SET ROLE upsert_guest
            """)
        let row = Member(email: "a", name: "y")
        let upsert = Member.byEmail(row)
        func refused() async -> PostgresError.Code? { await failure { try await db.upsert(upsert) }?.code }
        #expect(await refused() == .insufficientPrivilege)
        func add(_ policy: PostgresQuery) async throws {
            try await db.script("RESET ROLE; \(policy); SET ROLE upsert_guest")
        }
        try await add("CREATE POLICY read ON upsert_members FOR SELECT TO upsert_guest USING (true)")
        #expect(await refused() == .insufficientPrivilege)
        try await add("CREATE POLICY change ON upsert_members FOR UPDATE TO upsert_guest USING (true)")
        #expect(try await db.upsert(upsert.outcomes()).one() == .updated)
        db.close()
    }
}
