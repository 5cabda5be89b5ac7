import Postgres
import Testing

@testable import PostgresUpsert

@Suite struct UpsertFunctionTextTests {
    @Test func theFunctionHoldsTheStatementAndTakesItsParameters() throws {
        let versions = try UpsertFunction("bump", in: "app", PageStats.bump).versions()
        #expect(versions.count == 2)
        let one = versions[0]
        #expect(
            one.definition == """
                CREATE OR REPLACE FUNCTION "app"."\(one.name)"("page_stats"."path"%TYPE, int8) RETURNS SETOF bool \
                LANGUAGE plpgsql AS $upsert$
                #variable_conflict use_column
                DECLARE upsert_affected int8;
                BEGIN
                    \(PageStats.bump.sql);
                    GET DIAGNOSTICS upsert_affected = ROW_COUNT;
                    RETURN QUERY SELECT true FROM generate_series(1, upsert_affected);
                END
                $upsert$
                """)
        #expect(one.call.text.sql == #"SELECT FROM "app"."\#(one.name)"($1, $2)"#)
        let many = versions[1]
        #expect(many.definition.contains("(text[], int8[]) RETURNS SETOF bool"))
        #expect(many.name.hasPrefix("bump_rows_"))
    }

    @Test func whatIsReturnedHasTheTypesOfItsColumns() throws {
        let upsert = Article.upsert.ifChanged().outcomes().returning(\.title, \.words)
        let versions = try UpsertFunction("save", upsert).versions()
        #expect(
            versions[0].definition.contains(
                #"""
                RETURNS TABLE (upsert_1 "blog"."articles"."title"%TYPE, upsert_2 "blog"."articles"."words"%TYPE, upsert_3 bool)
                """#))
        #expect(
            versions[1].call.text.sql.hasSuffix(
                #"""
                AS upsert_result("title", "words", "upsert_n", "upsert_written", "upsert_count", "upsert_inserted")
                """#))
    }

    @Test func theNameChangesWithWhatItDoes() throws {
        func name(_ upsert: Upsert<PageStats, Never>) throws -> String {
            try UpsertFunction("f", upsert).versions()[0].name
        }
        let first = try name(PageStats.bump)
        #expect(try name(PageStats.bump) == first)
        #expect(try name(PageStats.upsert) != first)
        #expect(first.utf8.count == 18)
    }

    @Test func constantsArePassedToo() throws {
        let upsert = PageStats.upsert.set(\.hits) { .greatest($0.existing.hits, 7) }
        let version = try UpsertFunction("f", upsert).versions()[0]
        #expect(version.definition.contains(#"("page_stats"."path"%TYPE, int8, int8) RETURNS"#))
        #expect(version.call.text.sql.hasSuffix("($1, $2, $3)"))
    }

    @Test func textsStandInTheBody() throws {
        let upsert = PageStats.upsert.where { $0.existing.path != .value("it's") && $0.existing.hits > 3 }
        let version = try UpsertFunction("f", upsert).versions()[0]
        #expect(version.definition.contains(#"IS DISTINCT FROM 'it''s'"#))
        #expect(version.definition.contains(#"("page_stats"."path"%TYPE, int8, int8) RETURNS"#))
        #expect(version.call.text.sql.hasSuffix("($1, $2, $3)"))
    }

    @Test func theBodyCannotEndItsQuotes() throws {
        let upsert = PageStats.upsert.set(\.path.self) { _ in .sql("'$upsert$'") }
        #expect(UpsertFunction("f", upsert).error != nil)
        let quoting = PageStats.upsert.where { _ in .sql("'$upsert$' <> '$upsert_$'") }
        let version = try UpsertFunction("f", quoting).versions()[0]
        #expect(version.definition.contains("AS $upsert__$\n"))
        #expect(version.definition.hasSuffix("\n$upsert__$"))
    }

    @Test func badNamesAreRefused() {
        #expect(UpsertFunction(String(repeating: "x", count: 42), PageStats.bump).error != nil)
        #expect(UpsertFunction("", PageStats.bump).error != nil)
        #expect(UpsertFunction("f", in: "a\0", PageStats.bump).error != nil)
        #expect(UpsertFunction(String(repeating: "x", count: 41), PageStats.bump).error == nil)
        #expect(UpsertFunction("f", PageStats.upsert.onConflict()).error != nil)
    }

    @Test func hashesAreThoseOfTheirDefinition() {
        // The test vectors of FNV-1a.
        #expect(stableHash("") == 0xcbf2_9ce4_8422_2325)
        #expect(stableHash("a") == 0xaf63_dc4c_8601_ec8c)
        #expect(stableHash("foobar") == 0x8594_4171_f739_67e8)
        #expect(hexadecimal(10) == "000000000000000a")
    }
}
