import Postgres
import Testing

@testable import PostgresUpsert

/// The texts of every shape. What follows the conflict target is the same for one row and for many.
@Suite struct UpsertSQLTests {
    static let rows = [PageStats(path: "/", hits: 1), PageStats(path: "/a", hits: 2)]
    static let head =
        "INSERT INTO \"page_stats\" (\"path\", \"hits\", \"fetched_at\") VALUES ($1, $2, now()) ON CONFLICT "
    static let touch = "\"fetched_at\" = now()"

    @Test func u12OneRowOverwritesAllButTheKey() {
        #expect(
            Upsert(Self.rows[0]).sql == Self.head
                + "(\"path\") DO UPDATE SET \"hits\" = EXCLUDED.\"hits\", \"fetched_at\" = now()")
        #expect(PageStats.upsert.sql == Upsert(Self.rows[0]).sql)
        #expect("\(PageStats.upsert)" == PageStats.upsert.sql)
    }

    @Test func u30ManyRowsAreUnnested() {
        #expect(
            Upsert(Self.rows).sql == """
                INSERT INTO "page_stats" ("path", "hits", "fetched_at") \
                SELECT *, now() FROM unnest($1::text[], $2::int8[]) \
                ON CONFLICT ("path") DO UPDATE SET "hits" = EXCLUDED."hits", "fetched_at" = now()
                """)
    }

    /// The part behind the conflict target's keyword, for one row.
    private func expect(
        _ upsert: Upsert<PageStats, Never>, _ tail: String, at location: SourceLocation = #_sourceLocation
    ) {
        #expect(upsert.error == nil, sourceLocation: location)
        #expect(upsert.sql == Self.head + tail, sourceLocation: location)
    }

    @Test func u2To6ConflictTargets() {
        expect(
            PageStats.upsert.doNothing(),
            "(\"path\") DO NOTHING")
        expect(
            PageStats.upsert.onAnyConflict().doNothing(),
            "DO NOTHING")
        expect(
            PageStats.upsert.onConflict(\.hits).doNothing(),
            "(\"hits\") DO NOTHING")
        expect(
            PageStats.upsert.onConflict(\.path, \.hits, where: "hits > 0").doNothing(),
            "(\"path\", \"hits\") WHERE hits > 0 DO NOTHING")
        expect(
            PageStats.upsert.onConstraint("a\"b").doNothing(),
            "ON CONSTRAINT \"a\"\"b\" DO NOTHING")
        expect(
            PageStats.upsert.onIndex("lower(path)").doNothing(),
            "(lower(path)) DO NOTHING")
        expect(
            PageStats.upsert.onIndex("lower(path)", where: "hits > 0").doNothing(),
            "(lower(path)) WHERE hits > 0 DO NOTHING")
    }

    @Test func u13WhatIsOverwritten() {
        expect(
            PageStats.upsert.update(only: \.hits),
            "(\"path\") DO UPDATE SET \"hits\" = EXCLUDED.\"hits\", \(Self.touch)")
        expect(
            PageStats.upsert.update(only: \.fetchedAt),
            "(\"path\") DO UPDATE SET \(Self.touch)")
        expect(
            PageStats.upsert.update(except: \.hits),
            "(\"path\") DO UPDATE SET \(Self.touch)")
        expect(
            PageStats.upsert.update(except: \.fetchedAt),
            "(\"path\") DO UPDATE SET \"hits\" = EXCLUDED.\"hits\"")
        expect(
            PageStats.upsert.update(except: \.hits).set(\.hits, to: 5),
            "(\"path\") DO UPDATE SET \"hits\" = $3, \(Self.touch)")
    }

    @Test func u14Expressions() {
        expect(
            PageStats.upsert.set(\.hits) { $0.existing.hits * ($0.excluded.hits + 1) - 2 },
            "(\"path\") DO UPDATE SET \"hits\" = (\"page_stats\".\"hits\" * (EXCLUDED.\"hits\" + $3)) - $4, \(Self.touch)"
        )
        expect(
            PageStats.upsert.set(\.hits) { .greatest($0.existing.hits, $0.excluded.hits, 0) },
            "(\"path\") DO UPDATE SET \"hits\" = GREATEST(\"page_stats\".\"hits\", EXCLUDED.\"hits\", $3), \(Self.touch)"
        )
        expect(
            PageStats.upsert.set(\.hits) { .least($0.existing.hits, $0.excluded.hits) },
            "(\"path\") DO UPDATE SET \"hits\" = LEAST(\"page_stats\".\"hits\", EXCLUDED.\"hits\"), \(Self.touch)")
        expect(
            PageStats.upsert.set(\.fetchedAt) { .coalesce($0.existing.fetchedAt, .now) },
            "(\"path\") DO UPDATE SET \"hits\" = EXCLUDED.\"hits\", "
                + "\"fetched_at\" = COALESCE(\"page_stats\".\"fetched_at\", now())")
        expect(
            PageStats.upsert.set(\.hits) { _ in .default },
            "(\"path\") DO UPDATE SET \"hits\" = DEFAULT, \(Self.touch)")
        expect(
            PageStats.upsert.set(\.hits) { .sql("\($0.existing.hits) * 2 + \(7) + length(\($0.excluded.path))") },
            "(\"path\") DO UPDATE SET \"hits\" = \"page_stats\".\"hits\" * 2 + $3 + length(EXCLUDED.\"path\"), \(Self.touch)"
        )
        expect(
            PageStats.upsert.set(\.hits) { $0.existing.hits / .sql("a + b") },
            "(\"path\") DO UPDATE SET \"hits\" = \"page_stats\".\"hits\" / (a + b), \(Self.touch)")
        expect(
            PageStats.bump.where { $0.excluded.hits > $0.existing.hits && !($0.existing.path == $0.excluded.path) },
            "(\"path\") DO UPDATE SET \"hits\" = \"page_stats\".\"hits\" + EXCLUDED.\"hits\", \(Self.touch) "
                + "WHERE (EXCLUDED.\"hits\" > \"page_stats\".\"hits\") AND "
                + "(NOT (\"page_stats\".\"path\" IS NOT DISTINCT FROM EXCLUDED.\"path\"))")
        expect(
            PageStats.bump,
            "(\"path\") DO UPDATE SET \"hits\" = \"page_stats\".\"hits\" + EXCLUDED.\"hits\", \(Self.touch)")
    }

    @Test func u15ANegationIsOneOperand() {
        let upsert = PageStats.upsert.where { (!($0.existing.hits > $0.excluded.hits)).isNull }
        #expect(
            upsert.sql.hasSuffix(
                #"WHERE (NOT ("page_stats"."hits" > EXCLUDED."hits")) IS NULL"#))
    }

    @Test func u15ConditionsOnBothRows() {
        expect(
            PageStats.upsert.where { $0.existing.hits <= 9 }.where { $0.existing.fetchedAt.isNull },
            "(\"path\") DO UPDATE SET \"hits\" = EXCLUDED.\"hits\", \(Self.touch) "
                + "WHERE (\"page_stats\".\"hits\" <= $3) AND (\"page_stats\".\"fetched_at\" IS NULL)")
        expect(
            PageStats.upsert.ifChanged(),
            "(\"path\") DO UPDATE SET \"hits\" = EXCLUDED.\"hits\", \(Self.touch) "
                + "WHERE \"page_stats\".\"hits\" IS DISTINCT FROM EXCLUDED.\"hits\"")
        expect(
            PageStats.bump.ifChanged().where { $0.existing.hits < 9 || $0.existing.hits >= 20 },
            "(\"path\") DO UPDATE SET \"hits\" = \"page_stats\".\"hits\" + EXCLUDED.\"hits\", \(Self.touch) "
                + "WHERE ((\"page_stats\".\"hits\" < $3) OR (\"page_stats\".\"hits\" >= $4)) AND "
                + "\"page_stats\".\"hits\" IS DISTINCT FROM (\"page_stats\".\"hits\" + EXCLUDED.\"hits\")")
    }

    /// A cast to a type with a length cuts what is too long; the assignment to the column refuses it.
    @Test func aDeclaredTypeIsCastToWithoutItsLength() throws {
        struct Typed: PostgresTable {
            var id: Int
            var text: String

            static let table = Table<Self>("typed") {
                Column("id", \.id, .primaryKey)
                Column("1", \.text, type: "varchar(20)")
                Column("2", \.text, type: "character varying (20)")
                Column("3", \.text, type: "numeric(10, 2)[]")
                Column("4", \.text, type: "timestamp(3) with time zone")
                Column("5", \.text, type: "time (0)[3]")
                Column("6", \.text, type: "interval day to second(3)")
                Column("7", \.text, type: "INTERVAL(2)[]")
                Column("8", \.text, type: #""my type(1)"(3)"#)
                Column("9", \.text, type: #""quo""te(".kind"#)
                Column("10", \.text, type: "gis.geometry(Point, 4326)")
                Column("11", \.text, type: "pg_catalog.bpchar(3)")
                // Without a length they have that of 1.
                Column("12", \.text, type: "char(3)")
                Column("13", \.text, type: "Character")
                Column("14", \.text, type: "national  character(3)[]")
                Column("15", \.text, type: "nchar")
                Column("16", \.text, type: "bit(4)[]")
                Column("17", \.text, type: "bit varying(4)")
                Column("18", \.text, type: #""char""#)
                // Here it says which type is meant.
                Column("19", \.text, type: "float(24)")
                Column("20", \.text, type: "jsonb")
                Column("21", \.text, type: "intervals day")
                // No type: the server says so.
                Column("22", \.text, type: "varchar(3")
            }
        }
        let casts = Typed.upsert.doNothing().sql.matches(of: /\$\d+::(.+?)(?:, (?=\$)|\) ON CONFLICT)/).map {
            "\($0.1)"
        }
        #expect(
            casts == [
                "varchar", "character varying", "numeric[]", "timestamp with time zone", "time[3]", "interval",
                "interval[]", #""my type(1)""#, #""quo""te(".kind"#, "gis.geometry", "pg_catalog.bpchar", "bpchar",
                "bpchar", "bpchar[]", "bpchar", #""bit"[]"#, "bit varying", #""char""#, "float(24)", "jsonb",
                "intervals day", "varchar(3",
            ])
    }

    /// Types that round, whole; of the others what they are cast to.
    @Test(arguments: [
        ("numeric(5,2)", "numeric(5,2)"), ("Decimal (5)", "Decimal (5)"),
        ("pg_catalog.numeric(5)[]", "pg_catalog.numeric(5)[]"),
        ("time(0) with time zone", "time(0) with time zone"), ("timestamptz(3)", "timestamptz(3)"),
        ("interval day to second(3)", "interval day to second(3)"), ("timestamp", "timestamp"),
        ("varchar(20)", "varchar"), ("char(3)", "bpchar"), ("bit(4)[]", #""bit"[]"#), ("jsonb", "jsonb"),
        ("intervals(3)", "intervals"), ("float(24)", "float(24)"),
    ])
    func storedValuesAreComparedWithWhatTheColumnWouldHold(_ declared: String, _ compared: String) {
        #expect(comparedType(declared) == compared)
    }

    @Test func u18ATouchedColumnIsNeverSent() {
        #expect(
            PageStats.upsert.touch(\.hits).sql == """
                INSERT INTO "page_stats" ("path", "hits", "fetched_at") VALUES ($1, now(), now()) \
                ON CONFLICT ("path") DO UPDATE SET "hits" = now(), "fetched_at" = now()
                """)
    }

    @Test func u17ProtectedColumnsAreNeverOverwritten() {
        #expect(
            Article.upsert.sql == """
                INSERT INTO "blog"."articles" ("tenant", "slug", "title", "data", "score", "created_at", "updated_at") \
                VALUES ($1, $2, $3, $4::jsonb, $5, now(), now()) ON CONFLICT ("tenant", "slug") DO UPDATE SET \
                "title" = EXCLUDED."title", "data" = EXCLUDED."data", "score" = EXCLUDED."score", "updated_at" = now()
                """)
    }

    @Test func anIdentityColumnIsSentWhenRowsConflictByIt() {
        #expect(
            Article.upsert.onConflict(\.id).sql == """
                INSERT INTO "blog"."articles" \
                ("id", "tenant", "slug", "title", "data", "score", "created_at", "updated_at") \
                VALUES ($1, $2, $3, $4, $5::jsonb, $6, now(), now()) ON CONFLICT ("id") DO UPDATE SET \
                "title" = EXCLUDED."title", "data" = EXCLUDED."data", "score" = EXCLUDED."score", "updated_at" = now()
                """)
    }

    @Test func u30ManyRowsAreCastToTheDeclaredTypes() {
        #expect(
            Article.upsert.rows([Article.sample()]).doNothing().sql == """
                INSERT INTO "blog"."articles" ("tenant", "slug", "title", "data", "score", "created_at", "updated_at") \
                SELECT *, now(), now() FROM \
                unnest($1::int4[], $2::text[], $3::text[], $4::text[]::jsonb[], $5::float8[]) \
                ON CONFLICT ("tenant", "slug") DO NOTHING
                """)
    }

    @Test func u16ChangesOfSeveralColumnsAreComparedAsRows() {
        #expect(
            Article.upsert.update(only: \.title, \.score).ifChanged().sql.hasSuffix(
                """
                 WHERE ("articles"."title", "articles"."score") IS DISTINCT FROM (EXCLUDED."title", EXCLUDED."score")
                """))
    }

    @Test func u26OutcomesAndColumnsAreReturnedOnlyWhenAskedFor() {
        #expect(!PageStats.bump.sql.contains("RETURNING"))
        #expect(PageStats.bump.outcomes().sql == PageStats.bump.sql + " RETURNING (xmax = 0)")
        #expect(PageStats.bump.returning(\.hits).sql == PageStats.bump.sql + " RETURNING \"hits\"")
        let both = PageStats.bump.sql + " RETURNING \"hits\", \"fetched_at\", (xmax = 0)"
        #expect(PageStats.bump.returning(\.hits, \.fetchedAt).outcomes().sql == both)
        #expect(PageStats.bump.outcomes().returning(\.hits, \.fetchedAt).sql == both)
        #expect(
            PageStats.bump.returningRow().sql == PageStats.bump.sql + " RETURNING \"path\", \"hits\", \"fetched_at\"")
        #expect(Upsert(Self.rows).outcomes().sql == Upsert(Self.rows).sql + " RETURNING (xmax = 0)")
    }

    @Test func u27RowsThatMayBeLeftOutAreJoinedToTheInput() {
        let number = rowNumberName(of: "\"page_stats\"")
        #expect(
            Upsert(Self.rows).doNothing().returning(\.hits).outcomes().sql == """
                WITH upsert_input AS (SELECT * FROM unnest($1::text[], $2::int8[]) WITH ORDINALITY AS i(c1, c2, n)), \
                upsert_written AS (INSERT INTO "page_stats" ("path", "hits", "fetched_at") \
                SELECT c1, c2, now() FROM (SELECT * FROM upsert_input ORDER BY n OFFSET 0) AS i \
                WHERE set_config('\(number)', n::text, true) IS NOT NULL ON CONFLICT ("path") DO NOTHING \
                RETURNING current_setting('\(number)')::int8 AS n, "hits" AS r1, true AS inserted) \
                SELECT w.r1 AS "hits", i.n, w.n, (SELECT count(*) FROM upsert_written), w.inserted \
                FROM upsert_input AS i LEFT JOIN upsert_written AS w ON w.n = i.n ORDER BY i.n
                """)
        let article = Article.upsert.rows([]).where { $0.existing.score < 1 }.outcomes().sql
        // The constant of the filter is numbered behind the five columns.
        #expect(article.contains("WHERE \"articles\".\"score\" < $6 RETURNING"))
    }

    @Test func oneRowThatMayBeLeftOutNeedsNoJoin() {
        #expect(
            PageStats.upsert.doNothing().outcomes().sql
                == Self.head + "(\"path\") DO NOTHING RETURNING true")
    }

    @Test func aConstraintsColumnsLetLeftOutRowsBeMatched() {
        let upsert = Upsert(Self.rows).onConstraint("page_stats_pkey", \.path).ifChanged().outcomes()
        #expect(upsert.sql.contains("ON CONFLICT ON CONSTRAINT \"page_stats_pkey\" DO UPDATE"))
        #expect(upsert.sql.contains("ON w.n = i.n"))
    }

    /// With the other columns, of which one may be a domain that is NOT NULL.
    @Test func u21AKeyIsComparedAsItsColumnsType() {
        #expect(
            Article.upsert.onConflict(\.score).doSelect().returning(\.title).sql.contains(
                "\"score\" = (jsonb_populate_record(NULL::\"blog\".\"articles\", jsonb_build_object('tenant', $1, "))
        #expect(
            PageStats.upsert.doSelect().returning(\.hits).sql.contains(
                "WHERE \"path\" = $1 AND (tableoid = upsert_own."))
    }
}

/// Names that try to get out of their quotes.
struct Hostile: PostgresTable {
    var key: Int
    var value: String

    static let table = Table<Self>("t\"; DROP TABLE x; --", schema: "s\".\"") {
        Column("k'\\\"", \.key, .primaryKey)
        Column("$1", \.value)
    }
}

/// A table that is called as the row proposed for insertion is.
struct Excluded: PostgresTable {
    var id: Int
    var n: Int

    static let table = Table<Self>("excluded") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
    }
}

@Suite struct QuotingTests {
    @Test func namesAreQuoted() {
        #expect(
            Hostile.upsert.set(\.value) { $0.existing.value.appending($0.excluded.value) }.sql == #"""
                INSERT INTO "s""."""."t""; DROP TABLE x; --" ("k'\""", "$1") VALUES ($1, $2) \#
                ON CONFLICT ("k'\""") DO UPDATE SET "$1" = "t""; DROP TABLE x; --"."$1" || EXCLUDED."$1"
                """#)
    }

    @Test func aTableCalledExcludedGetsAnotherName() {
        #expect(
            Excluded.upsert.set(\.n) { $0.existing.n + $0.excluded.n }.sql == """
                INSERT INTO "excluded" AS "existing" ("id", "n") VALUES ($1, $2) \
                ON CONFLICT ("id") DO UPDATE SET "n" = "existing"."n" + EXCLUDED."n"
                """)
    }

    @Test func identifiersInSQLOfTheUsersAreQuoted() {
        #expect(
            Excluded.upsert.set(\.n) { _ in .sql("\(identifier: "a\"b") + \(unsafeSQL: "c")") }.sql
                .hasSuffix("SET \"n\" = \"a\"\"b\" + c"))
    }
}
