import Testing

@testable import Postgres
@testable import PostgresUpsert

/// Rows as statements.
@Suite struct BatchTests {
    private func pages(_ keys: String...) -> [PageStats] {
        keys.enumerated().map { PageStats(path: $1, hits: $0 + 1) }
    }

    // MARK: Duplicates

    @Test func u28OneRowOfAKeyIsKept() {
        let rows = pages("b", "a", "b", "c", "b")
        #expect(
            Upsert(rows).duplicates(.keepFirst).query.query.sentArrays == [.texts("a", "b", "c"), .integers(2, 1, 4)])
        #expect(
            Upsert(rows).duplicates(.keepLast).query.query.sentArrays == [.texts("a", "b", "c"), .integers(2, 5, 4)])
        let sum = Upsert(rows).duplicates(.merge { PageStats(path: $0.path, hits: $0.hits * 10 + $1.hits) })
        #expect(sum.query.query.sentArrays == [.texts("a", "b", "c"), .integers(2, 135, 4)])
        #expect(Upsert(rows).query.query.failure?.code == .duplicateKeys)
        // Of rows without duplicates nothing is different.
        let distinct = pages("b", "a")
        #expect(
            Upsert(distinct).duplicates(.keepLast).query.query.sentArrays == Upsert(distinct).query.query.sentArrays)
    }

    @Test func u28AMergedRowKeepsItsKey() {
        let upsert = Upsert(pages("b", "a", "b")).duplicates(.merge { PageStats(path: "x", hits: $0.hits + $1.hits) })
        #expect(upsert.query.query.failure?.message.contains("merged from row 0 and others has another key") == true)
        #expect(upsert.query.query.failure?.outcome == .notSent)
    }

    @Test func u28AnswersOfDuplicatesAreThoseOfTheRowThatWasSent() throws {
        let rows = pages("b", "a", "b", "c", "a")
        let batch = try Upsert(rows).duplicates(.keepLast).batch()
        // Sent in the order a, b, c.
        #expect(batch.positions == [1, 0, 1, 2, 0])
        let halves = try Upsert(rows).duplicates(.keepLast).chunks(rows: 2).batch()
        #expect(halves.positions == [1, 0, 1, 2, 0])
        #expect(halves.statements.map { halves.inputs(of: $0) }.flatMap { $0 }.sorted() == Array(0..<5))
        #expect(try Upsert(pages("a", "b")).batch().positions == [0, 1])
    }

    // MARK: Chunks

    private func keys(_ batch: UpsertBatch<PageStats>) -> [[String]] {
        batch.statements.map { statement in
            (statement.query.sentArrays.first??.cells ?? []).map { String(decoding: $0 ?? [], as: UTF8.self) }
        }
    }

    @Test(arguments: [1, 2, 3, 7, 10, 11])
    func u31RowsAreCutByNumberInTheOrderOfTheirKeys(_ limit: Int) throws {
        let names = (0..<10).map { "k\($0)" }
        for rows in [names, names.reversed(), names.shuffled()] {
            let batch = try Upsert(rows.map { PageStats(path: $0, hits: 1) }).chunks(rows: limit).batch()
            #expect(keys(batch).flatMap { $0 } == names)
            #expect(keys(batch).allSatisfy { !$0.isEmpty && $0.count <= limit })
            #expect(batch.statements.count == (10 + limit - 1) / limit)
            #expect(rows.indices.allSatisfy { names[batch.positions[$0]] == rows[$0] })
        }
    }

    @Test func u31RowsAreCutByBytes() throws {
        let rows = (0..<64).map { PageStats(path: "\($0)" + String(repeating: "x", count: 1000), hits: 1) }
        let batch = try Upsert(rows).chunks(bytes: 10_000).batch()
        #expect(batch.statements.allSatisfy { $0.bytes <= 10_000 })
        #expect(batch.statements.count > 6)
        #expect(Set(keys(batch).flatMap { $0 }) == Set(rows.map(\.path)))
        #expect(keys(batch).flatMap { $0 } == keys(try Upsert(rows).batch()).flatMap { $0 })
        // A row that is larger goes by itself.
        #expect(try Upsert(rows).chunks(bytes: 10).batch().statements.count == 64)
        // A pipeline holds one statement.
        #expect(Upsert(rows).chunks(rows: 1, bytes: 10).query.query.sentArrays.first??.cells.count == 64)
    }

    // MARK: Columns that unnest cannot take

    @Test func u36ArraysAreSentAsValues() throws {
        let rows = [Tagged(id: 2, tags: ["b"]), Tagged(id: 1, tags: ["a", "c"])]
        let query = Upsert(rows).query.query
        #expect(
            query.sql == """
                INSERT INTO "tagged" ("id", "tags") VALUES ($1, $2), ($3, $4) \
                ON CONFLICT ("id") DO UPDATE SET "tags" = EXCLUDED."tags"
                """)
        #expect(Upsert(rows).sql == query.sql)
        #expect(query.sent.map(\.oid) == [20, 1009, 20, 1009])
        #expect(query.sentArrays[1] == .texts("a", "c"))
        // A constant comes behind all rows.
        let filtered = Tagged.upsert.where { $0.existing.id > 5 }.rows(rows)
        #expect(filtered.query.query.sql.hasSuffix("WHERE \"tagged\".\"id\" > $5"))
    }

    @Test func u36StatementsOfValuesHavePowersOfTwoRows() throws {
        let rows = (0..<1500).map { Tagged(id: $0, tags: []) }
        #expect(try Upsert(rows).batch().statements.map(\.count) == [1024, 256, 128, 64, 16, 8, 4])
        #expect(try Upsert(rows).batch().statements.allSatisfy { $0.query.parameterCount == $0.count * 2 })
        #expect(try Upsert(rows).chunks(rows: 5).batch().statements.allSatisfy { $0.count <= 4 })
        let large = rows.prefix(8).map { Tagged(id: $0.id, tags: [String(repeating: "x", count: 1000)]) }
        #expect(try Upsert(large).chunks(bytes: 3000).batch().statements.map(\.count) == [2, 2, 2, 2])
        let many = (0..<40_000).map { Tagged(id: $0, tags: []) }
        #expect(Upsert(many).query.query.failure?.message.contains("do not fit into one statement") == true)
    }

    @Test func u36RowsThatMustBeToldApartGoOneByOne() throws {
        let rows = [Tagged(id: 2, tags: []), Tagged(id: 1, tags: [])]
        let upsert = Upsert(rows).doNothing().outcomes()
        #expect(upsert.error == nil)
        let batch = try upsert.batch()
        #expect(batch.statements.map(\.order) == [[1], [0]])
        #expect(batch.statements.allSatisfy { $0.query.sql.contains("VALUES ($1, $2) ON CONFLICT") })
        #expect(upsert.query.query.failure?.hint?.contains("outside of a pipeline") == true)
        // A key that is NULL is no such reason.
        let articles = [Article.sample(slug: nil), Article.sample()]
        #expect(try Article.upsert.rows(articles).doNothing().outcomes().batch().statements.count == 1)
    }

    @Test func u30AStrategyCanBeForced() throws {
        let rows = pages("b", "a")
        #expect(Upsert(rows).strategy(.values).sql.contains("VALUES ($1, $2, now()), ($3, $4, now()) ON CONFLICT"))
        #expect(Upsert(rows).strategy(.unnest).sql == Upsert(rows).sql)
        #expect(Upsert(rows).strategy(.automatic).sql == Upsert(rows).sql)
        let article = try Article.upsert.strategy(.copy).rows([Article.sample()]).stagedBatch()
        #expect(
            article.create.sql == """
                CREATE TEMPORARY TABLE "upsert_stage" \
                (c1 int4, c2 text, c3 text, c4 text, c5 float8, n int8) ON COMMIT DROP
                """)
        #expect(
            article.batch.statements[0].query.sql.hasPrefix(
                """
                INSERT INTO "blog"."articles" ("tenant", "slug", "title", "data", "score", "created_at", "updated_at") \
                SELECT c1, c2, c3, c4::jsonb, c5, now(), now() FROM pg_temp."upsert_stage" ORDER BY n \
                ON CONFLICT ("tenant", "slug") DO UPDATE
                """))
        let matched = try Article.upsert.doNothing().outcomes().rows([Article.sample()]).stagedBatch()
        #expect(
            matched.batch.statements[0].query.sql.hasPrefix(
                "WITH upsert_input AS (SELECT c1, c2, c3, c4::jsonb AS c4, c5, n FROM pg_temp.\"upsert_stage\"), "))
        let tagged = try Tagged.upsert.rows([Tagged(id: 1, tags: [])]).stagedBatch()
        #expect(tagged.create.sql.contains("(c1 int8, c2 text[], n int8)"))
        // The constant is the first parameter.
        let filtered = try Tagged.upsert.where { $0.existing.id > 5 }.rows([]).stagedBatch()
        #expect(filtered.batch.statements[0].query.sql.hasSuffix("> $1"))
    }

    @Test func u30ThresholdsLeaveRoomForTheProtocol() {
        #expect(UpsertThresholds.bytesPerStatement < 1 << 30)
        #expect(UpsertThresholds.rowsPerValues <= 65_535)
    }

    // MARK: Rows that lack columns

    @Test func u32AbsentColumnsAreNeitherSentNorOverwritten() {
        func sql(_ profile: Profile) -> String { Upsert(profile).query.query.sql }
        let head = "INSERT INTO \"profiles\" "
        #expect(
            sql(Profile(id: 1, name: .value("n"), age: .value(nil))) == head
                + "(\"id\", \"name\", \"age\") VALUES ($1, $2, $3) ON CONFLICT (\"id\") DO UPDATE SET "
                + "\"name\" = EXCLUDED.\"name\", \"age\" = EXCLUDED.\"age\"")
        #expect(
            sql(Profile(id: 1, name: .absent, age: .value(nil))) == head
                + "(\"id\", \"age\") VALUES ($1, $2) ON CONFLICT (\"id\") DO UPDATE SET \"age\" = EXCLUDED.\"age\"")
        #expect(
            sql(Profile(id: 1, name: .absent, age: .absent)) == head
                + "(\"id\") VALUES ($1) ON CONFLICT (\"id\") DO NOTHING")
        let sent = Upsert(Profile(id: 1, name: .absent, age: .value(nil))).query.query.sent
        #expect(
            sent == [
                .init(oid: 20, format: .binary, bytes: [0, 0, 0, 0, 0, 0, 0, 1]),
                .init(oid: 20, format: .binary, bytes: nil),
            ])
        // What an upsert sets otherwise stays as it is, too.
        let bump = Profile.upsert.set(\.age, to: .value(5))
        #expect(bump(Profile(id: 1, name: .absent, age: .absent)).query.query.sql.hasSuffix("DO NOTHING"))
    }

    @Test func u32RowsOfABatchAreGroupedByWhatTheyLack() throws {
        let rows = [
            Profile(id: 4, name: .absent, age: .value(4)), Profile(id: 3, name: .value("c"), age: .value(3)),
            Profile(id: 2, name: .absent, age: .value(nil)), Profile(id: 1, name: .value("a"), age: .value(1)),
        ]
        let batch = try Upsert(rows).batch()
        #expect(batch.statements.map(\.order) == [[3, 1], [2, 0]])
        #expect(batch.statements.map { $0.query.parameterCount } == [3, 2])
        #expect(batch.positions == [3, 1, 2, 0])
        #expect(Upsert(rows).query.query.failure?.message.contains("do not fit into one statement") == true)
        #expect(Upsert([rows[1], rows[3]]).query.query.failure == nil)
    }

    @Test func u32AnAbsentValueIsSentByUpsertsOnly() {
        var encoder = PostgresEncoder()
        #expect(throws: PostgresError.self) { try encoder.writeCell(UpsertField<Int>.absent) }
        #expect(UpsertField<String?>.value(nil) != .absent)
        #expect(UpsertField.value(1).value == 1)
        let absentKey = Upsert(AbsentKey(id: .absent)).query.query.failure
        #expect(absentKey?.message.contains("which is never sent") == true)
    }

    // MARK: Retry and streams

    @Test func u34OnlyConflictsThatTookNoEffectAreRunAgain() {
        func error(_ code: PostgresError.Code, _ outcome: PostgresError.Outcome) -> PostgresError {
            PostgresError(code: code, message: "m", outcome: outcome)
        }
        #expect(error(.deadlockDetected, .rejected).mayRunAgain)
        #expect(error(.serializationFailure, .rejected).mayRunAgain)
        #expect(!error(.serializationFailure, .unknown).mayRunAgain)
        #expect(!error(.uniqueViolation, .rejected).mayRunAgain)
        #expect(!NoServer().commitsByItself)
    }

    @Test func u43ChunksGrowToWhatTheirBytesAllow() {
        var batching = UpsertBatching<PageStats>()
        batching.rows = 10_000
        batching.bytes = 100_000
        var pacer = ChunkPacer(batching)
        #expect(pacer.rows == 256)
        pacer.note(bytes: 2560, of: 256)
        #expect(pacer.rows == 1024)
        pacer.note(bytes: 10_240, of: 1024)
        #expect(pacer.rows == 4096)
        pacer.note(bytes: 40_960, of: 4096)
        #expect(pacer.rows == 10_000)
        // Larger rows came.
        pacer.note(bytes: 500_000, of: 5000)
        #expect(pacer.rows == 1000)
        pacer.note(bytes: 10_000_000, of: 10)
        #expect(pacer.rows == 1)
        batching.rows = 3
        #expect(ChunkPacer(batching).rows == 3)
    }
}

struct Profile: PostgresTable {
    var id: Int
    var name: UpsertField<String?>
    var age: UpsertField<Int?>

    static let table = Table<Self>("profiles", init: Self.init(id:name:age:)) {
        Column("id", \.id, .primaryKey)
        Column("name", \.name)
        Column("age", \.age)
    }
}

struct AbsentKey: PostgresTable {
    var id: UpsertField<Int>
    var n = 0

    static let table = Table<Self>("absent_keys") {
        Column("id", \.id, .primaryKey)
        Column("n", \.n)
    }
}
