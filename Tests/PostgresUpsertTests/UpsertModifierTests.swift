import Testing

@testable import Postgres
@testable import PostgresUpsert

/// The modifiers that change what is done with a conflict, by their texts.
@Suite struct UpsertModifierTests {
    private static let head = "INSERT INTO \"page_stats\" (\"path\", \"hits\", \"fetched_at\") "

    /// The condition of updateFirst() that keeps to the table's own rows, and those of partitions.
    private static let ownRows = """
        ("page_stats".tableoid = '"page_stats"'::regclass::oid OR (SELECT relkind = 'p' FROM pg_catalog.pg_class \
        WHERE oid = '"page_stats"'::regclass::oid))
        """

    private func message(_ upsert: Upsert<some PostgresTable, some Any>) -> String { upsert.error?.message ?? "none" }

    @Test func u5CollationsAndOperatorClassesAreWrittenAsTheyAre() {
        #expect(
            PageStats.upsert.onIndex("path COLLATE \"C\" text_pattern_ops").doNothing().sql
                .hasSuffix("ON CONFLICT (path COLLATE \"C\" text_pattern_ops) DO NOTHING"))
    }

    @Test func u7AnExclusionConstraintGoesWithDoNothingOnly() {
        let upsert = PageStats.upsert.doNothing(onExclusionConstraint: "no\"overlap")
        #expect(upsert.sql.hasSuffix("ON CONFLICT ON CONSTRAINT \"no\"\"overlap\" DO NOTHING"))
        // What says how to update would have no effect; the other modifiers have theirs.
        #expect(message(PageStats.bump.doNothing(onExclusionConstraint: "c").upsert).contains("contradicts set(...)"))
        let page = PageStats(path: "a", hits: 1)
        let returning = upsert.returning(\.hits).outcomes()
        #expect(returning(page).sql.hasSuffix("DO NOTHING RETURNING \"hits\", true"))
        #expect(returning.sql == upsert.outcomes().returning(\.hits).sql)
        #expect(upsert.returningRow().outcomes().sql == upsert.outcomes().returningRow().sql)
        #expect(
            upsert.touch(\.hits).sql.hasPrefix(
                "INSERT INTO \"page_stats\" (\"path\", \"hits\", \"fetched_at\") VALUES ($1, now(), now())"))
        #expect(
            upsert.rows([page]).strategy(.values).chunks(rows: 5).retry(.never).sql.contains("VALUES ($1, $2, now())"))
        #expect(upsert.overriding(.userValue).sql.contains("OVERRIDING USER VALUE"))
        #expect(upsert(page).query.query.failure == nil)
        #expect(PageStats.upsert.doNothing(onExclusionConstraint: "").error?.message.contains("is empty") == true)
    }

    @Test func u9WhetherNullConflictsMustBeKnownToSendIt() throws {
        let upsert = Nullable.upsert.onConflict(\.b, \.a).rejectingNullKeys(unlessNotDistinct: true)
        let row = Nullable(a: nil, b: 1)
        let unknown = upsert(row).query.query.failure
        #expect(unknown?.message.contains("key (\"b\", \"a\") holds NULL, and it is not known") == true)
        #expect(unknown?.outcome == .notSent)
        #expect(upsert.rows([row]).query.query.failure?.message.contains("it is not known") == true)
        #expect(upsert(Nullable(a: 1, b: 1)).query.query.failure == nil)

        let target = try #require(upsert.definition.shape.nullKeyTarget(Nullable.table.layout))
        Nullable.table.layout.memory.note(target, nullsNotDistinct: false)
        #expect(upsert(row).query.query.failure?.message.contains("does not say NULLS NOT DISTINCT") == true)
        Nullable.table.layout.memory.note(target, nullsNotDistinct: true)
        #expect(upsert(row).query.query.failure == nil)
        #expect(upsert.rows([row]).query.query.failure == nil)
        // Columns in another order are the same key; a constraint, or a partial index, is another one.
        let others = Nullable.upsert.rejectingNullKeys(unlessNotDistinct: true)
        #expect(others.onConflict(\.a, \.b)(row).query.query.failure == nil)
        #expect(others.onConstraint("c", \.b, \.a)(row).query.query.failure != nil)
        #expect(others.onConflict(\.b, \.a, where: "a > 0")(row).query.query.failure != nil)
        #expect(others.onConflict(\.a, \.b).rejectingNullKeys()(row).query.query.failure != nil)
        #expect(message(others.onIndex("lower(a)")).contains("needs to know the key columns"))
    }

    @Test func u9NullKeysCanBeRejected() {
        let upsert = Article.upsert.rejectingNullKeys()
        let failure = upsert(Article.sample(slug: nil)).query.query.failure
        #expect(failure?.message.contains("key (\"tenant\", \"slug\") holds NULL") == true)
        #expect(failure?.outcome == .notSent)
        #expect(upsert(Article.sample()).query.query.failure == nil)
        #expect(upsert(Article.sample()).query.query.sent == Article.upsert(Article.sample()).query.query.sent)
        #expect(upsert.rows([.sample(slug: "b"), .sample(slug: nil)]).query.query.failure?.outcome == .notSent)
        #expect(upsert.rows([.sample(slug: "b"), .sample()]).query.query.failure == nil)
        #expect(Article.upsert(Article.sample(slug: nil)).query.query.failure == nil)
        #expect(message(upsert.onConstraint("c")).contains("needs to know the key columns"))
    }

    @Test func u18UpdatedAtOnlyOnAChange() {
        #expect(
            PageStats.upsert.touchOnlyChanged().sql == Self.head + """
                VALUES ($1, $2, now()) ON CONFLICT ("path") DO UPDATE SET "hits" = EXCLUDED."hits", \
                "fetched_at" = CASE WHEN "page_stats"."hits" IS DISTINCT FROM EXCLUDED."hits" \
                THEN now() ELSE "page_stats"."fetched_at" END
                """)
        #expect(message(PageStats.upsert.update(only: \.fetchedAt).touchOnlyChanged()).contains("no column to compare"))
    }

    @Test func u19OverridingSendsIdentityColumns() {
        let system = Article.upsert.overriding(.systemValue)
        #expect(
            system.sql.hasPrefix(
                """
                INSERT INTO "blog"."articles" ("id", "tenant", "slug", "title", "data", "score", "created_at", \
                "updated_at") OVERRIDING SYSTEM VALUE VALUES ($1, $2,
                """))
        // They are still never overwritten.
        #expect(!system.sql.contains("\"id\" ="))
        #expect(system.rows([]).sql.contains("\"updated_at\") OVERRIDING SYSTEM VALUE SELECT *, now()"))
        #expect(Article.upsert.overriding(.userValue).sql.contains(" OVERRIDING USER VALUE VALUES "))
    }

    @Test func u20AnEmptyUpdateDoesNothingIfThatIsSaid() {
        #expect(message(KeyOnly.upsert).contains("nothing to update"))
        #expect(
            KeyOnly.upsert.orDoNothing().sql
                == "INSERT INTO \"key_only\" (\"a\") VALUES ($1) ON CONFLICT (\"a\") DO NOTHING")
        #expect(PageStats.upsert.orDoNothing().sql == PageStats.upsert.sql)
        let outcomes = KeyOnly.upsert.orDoNothing().rows([KeyOnly(a: 1)]).outcomes()
        #expect(outcomes.sql.contains("true AS inserted"))
    }

    @Test func u21TheStoredRowIsSelected() {
        #expect(
            PageStats.upsert.doSelect().returning(\.hits).outcomes().sql == "WITH upsert_written AS (" + Self.head + """
                VALUES ($1, $2, now()) ON CONFLICT ("path") DO NOTHING RETURNING "hits" AS r1, true AS inserted) \
                SELECT r1 AS "hits", inserted FROM upsert_written UNION ALL \
                SELECT s.* FROM (SELECT '"page_stats"'::regclass::oid AS tableoid) AS upsert_own CROSS JOIN LATERAL \
                (SELECT "hits", false FROM "page_stats" WHERE "path" = $1 AND (tableoid = upsert_own.tableoid \
                OR (SELECT relkind = 'p' FROM pg_catalog.pg_class WHERE oid = upsert_own.tableoid)) \
                AND NOT EXISTS (SELECT FROM upsert_written)) AS s
                """)
        let partial = PageStats.upsert.onConflict(\.path, where: "hits > 0 OR false").doSelect().returning(\.hits)
        #expect(partial.sql.contains("WHERE \"path\" = $1 AND (hits > 0 OR false) AND (tableoid = "))
        #expect(message(PageStats.upsert.doSelect()).contains("answers rows as they are stored"))
        #expect(message(PageStats.upsert.onConstraint("c").doSelect().outcomes()).contains("needs to know the key"))
        #expect(message(PageStats.upsert.doSelect().returningChange(\.hits)).contains("as they are stored"))
        #expect(Article.upsert.doSelect().returning(\.id).sql.contains("WHERE \"tenant\" = $1 AND \"slug\" = $2 AND"))
    }

    @Test func u21ManyRowsAreAStatementEach() throws {
        let rows = [PageStats(path: "b", hits: 1), PageStats(path: "a", hits: 1)]
        let upsert = PageStats.upsert.doSelect().returning(\.hits).rows(rows)
        #expect(try upsert.batch().statements.map(\.order) == [[1], [0]])
        #expect(upsert.query.query.failure != nil)
    }

    @Test func u35AnUpdateIsTriedFirst() {
        let source = """
            FROM (SELECT "path", "hits", "fetched_at" FROM "page_stats" WHERE false UNION ALL SELECT $1, $2, now()) \
            AS excluded("path", "hits", "fetched_at") WHERE "page_stats"."path" = EXCLUDED."path" AND \(Self.ownRows)
            """
        let set = "SET \"hits\" = \"page_stats\".\"hits\" + EXCLUDED.\"hits\", \"fetched_at\" = now()"
        let insert =
            Self.head + "SELECT $1, $2, now() WHERE NOT EXISTS (SELECT FROM upsert_updated) "
            + "ON CONFLICT (\"path\") DO UPDATE " + set
        #expect(
            PageStats.bump.updateFirst().sql == """
                WITH upsert_updated AS (UPDATE "page_stats" \(set) \(source) RETURNING 1), \
                upsert_written AS (\(insert) RETURNING 1) \
                SELECT 1 FROM upsert_updated UNION ALL SELECT 1 FROM upsert_written
                """)
        #expect(
            PageStats.bump.updateFirst().returning(\.hits).outcomes().sql == """
                WITH upsert_updated AS (UPDATE "page_stats" \(set) \(source) \
                RETURNING "page_stats"."hits" AS r1, false AS inserted), \
                upsert_written AS (\(insert) RETURNING "hits" AS r1, (xmax = 0) AS inserted) \
                SELECT r1 AS "hits", inserted FROM upsert_updated UNION ALL \
                SELECT r1 AS "hits", inserted FROM upsert_written
                """)
        let many = PageStats.bump.updateFirst().where { $0.existing.hits > 1 || $0.existing.hits < 0 }.rows([]).sql
        #expect(
            many.contains(
                "WHERE \"page_stats\".\"path\" = EXCLUDED.\"path\" AND \(Self.ownRows)"
                    + " AND ((\"page_stats\".\"hits\" > $3) OR"))
        // Both conditions have parameters of their own.
        #expect(many.contains("WHERE (\"page_stats\".\"hits\" > $5) OR (\"page_stats\".\"hits\" < $6) RETURNING 1)"))
        #expect(many.contains("u.upsert_n = i.n) ORDER BY n ON CONFLICT"))
        // Locked in the order of the keys, whatever the plan of the UPDATE is.
        #expect(many.contains("ORDER BY upsert_input.n FOR NO KEY UPDATE OF \"page_stats\"), upsert_updated AS"))
        #expect(many.contains("FROM upsert_input JOIN upsert_locked USING (n)) AS excluded"))
    }

    @Test func u11WhatIsSaidOfOverwritingContradictsDoNothing() {
        let both: [(Upsert<PageStats, Never>, String)] = [
            (PageStats.upsert.set(\.hits, to: 1).doNothing(), "doNothing() leaves stored rows as they are"),
            (PageStats.bump.doNothing(), "contradicts set(...)"),
            (PageStats.upsert.doNothing().set(\.hits, to: 1), "contradicts set(...)"),
            (PageStats.upsert.doNothing().ifChanged(), "contradicts ifChanged()"),
            (PageStats.upsert.where { $0.existing.hits > 0 }.doNothing(), "contradicts where(...)"),
            (PageStats.upsert.update(only: \.hits).doNothing(), "contradicts update(only:)"),
            (PageStats.upsert.doNothing().update(except: \.hits), "contradicts update(except:)"),
            (PageStats.upsert.touchOnlyChanged().doNothing(), "contradicts touchOnlyChanged()"),
            (PageStats.bump.ifChanged().doNothing(), "contradicts set(...), ifChanged()"),
            (PageStats.upsert.doNothing().doSelect(), "contradicts doSelect()"),
            (PageStats.upsert.onAnyConflict().ifChanged().doNothing(), "contradicts ifChanged()"),
        ]
        for (upsert, expected) in both {
            #expect(message(upsert).contains(expected))
            let failure = upsert(PageStats(path: "a", hits: 1)).query.query.failure
            #expect(failure?.outcome == .notSent)
            #expect(failure?.code == .invalidArgument)
        }
        let get = PageStats.bump.doSelect().returning(\.hits)
        #expect(message(get).contains("doSelect() leaves stored rows as they are, and contradicts set(...)"))
        // What does not concern stored rows, or says the same, goes with it.
        #expect(PageStats.upsert.doNothing().touch(\.fetchedAt).orDoNothing().doNothing().error == nil)
        #expect(PageStats.upsert.doNothing().rejectingNullKeys().error == nil)
    }

    @Test func u18TouchOnlyChangedNeedsAColumnToTouch() {
        let untouched = Untouched.upsert.touchOnlyChanged()
        #expect(message(untouched).contains("touchOnlyChanged() has no updated-at column"))
        #expect(untouched.touch(\.at).error == nil)
        #expect(message(PageStats.upsert.touchOnlyChanged().update(except: \.fetchedAt)).contains("no updated-at"))
        #expect(message(PageStats.upsert.touchOnlyChanged().set(\.fetchedAt, to: nil)).contains("no updated-at"))
    }

    @Test func u35WhatUpdateFirstDoesNotGoWith() {
        #expect(message(PageStats.upsert.updateFirst().doNothing()).contains("does not update"))
        #expect(message(PageStats.upsert.updateFirst().onConstraint("c")).contains("only the server knows"))
        #expect(message(PageStats.upsert.updateFirst().onConflict(\.path, where: "true")).contains("a partial index"))
        #expect(message(PageStats.upsert.updateFirst().returningChange(\.hits)).contains("old columns"))
        #expect(PageStats.upsert.updateFirst().onConstraint("c", \.path).error == nil)
    }

    /// Every form that an upsert is sent in: from each source of rows, with each evidence, whatever is done and asked for.
    @Test func u42NoUpsertIsAMerge() {
        let shapes: [UpsertDefinition<PageStats>] = [
            PageStats.upsert.definition, PageStats.bump.definition, PageStats.upsert.doNothing().definition,
            PageStats.upsert.onAnyConflict().doNothing().definition, PageStats.upsert.outcomes().definition,
            PageStats.upsert.doNothing().outcomes().definition, PageStats.bump.ifChanged().outcomes().definition,
            PageStats.bump.returning(\.hits).outcomes().definition, PageStats.bump.updateFirst().definition,
            PageStats.bump.updateFirst().outcomes().definition, PageStats.upsert.doSelect().outcomes().definition,
            PageStats.upsert.onConstraint("c").definition, PageStats.upsert.onIndex("lower(path)").definition,
            PageStats.upsert.returningChange(\.hits).definition, PageStats.upsert.version(\.hits).upsert.definition,
        ]
        let sources: [UpsertForm.Source] = [.row, .arrays, .values(1), .values(4), .stage]
        var texts = 0
        for (number, definition) in shapes.enumerated() {
            for source in sources {
                for evidence in [OutcomeEvidence.oldRow, .lock, .mark] {
                    for holdsTexts in [false, true] {
                        let form = UpsertForm(source: source, evidence: evidence, holdsTexts: holdsTexts)
                        let plan = UpsertPlan.make(definition.layout, definition.shape, form)
                        if plan.failure != nil { continue }
                        texts += 1
                        expectUpsert(plan.text.sql, "shape \(number), \(form)")
                    }
                }
            }
        }
        #expect(texts > 250)
        let function = UpsertFunction("bump_page", in: "public", PageStats.bump)
        expectUpsert(function.sql, "the function")
        let keyed = try? keyedUpsert(into: "t", key: ("k", 1), set: ("v", 2), touch: "at")
        expectUpsert(keyed?.sql ?? "", "without a declaration")
    }

    /// One INSERT with its ON CONFLICT, as words; no MERGE among them.
    private func expectUpsert(_ sql: String, _ form: String) {
        let words = sql.uppercased().split { !($0.isLetter || $0.isNumber || $0 == "_") }
        #expect(!words.contains("MERGE"), "\(form): \(sql)")
        let conflicts = zip(words, words.dropFirst()).count { $0.0 == "ON" && $0.1 == "CONFLICT" }
        #expect(conflicts >= 1, "\(form): \(sql)")
        #expect(words.count { $0 == "INSERT" } == conflicts, "\(form): \(sql)")
    }

    @Test func u8IndexesReadLikeTheirDefinition() {
        let index = UpsertUniqueIndex(
            name: "i", keys: ["lower(email)", "n"], predicate: "NOT closed", constraint: nil, isPrimaryKey: false,
            isExclusion: false, isDeferrable: true, nullsNotDistinct: true, isValid: false)
        #expect(
            "\(index)" == "\"i\" (lower(email), n) WHERE NOT closed, deferrable, nulls not distinct, not valid")
    }
}

private struct Untouched: PostgresTable {
    var id: Int
    var n: Int
    var at: PostgresTimestamp?

    static let table = Table<Self>("untouched") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
        Column("at", \.at)
    }
}

private struct Nullable: PostgresTable {
    var a: Int?
    var b: Int
    var c = 0

    static let table = Table<Self>("nullable") {
        Column("a", \.a)
        Column("b", \.b)
        Column("c", \.c)
    }
}
