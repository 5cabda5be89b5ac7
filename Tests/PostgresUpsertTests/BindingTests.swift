import Testing

@testable import Postgres
@testable import PostgresUpsert

/// What is sent beside the text.
@Suite struct BindingTests {
    @Test func aRowIsOneParameterForEachColumnSent() {
        let sent = PageStats.bump(PageStats(path: "/ä", hits: 258)).query.query.sent
        #expect(
            sent == [
                .init(oid: 0, format: .text, bytes: Array("/ä".utf8)),
                .init(oid: 20, format: .binary, bytes: [0, 0, 0, 0, 0, 0, 1, 2]),
            ])
    }

    @Test func constantsOfTheShapeComeBehindTheRow() {
        let upsert = PageStats.upsert.set(\.hits) { .greatest($0.existing.hits, 7) }
            .where { $0.existing.path != .value("x") && $0.existing.fetchedAt == .value(nil) }
        let sent = upsert(PageStats(path: "/", hits: 1)).query.query.sent
        #expect(
            upsert.sql.hasSuffix("IS DISTINCT FROM $4) AND (\"page_stats\".\"fetched_at\" IS NOT DISTINCT FROM $5)"))
        #expect(sent.count == 5)
        #expect(sent[2] == .init(oid: 20, format: .binary, bytes: [0, 0, 0, 0, 0, 0, 0, 7]))
        #expect(sent[3] == .init(oid: 0, format: .text, bytes: Array("x".utf8)))
        #expect(sent[4] == .init(oid: 1184, format: .binary, bytes: nil))
    }

    @Test func aRowTakesOneAllocationOfTheSizeGuessed() {
        // The buffer made for two parameters is the one that is sent: it did not grow.
        let query = PageStats.upsert(PageStats(path: "/some/page", hits: 1)).query.query
        #expect(query.storage.header.segmentCapacity == 3)
    }

    @Test func theTextOfAShapeIsMadeOnce() {
        // The identity of a query made of a kept text is that text's, whatever is bound to it.
        func identity(_ upsert: Upsert<PageStats, Never>) -> UInt64 { upsert.query.query.storage.header.identity }
        let row = PageStats(path: "b", hits: 2)
        #expect(identity(PageStats.bump(PageStats(path: "a", hits: 1))) == identity(PageStats.bump(row)))
        #expect(
            identity(PageStats.bump.rows([])) == identity(PageStats.bump.rows([row, PageStats(path: "c", hits: 3)])))
        #expect(identity(PageStats.bump(row)) != identity(PageStats.bump.rows([row])))
        #expect(identity(PageStats.bump(row)) != identity(PageStats.upsert(row)))
        // Built anew, with the same text.
        #expect(identity(PageStats.upsert.doNothing()(row)) == identity(PageStats.upsert.doNothing()(row)))
    }

    @Test func textsAreKeptByTheirBytesUpToALimit() throws {
        let cache = TextCache(limit: 2)
        let first = cache.text("SELECT '\u{e9}'")
        #expect(cache.text("SELECT '\u{e9}'").number == first.number)
        #expect(cache.text("SELECT 'e\u{301}'").number != first.number)
        #expect(cache.text("SELECT 3").sql == "SELECT 3")
        #expect(cache.text("SELECT '\u{e9}'").number != first.number)
    }

    @Test func namesThatReadAlikeTogetherAreKeptApart() throws {
        let first = try keyedUpsert(into: "ab", key: ("c", 1), set: ("d", 2), touch: nil)
        let second = try keyedUpsert(into: "a", key: ("bc", 1), set: ("d", 2), touch: nil)
        let third = try keyedUpsert(into: "ab", key: ("c", 1), touch: "d")
        let fourth = try keyedUpsert(into: "a", schema: "b", key: ("c", 1), set: ("d", 2), touch: nil)
        let fifth = try keyedUpsert(into: "b", key: ("a", 1), set: ("c", 1), ("d", 2), touch: nil)
        #expect(fourth.sql.hasPrefix("INSERT INTO \"b\".\"a\" (\"c\", \"d\") VALUES ($1, $2)"))
        #expect(fifth.sql.hasPrefix("INSERT INTO \"b\" (\"a\", \"c\", \"d\") VALUES ($1, $2, $3)"))
        #expect(first.sql.hasPrefix("INSERT INTO \"ab\" (\"c\", \"d\") VALUES ($1, $2)"))
        #expect(second.sql.hasPrefix("INSERT INTO \"a\" (\"bc\", \"d\") VALUES ($1, $2)"))
        #expect(third.sql.hasPrefix("INSERT INTO \"ab\" (\"c\", \"d\") VALUES ($1, now())"))
    }

    @Test func rowsAreOneArrayForEachColumn() {
        let rows = [Article.sample(slug: "a"), Article.sample(slug: nil)]
        let sent = Article.upsert.rows(rows).query.query.sent
        #expect(sent.map(\.oid) == [1007, 1009, 1009, 1009, 1022])
        #expect(sent.allSatisfy { $0.format == .binary })
        let arrays = Article.upsert.rows(rows).query.query.sentArrays
        #expect(arrays[0]?.element == 23)
        // NULL is sorted first.
        #expect(arrays[1] == .texts(nil, "a"))
        #expect(arrays[3] == .texts("{}", "{}"))
        #expect(arrays[4]?.element == 701)
    }

    @Test func noRowsAreEmptyArrays() {
        #expect(PageStats.upsert.rows([]).query.query.sentArrays == [.texts(), .integers()])
    }

    @Test func u29SortsByKey() {
        let rows = [("b", 1), ("a", 2), ("c", 3), ("aa", 4)].map { PageStats(path: $0.0, hits: $0.1) }
        #expect(
            Upsert(rows).query.query.sentArrays == [.texts("a", "aa", "b", "c"), .integers(2, 4, 1, 3)])
        let sorted = [("a", 1), ("b", 2)].map { PageStats(path: $0.0, hits: $0.1) }
        #expect(Upsert(sorted).query.query.sentArrays == [.texts("a", "b"), .integers(1, 2)])
    }

    @Test func computedPropertiesAreReadThroughTheKeyPath() {
        let one = Computed.upsert(Computed(a: 2)).query.query.sent
        #expect(one[1].bytes == [0, 0, 0, 0, 0, 0, 0, 4])
        let rows = [Computed(a: 3), Computed(a: 2)]
        #expect(Upsert(rows).query.query.sentArrays == [.integers(2, 3), .integers(4, 6)])
    }

    @Test func u29SeveralKeyColumnsSortTogether() {
        let rows = [(2, "a"), (1, "b"), (1, "a"), (2, "")].map { Article.sample(tenant: $0.0, slug: $0.1) }
        let arrays = Article.upsert.rows(rows).query.query.sentArrays
        #expect(arrays[1] == .texts("a", "b", "", "a"))
        let ascending = [(1, "b"), (2, "a")].map { Article.sample(tenant: $0.0, slug: $0.1) }
        #expect(Article.upsert.rows(ascending).query.query.sentArrays[1] == .texts("b", "a"))
    }

    @Test func oneKeyAndSomeDataNeedNoDeclaration() throws {
        let query = try keyedUpsert(
            into: "strava\"_stats", key: ("stats_type", "totals"), set: ("data", "{}"), ("n", 1), touch: "fetched_at")
        #expect(
            query.sql == """
                INSERT INTO "strava""_stats" ("stats_type", "data", "n", "fetched_at") VALUES ($1, $2, $3, now()) \
                ON CONFLICT ("stats_type") DO UPDATE SET \
                "data" = EXCLUDED."data", "n" = EXCLUDED."n", "fetched_at" = now()
                """)
        #expect(query.sent.map(\.bytes?.count) == [6, 2, 8])
        #expect(
            try keyedUpsert(into: "t", schema: "my\"app", key: ("k", 1), set: ("v", 2), touch: nil).sql
                .hasPrefix(#"INSERT INTO "my""app"."t" ("k", "v") VALUES"#))
        #expect(
            try keyedUpsert(into: "t", key: ("k", 1), set: ("v", 2), touch: nil).sql
                == "INSERT INTO \"t\" (\"k\", \"v\") VALUES ($1, $2) ON CONFLICT (\"k\") DO UPDATE SET \"v\" = EXCLUDED.\"v\""
        )
    }
}

struct Computed: PostgresTable {
    var a: Int
    var double: Int { a * 2 }

    static let table = Table<Self>("computed") {
        Column("a", \.a, .primaryKey)
        Column("b", \.double)
    }
}

/// Keys are compared by the bytes that are sent.
@Suite struct DuplicateKeyTests {
    private func duplicates<Row, Output>(_ upsert: Upsert<Row, Output>) async -> [[Int]]? {
        let error = upsert.query.query.failure
        guard error?.code == .duplicateKeys else { return nil }
        return (error?.underlying as? UpsertDuplicateKeys)?.groups
    }

    @Test(
        arguments: [
            (["a", "b", "a"], [[0, 2]]),
            (["a", "a"], [[0, 1]]),
            (["x", "b", "x", "b", "x", "c"], [[0, 2, 4], [1, 3]]),
            (["", ""], [[0, 1]]),
            (["a", "aa", "aaa"], nil),
            (["\u{e9}", "e\u{301}"], nil),
            (["\u{e9}", "e\u{301}", "\u{e9}"], [[0, 2]]),
        ] as [([String], [[Int]]?)])
    func u28TheyAreFoundByTheirBytes(_ keys: [String], _ groups: [[Int]]?) async {
        #expect(await duplicates(Upsert(keys.map { PageStats(path: $0, hits: 1) })) == groups)
    }

    @Test func theErrorNamesTheRowsAndTheKeyAndNothingIsSent() async {
        let rows = ["a", "b", "a"].map { PageStats(path: $0, hits: 1) }
        await #expect {
            try await NoServer().upsert(rows)
        } throws: { error in
            guard let error = error as? PostgresError else { return false }
            return error.code == .duplicateKeys && error.outcome == .notSent
                && error.message == "rows of one batch have the same key (\"path\"): 0, 2"
        }
    }

    @Test func allKeyColumnsCount() async {
        #expect(await duplicates(Article.upsert.rows([.sample(tenant: 1), .sample(tenant: 2)])) == nil)
        #expect(
            await duplicates(Article.upsert.rows([.sample(tenant: 1), .sample(tenant: 2), .sample(tenant: 1)]))
                == [[0, 2]])
    }

    @Test func nullEqualsNothing() async {
        #expect(await duplicates(Article.upsert.rows([.sample(slug: nil), .sample(slug: nil)])) == nil)
    }

    @Test func theConflictTargetIsWhatCounts() async {
        let rows = ["a", "b"].map { PageStats(path: $0, hits: 1) }
        #expect(await duplicates(Upsert(rows).onConflict(\.hits)) == [[0, 1]])
        #expect(await duplicates(Upsert(rows).onConstraint("c", \.hits)) == [[0, 1]])
        // Only the server knows what this constraint compares.
        #expect(Upsert(rows).onConstraint("c").query.query.failure == nil)
        let same = ["a", "a"].map { PageStats(path: $0, hits: 1) }
        #expect(Upsert(same).onIndex("lower(path)").doNothing().query.query.failure == nil)
    }

    @Test func u29ThousandsOfRowsInRandomOrderAreSortedAndCounted() throws {
        var random = SystemRandomNumberGenerator()
        let keys = (0..<5000).map { _ in
            "key/" + String(UInt32.random(in: 0..<4000, using: &random), radix: 36)
        }
        var groups: [String: [Int]] = [:]
        for (index, key) in keys.enumerated() { groups[key, default: []].append(index) }
        let expected = groups.values.filter { $0.count > 1 }.sorted { $0[0] < $1[0] }
        let query = Upsert(keys.map { PageStats(path: $0, hits: 1) }).query.query
        #expect((query.failure?.underlying as? UpsertDuplicateKeys)?.groups == expected)

        let distinct = groups.keys.shuffled()
        let rows = distinct.map { PageStats(path: $0, hits: $0.utf8.count) }
        let sorted = distinct.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
        let arrays = Upsert(rows).query.query.sentArrays
        #expect(arrays[0]?.cells.map { String(decoding: $0 ?? [], as: UTF8.self) } == sorted)
        #expect(arrays[1]?.cells.map { Int($0?.last ?? 0) } == sorted.map { $0.utf8.count })
    }
}
