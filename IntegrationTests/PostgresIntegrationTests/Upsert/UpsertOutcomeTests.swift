import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

/// Made anew as another kind of table for each test.
private struct Item: PostgresTable, Equatable {
    var id: Int
    var hits: Int

    static let table = Table<Self>("upsert_items", init: Self.init(id:hits:)) {
        Column("id", \.id, .primaryKey)
        Column("hits", \.hits)
    }

    static let bump = upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }
}

/// What a table can be that an upsert goes into.
enum TableKind: String, CaseIterable {
    case plain, unlogged, temporary, inherited, partitioned, subpartitioned, view, viewOfPartitions
    case triggers, partitionedWithTriggers, generatedAndIdentity, domains, rowSecurity, deferredForeignKey

    /// Makes `upsert_items`, and whatever it needs.
    func make(_ db: PostgresConnection, prepares: Bool = true) async throws {
        try await db.script(
            """
            DROP SCHEMA IF EXISTS upsert_kinds CASCADE;
            DROP TABLE IF EXISTS pg_temp.upsert_items;
            CREATE SCHEMA upsert_kinds;
            SET search_path = upsert_kinds
            """)
        try await db.script("\(unsafeSQL: ddl)")
        if self == .rowSecurity { try await db.execute("SET ROLE upsert_tenant") }
        if prepares { try await db.prepareOutcomes(of: Item.self) }
    }

    private var ddl: String {
        let plain = "CREATE TABLE upsert_kinds.upsert_items (id int PRIMARY KEY, hits int NOT NULL)"
        let partitioned = """
            \(plain) PARTITION BY RANGE (id);
            CREATE TABLE upsert_items_1 PARTITION OF upsert_items FOR VALUES FROM (MINVALUE) TO (20);
            CREATE TABLE upsert_items_2 PARTITION OF upsert_items DEFAULT;
            """
        // They write other rows, lock the row, and write it again.
        let triggers = """
            CREATE TABLE audit (id int REFERENCES upsert_items, what text);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO audit VALUES (NEW.id, TG_OP);
                IF pg_trigger_depth() = 1 THEN UPDATE upsert_items SET hits = hits WHERE id = NEW.id; END IF;
                RETURN NULL;
            END $$;
            CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM 1 FROM upsert_items WHERE id = NEW.id FOR UPDATE;
                RETURN NEW;
            END $$;
            CREATE TRIGGER before BEFORE INSERT OR UPDATE ON upsert_items FOR EACH ROW EXECUTE FUNCTION pass();
            CREATE TRIGGER after AFTER INSERT OR UPDATE ON upsert_items FOR EACH ROW EXECUTE FUNCTION note();
            """
        switch self {
        case .plain: return plain
        case .unlogged: return "CREATE UNLOGGED TABLE upsert_kinds.upsert_items (id int PRIMARY KEY, hits int)"
        case .temporary: return "CREATE TEMPORARY TABLE upsert_items (id int PRIMARY KEY, hits int)"
        case .inherited:
            return """
                CREATE TABLE upsert_kinds.parent (hits int);
                CREATE TABLE upsert_kinds.upsert_items (id int PRIMARY KEY) INHERITS (parent);
                CREATE TABLE upsert_kinds.child () INHERITS (upsert_items);
                INSERT INTO child VALUES (0, 0), (1, 1)
                """
        case .partitioned: return partitioned
        case .subpartitioned:
            return """
                \(plain) PARTITION BY RANGE (id);
                CREATE TABLE upsert_kinds.low PARTITION OF upsert_items FOR VALUES FROM (MINVALUE) TO (20)
                    PARTITION BY HASH (id);
                CREATE TABLE upsert_kinds.low_0 PARTITION OF low FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                CREATE TABLE upsert_kinds.low_1 PARTITION OF low FOR VALUES WITH (MODULUS 2, REMAINDER 1);
                CREATE TABLE upsert_kinds.high PARTITION OF upsert_items DEFAULT
                """
        case .view:
            return """
                CREATE TABLE upsert_kinds.base (key int PRIMARY KEY, n int);
                CREATE VIEW upsert_kinds.upsert_items AS SELECT key AS id, n AS hits FROM base
                """
        case .viewOfPartitions:
            return """
                CREATE TABLE upsert_kinds.base (id int PRIMARY KEY, hits int) PARTITION BY HASH (id);
                CREATE TABLE upsert_kinds.base_0 PARTITION OF base FOR VALUES WITH (MODULUS 1, REMAINDER 0);
                CREATE VIEW upsert_kinds.upsert_items AS SELECT * FROM base
                """
        case .triggers: return plain + ";" + triggers
        case .partitionedWithTriggers: return partitioned + triggers
        case .generatedAndIdentity:
            return """
                CREATE TABLE upsert_kinds.upsert_items (id int PRIMARY KEY, number int GENERATED ALWAYS AS IDENTITY,
                    hits int, double int GENERATED ALWAYS AS (hits * 2) STORED)
                """
        case .domains:
            return """
                CREATE DOMAIN upsert_kinds.key AS int CHECK (VALUE >= 0);
                CREATE DOMAIN upsert_kinds.amount AS int NOT NULL;
                CREATE TABLE upsert_kinds.upsert_items (id key PRIMARY KEY, hits amount)
                """
        case .rowSecurity:
            return """
                \(plain);
                DO $$ BEGIN CREATE ROLE upsert_tenant; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
                GRANT USAGE ON SCHEMA upsert_kinds TO upsert_tenant;
                GRANT SELECT, INSERT, UPDATE ON upsert_items TO upsert_tenant;
                ALTER TABLE upsert_items ENABLE ROW LEVEL SECURITY;
                CREATE POLICY own ON upsert_items TO upsert_tenant USING (id < 1000) WITH CHECK (id < 1000)
                """
        case .deferredForeignKey:
            return """
                \(plain);
                CREATE TABLE upsert_kinds.child (id int REFERENCES upsert_items DEFERRABLE INITIALLY DEFERRED);
                INSERT INTO upsert_items VALUES (0, 0);
                INSERT INTO child VALUES (0);
                DELETE FROM child; DELETE FROM upsert_items
                """
        }
    }
}

/// U24: what is said of a row is right, whatever the table is.
@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertOutcomeTests {
    @Test(arguments: TableKind.allCases)
    func u24OutcomesAreRightOnEveryKindOfTable(_ kind: TableKind) async throws {
        let db = try await connect()
        try await kind.make(db)
        let rows = (0..<30).shuffled().map { Item(id: $0, hits: $0) }
        let known = rows.filter { $0.id % 3 == 0 }
        try await db.upsert(known)
        func expected(_ known: UpsertOutcome) -> [UpsertOutcome] { rows.map { $0.id % 3 == 0 ? known : .inserted } }

        let many = try await db.upsert(Item.bump.rows(rows).returning(\.id).outcomes())
        #expect(many.outcomes == expected(.updated))
        #expect(many.returned() == rows.map(\.id))
        // All are there now.
        #expect(try await db.upsert(Item.bump.rows(rows).outcomes()).outcomes.allSatisfy { $0 == .updated })

        if kind != .rowSecurity, !kind.rawValue.hasSuffix("riggers") {
            try await db.execute("DELETE FROM upsert_items WHERE id % 3 <> 0")
            let filtered = Item.upsert.where { $0.excluded.hits > 10 }
            let outcomes = try await db.upsert(filtered.rows(rows).outcomes()).outcomes
            #expect(outcomes == rows.map { $0.id % 3 != 0 ? .inserted : $0.hits > 10 ? .updated : .skipped })
            let unchanged = try await db.upsert(Upsert(rows).ifChanged().outcomes()).outcomes
            #expect(unchanged == rows.map { $0.id % 3 != 0 || $0.hits > 10 || $0.hits == 0 ? .unchanged : .updated })
        }

        #expect(try await db.upsert(Item.bump(Item(id: 100, hits: 1)).outcomes()).one() == .inserted)
        let second = try await db.upsert(Item.bump(Item(id: 100, hits: 1)).returning(\.hits).outcomes()).one()
        #expect(second == UpsertedRow(outcome: .updated, returned: 2))
        #expect(try await db.upsert(Item.bump(Item(id: 100, hits: 1)).outcomes()).one() == .updated)
        #expect(try await db.upsert(Item.upsert.doNothing()(Item(id: 100, hits: 1)).outcomes()).one() == .skipped)
        let filtered = Item.upsert.where { $0.excluded.hits > 10 }.outcomes()
        #expect(try await db.upsert(filtered(Item(id: 100, hits: 5))).one() == .skipped)
        #expect(try await db.upsert(filtered(Item(id: 100, hits: 50))).one() == .updated)

        let (earlier, later) = try await db.pipeline(
            Item.bump(Item(id: 101, hits: 1)).outcomes().query, Item.bump(Item(id: 101, hits: 1)).outcomes().query)
        #expect(try earlier.one() == .inserted)
        #expect(try later.one() == .updated)
        db.close()
    }

    @Test(arguments: [TableKind.plain, .partitioned, .view])
    func u24TheTextIsChosenByVersionAndKind(_ kind: TableKind) async throws {
        let db = try await connect()
        try await kind.make(db)
        let version = try await PostgresEphemeralServer.shared().majorVersion
        let expected =
            switch kind {
            case .view: "(current_setting('postgres_swift.upsert_"
            case _ where version >= 18: "RETURNING (old.tableoid IS NULL)"
            case .partitioned: "(current_setting('postgres_swift.upsert_"
            default: "RETURNING (xmax = 0)"
            }
        #expect(Item.bump.outcomes().sql.contains(expected))
        // Once it is known, an upsert is one round trip, and so it is without outcomes before.
        let before = db.statistics
        try await db.upsert(Item.bump(Item(id: 1, hits: 1)).outcomes())
        try await db.upsert(Item.bump(Item(id: 1, hits: 1)))
        #expect((db.statistics - before).roundTrips == 2)
        db.close()
    }

    /// What was learnt of a table is learnt again when it has become one of another kind.
    @Test(
        arguments: [
            (.plain, .partitioned), (.plain, .view), (.partitioned, .plain), (.partitioned, .view),
            (.view, .partitioned),
        ] as [(TableKind, TableKind)])
    func u24ATableOfAnotherKindThanWasKnownIsNoticed(_ known: TableKind, _ kind: TableKind) async throws {
        let db = try await connect()
        try await known.make(db)
        try await kind.make(db, prepares: false)
        let upsert = Item.bump.rows([Item(id: 1, hits: 1), Item(id: 2, hits: 1)]).outcomes()
        #expect(try await db.upsert(upsert).outcomes == [.inserted, .inserted])
        #expect(try await db.upsert(upsert).outcomes == [.updated, .updated])
        db.close()
    }

    @Test func u24InATransactionWrongFactsAreAnErrorAndThenRight() async throws {
        let db = try await connect()
        try await TableKind.plain.make(db)
        try await TableKind.view.make(db, prepares: false)
        func run() async throws -> UpsertOutcome {
            try await db.transaction { tx in try await tx.upsert(Item.bump(Item(id: 1, hits: 1)).outcomes()).one() }
        }
        let error = await failure { try await run() }
        #expect(error?.code == .undefinedColumn)
        #expect(error?.message.contains("are not those that its outcomes were prepared for") == true)
        #expect(try await run() == .inserted)
        #expect(try await run() == .updated)
        db.close()
    }

    /// A row that came into being while the statement waited for it was updated, not inserted.
    @Test(arguments: [TableKind.plain, .partitioned, .view])
    func u24ARowInsertedMeanwhileByAnotherIsUpdated(_ kind: TableKind) async throws {
        let db = try await connect()
        let other = try await connect()
        try await kind.make(db)
        try await other.script("SET search_path = upsert_kinds; BEGIN; INSERT INTO upsert_items VALUES (1, 1)")
        let process = try #require(db.backendProcessID)
        async let outcomes = db.upsert(
            Item.bump.rows([Item(id: 1, hits: 1), Item(id: 2, hits: 1)]).outcomes()
        ).outcomes
        try await eventually(within: .seconds(20), "the upsert does not wait") {
            try await other.query(
                "SELECT count(*) FROM pg_locks WHERE pid = \(process) AND NOT granted", as: Int.self
            ).one() > 0
        }
        try await other.script("COMMIT")
        #expect(try await outcomes == [.updated, .inserted])
        other.close()
        db.close()
    }

    /// A mark that was set for a row which a trigger then suppressed says nothing of the next row.
    @Test(arguments: [TableKind.plain, .partitioned])
    func u24ASuppressedUpdateLeavesNoMark(_ kind: TableKind) async throws {
        let db = try await connect()
        try await kind.make(db)
        try await db.script(
            """
            CREATE FUNCTION upsert_kinds.suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
            CREATE TRIGGER suppress BEFORE UPDATE ON upsert_items FOR EACH ROW EXECUTE FUNCTION suppress();
            INSERT INTO upsert_items VALUES (1, 1)
            """)
        let outcomes = try await db.transaction { tx in
            var outcomes: [UpsertOutcome] = []
            for id in [1, 2, 1, 3] {
                outcomes.append(try await tx.upsert(Item.bump(Item(id: id, hits: 1)).outcomes()).one())
            }
            let rows = [1, 4, 5].map { Item(id: $0, hits: 1) }
            let filtered = Item.bump.where { $0.excluded.hits > 0 }.rows(rows).outcomes()
            return outcomes + (try await tx.upsert(filtered).outcomes)
        }
        #expect(outcomes == [.notWritten, .inserted, .notWritten, .inserted, .skipped, .inserted, .inserted])
        db.close()
    }

    @Test(arguments: [TableKind.plain, .partitioned, .triggers])
    func u25OldAndNewValuesSince18(_ kind: TableKind) async throws {
        let version = try await PostgresEphemeralServer.shared().majorVersion
        let db = try await connect()
        try await kind.make(db)
        try await db.upsert([Item(id: 1, hits: 10), Item(id: 2, hits: 20)])
        let rows = [Item(id: 3, hits: 3), Item(id: 2, hits: 2)]
        if version < 18 {
            let error = await failure { try await db.upsert(Item.bump.rows(rows).returningChange(\.hits)) }
            #expect(error?.code == .unsupported)
            #expect(error?.outcome == .notSent)
            #expect(error?.message.contains("needs 18") == true)
        } else {
            let changes = try await db.upsert(Item.bump.rows(rows).returningChange(\.hits)).returned()
            #expect(changes == [UpsertChange(old: nil, new: 3), UpsertChange(old: 20, new: 22)])
            let both = try await db.upsert(Item.bump(Item(id: 1, hits: 1)).returningChange(\.hits).outcomes()).one()
            #expect(both == UpsertedRow(outcome: .updated, returned: UpsertChange(old: 10, new: 11)))
            let filtered = Item.bump.where { $0.excluded.hits > 2 }.rows(rows).returningChange(\.hits).outcomes()
            let result = try await db.upsert(filtered)
            #expect(result.outcomes == [.updated, .skipped])
            #expect(result.returned() == [UpsertChange(old: 3, new: 6)])
            let nothing = try await db.upsert(
                Upsert([Item(id: 9, hits: 1), rows[0]]).doNothing().returningChange(\.hits))
            #expect(nothing.map { $0 } == [UpsertChange(old: nil, new: 1), nil])
        }
        db.close()
    }

    @Test func u24ATableCalledOldHidesTheOldRow() async throws {
        let db = try await connect()
        try await db.script("DROP TABLE IF EXISTS \"old\"; CREATE TABLE \"old\" (id int PRIMARY KEY, hits int)")
        let rows = [Old(id: 1, hits: 1), Old(id: 2, hits: 1)]
        try await db.upsert(rows[0])
        let bump = Old.upsert.set(\.hits) { $0.existing.hits + $0.excluded.hits }
        #expect(try await db.upsert(bump.rows(rows).outcomes()).outcomes == [.updated, .inserted])
        let filtered = bump.where { $0.existing.hits > 1 }
        #expect(try await db.upsert(filtered.rows(rows).outcomes()).outcomes == [.updated, .skipped])
        db.close()
    }
}

private struct Old: PostgresTable {
    var id: Int
    var hits: Int

    static let table = Table<Self>("old") {
        Column("id", \.id, .primaryKey)
        Column("hits", \.hits)
    }
}
