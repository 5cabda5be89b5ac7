import Postgres
import Testing

@testable import PostgresUpsert

/// By what inserted rows are told from updated ones.
@Suite struct OutcomeEvidenceTests {
    @Test(
        arguments: [
            (150_018, "r", .lock), (170_011, "r", .lock), (180_006, "r", .oldRow), (190_000, "p", .oldRow),
            (150_018, "p", .mark), (170_011, "p", .mark), (180_006, "p", .oldRow), (150_018, "v", .mark),
            (180_006, "v", .mark), (150_018, "f", .lock),
        ] as [(Int, Unicode.Scalar, OutcomeEvidence)])
    func u24ItIsChosenByVersionAndKind(_ version: Int, _ kind: Unicode.Scalar, _ evidence: OutcomeEvidence) {
        #expect(TableFacts(version: version, kind: UInt8(ascii: kind)).evidence == evidence)
    }

    @Test func u24FactsAreRemembered() {
        let memory = FactsMemory()
        #expect(memory.facts == nil)
        let facts = TableFacts(version: 180_006, kind: UInt8(ascii: "p"))
        memory.facts = facts
        #expect(memory.facts == facts)
        memory.facts = nil
        #expect(memory.facts == nil)
    }

    private func sql(
        _ upsert: Upsert<PageStats, some Any>, _ source: UpsertForm.Source, _ evidence: OutcomeEvidence
    ) -> String { upsert.definition.plan(UpsertForm(source: source, evidence: evidence)).text.sql }

    private let mark = markName(of: "\"page_stats\"")

    @Test func u24TheTexts() {
        let bump = PageStats.bump.outcomes()
        #expect(sql(bump, .row, .oldRow).hasSuffix(" RETURNING (old.tableoid IS NULL)"))
        #expect(sql(bump, .arrays, .lock).hasSuffix(" RETURNING (xmax = 0)"))
        #expect(
            sql(bump, .row, .mark) == """
                INSERT INTO "page_stats" ("path", "hits", "fetched_at") SELECT $1, $2, now() \
                WHERE set_config('\(mark)', '0', true) IS NOT NULL ON CONFLICT ("path") DO UPDATE SET \
                "hits" = "page_stats"."hits" + EXCLUDED."hits", "fetched_at" = now() \
                WHERE set_config('\(mark)', '1', true) IS NOT NULL RETURNING (current_setting('\(mark)', true) = '0')
                """)
        #expect(
            sql(bump, .arrays, .mark).hasPrefix(
                """
                INSERT INTO "page_stats" ("path", "hits", "fetched_at") SELECT *, now() FROM \
                unnest($1::text[], $2::int8[]) WHERE set_config('\(mark)', '0', true) IS NOT NULL ON CONFLICT
                """))
        // The user's condition keeps its parentheses.
        let filtered = PageStats.bump.where { $0.existing.hits < 1 || $0.existing.hits > 5 }.outcomes()
        #expect(sql(filtered, .arrays, .mark).contains("WHERE ((\"page_stats\".\"hits\" < $3) OR "))
        #expect(
            sql(filtered, .arrays, .mark).contains(
                "n::text, true) IS NOT NULL AND set_config('\(mark)', '0', true) IS NOT NULL ON CONFLICT"))
        // DO NOTHING writes new rows only, and nothing has to be told.
        #expect(sql(PageStats.upsert.doNothing().outcomes(), .row, .mark).hasSuffix("DO NOTHING RETURNING true"))
    }

    @Test func u24MarksOfOtherTablesHaveOtherNames() {
        #expect(markName(of: "\"a\"") != markName(of: "\"b\""))
        #expect(mark.utf8.count < 64)
    }

    @Test func u25OldColumnsComeBehindTheNewOnes() {
        let change = PageStats.bump.returningChange(\.hits, \.path)
        let returning = " RETURNING \"hits\", \"path\", old.\"hits\", old.\"path\", (old.tableoid IS NULL)"
        #expect(sql(change, .row, .oldRow).hasSuffix(returning))
        #expect(change.sql.hasSuffix(returning))
        #expect(sql(change.where { $0.existing.hits > 1 }, .arrays, .oldRow).contains("old.\"path\" AS r4"))
    }
}
