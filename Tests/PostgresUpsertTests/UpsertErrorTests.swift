import Testing

@testable import Postgres
@testable import PostgresUpsert

/// Mistakes are errors when an upsert is run, before anything is sent.
@Suite struct UpsertErrorTests {
    private func expect<Row, Output>(
        _ upsert: Upsert<Row, Output>, _ fragments: String..., at location: SourceLocation = #_sourceLocation
    ) {
        let message = upsert.error?.message ?? "no error"
        for fragment in fragments {
            #expect(message.contains(fragment), "\(message)", sourceLocation: location)
        }
        #expect(upsert.sql == "-- " + message, sourceLocation: location)
    }

    @Test func u1APropertyThatIsNoColumn() {
        expect(PageStats.upsert.onConflict(\.path.count), "path", "is not a column of table \"page_stats\"")
        expect(PageStats.upsert.update(only: \.hits, \.self), "is not a column of table \"page_stats\"")
        expect(PageStats.upsert.set(\.hits) { .greatest($0.existing.lengthOfPath, 1) }, "is not a column")
        expect(PageStats.upsert.where { $0.existing.lengthOfPath > 1 }, "is not a column")
        expect(PageStats.upsert.returning(\.path.count), "is not a column")
        expect(PageStats.upsert.touch(\.path.count), "is not a column")
        expect(PageStats.upsert.onConstraint("c", \.path.count), "is not a column")
    }

    @Test func aPropertyAtTheSamePlaceAsAColumn() {
        // `\.inner` and `\.inner.value` begin at the same byte.
        expect(Nested.upsert.update(only: \.inner), "is not a column")
        #expect(Nested.upsert.update(only: \.inner.value).error == nil)
    }

    @Test func u6AnUpdateNeedsAKey() {
        expect(Keyless.upsert, "table \"keyless\" has no column declared as .primaryKey")
        expect(PageStats.upsert.onConflict(), "onConflict() without columns")
        expect(PageStats.upsert.onAnyConflict(), "by what rows conflict")
        #expect(
            Keyless.upsert.doNothing().sql
                == "INSERT INTO \"keyless\" (\"a\", \"b\") VALUES ($1, $2) ON CONFLICT DO NOTHING")
        #expect(Keyless.upsert.onConflict(\.a).error == nil)
    }

    @Test func nothingToUpdate() {
        expect(PageStats.upsert.update(except: \.hits, \.fetchedAt), "table \"page_stats\"", "nothing to update")
        expect(KeyOnly.upsert, "table \"key_only\"", "nothing to update")
        #expect(KeyOnly.upsert.doNothing().error == nil)
        expect(PageStats.upsert.update(only: \.fetchedAt).ifChanged(), "no column to compare")
        expect(PageStats.upsert.set(\.hits) { _ in .default }.ifChanged(), "\"hits\" with DEFAULT")
    }

    @Test func u17ProtectedColumns() {
        expect(PageStats.upsert.set(\.path, to: "x"), "\"path\" is part of the key")
        expect(PageStats.upsert.update(only: \.path), "\"path\" is part of the key")
        expect(PageStats.upsert.onConflict(\.hits).set(\.hits, to: 1), "\"hits\" is part of the key")
        expect(Article.upsert.set(\.id, to: 1), "\"id\" is an identity column")
        expect(Article.upsert.set(\.words, to: 1), "\"words\" is a generated column")
        expect(Article.upsert.set(\.createdAt) { _ in .now }, "\"created_at\" is the time of creation")
        expect(PageStats.upsert.touch(\.path), "\"path\"")
    }

    @Test func aKeyThatIsNeverSent() {
        expect(Article.upsert.onConflict(\.words).doNothing(), "column \"words\", which is never sent")
        expect(PageStats.upsert.onConflict(\.fetchedAt).doNothing(), "column \"fetched_at\", which is never sent")
    }

    @Test func aDeclarationThatDoesNotFitTogether() {
        #expect(
            SwappedTypes.table.error?.message.contains("value 1 of init is Int, but column \"b\" is String") == true)
        expect(SwappedTypes.upsert, "table \"swapped\"", "value 1 of init is Int")
        expect(TooFew.upsert, "init takes 1 values, but there are 2 columns")
        expect(TwiceNamed.upsert, "table \"twice\" has two columns named \"a\"")
        expect(NoColumns.upsert, "table \"none\" is declared without columns")
    }

    @Test(arguments: ["", "a\0b", String(repeating: "ä", count: 32)])
    func anImpossibleName(_ name: String) {
        #expect(Table<PageStats>(name) { Column("a", \.hits) }.error?.code == .invalidArgument)
        #expect(Table<PageStats>("t") { Column(name, \.hits) }.error?.code == .invalidArgument)
        #expect(Table<PageStats>("t", schema: name) { Column("a", \.hits) }.error?.code == .invalidArgument)
        #expect(PageStats.upsert.onConstraint(name).error?.code == .invalidArgument)
        #expect(PageStats.upsert.set(\.hits) { _ in .sql("\(identifier: name)") }.error?.code == .invalidArgument)
        let error = #expect(throws: PostgresError.self) {
            try keyedUpsert(into: name, key: ("k", 1), set: ("v", 2), touch: nil)
        }
        #expect(error?.code == .invalidArgument)
    }

    @Test func u36AnArrayThatIsToBeUnnested() {
        let row = Tagged(id: 1, tags: ["a"])
        expect(Upsert([row]).strategy(.unnest), "table \"tagged\": column \"tags\"", "unnest would flatten it")
        #expect(Upsert([row]).strategy(.unnest).error?.code == .unsupported)
        #expect(Upsert([row]).error == nil)
        #expect(Upsert(row).error == nil)
    }

    /// Rows are told apart by their numbers, so their keys do not matter.
    @Test func outcomesOfManyRowsWithoutAKnownKey() {
        let rows = [PageStats(path: "/", hits: 1)]
        #expect(Upsert(rows).onConstraint("c").ifChanged().outcomes().error == nil)
        #expect(Upsert([Keyless(a: 1, b: 2)]).doNothing().outcomes().error == nil)
        let articles = [Article.sample(slug: nil), Article.sample()]
        #expect(Article.upsert.rows(articles).doNothing().outcomes().query.query.failure == nil)
    }

    @Test func aValueThatCannotBeSent() {
        let bad = PageStats(path: "a\0b", hits: 1)
        #expect(Upsert(bad).query.query.failure?.message.hasPrefix("column \"path\": ") == true)
        let rows = [PageStats(path: "z", hits: 1), PageStats(path: "y", hits: 1), bad]
        #expect(Upsert(rows).query.query.failure?.message.hasPrefix("row 2, column \"path\": ") == true)
        var articles = [Article.sample(slug: "b"), Article.sample(slug: "a")]
        articles[0].title = "\0"
        let failure = Article.upsert.rows(articles).query.query.failure
        #expect(failure?.message.hasPrefix("row 0, column \"title\": ") == true)
        #expect(failure?.outcome == .notSent)
    }

    private func expectNotSent(
        at location: SourceLocation = #_sourceLocation, _ run: () async throws -> Void
    ) async {
        do {
            try await run()
            Issue.record("no error", sourceLocation: location)
        } catch {
            #expect((error as? PostgresError)?.outcome == .notSent, sourceLocation: location)
        }
    }

    @Test func nothingIsSentOfAnUpsertThatCannotBeRun() async {
        let db = NoServer()
        await expectNotSent { try await db.upsert(KeyOnly(a: 1)) }
        await expectNotSent { try await db.upsert([KeyOnly(a: 1)]) }
        await expectNotSent { try await db.upsert(Upsert(KeyOnly(a: 1))) }
        await expectNotSent { try await db.upsert(KeyOnly.upsert.rows([]).outcomes()) }
        await expectNotSent { try await db.upsert(PageStats.upsert) }
        await expectNotSent { try await db.upsert(PageStats.upsert.outcomes()) }
        await expectNotSent { try await db.upsert(into: "t", key: ("k", 1), touch: nil) }
    }

    @Test func noRowsNeedNoServer() async throws {
        #expect(try await NoServer().upsert([PageStats]()) == 0)
        let result = try await NoServer().upsert(PageStats.upsert.rows([]).outcomes())
        #expect(result.isEmpty)
        #expect(result.affected == 0)
    }
}

struct Nested: PostgresTable {
    struct Inner: Sendable { var value: Int }

    var inner: Inner
    var id: Int

    static let table = Table<Self>("nested") {
        Column("value", \.inner.value)
        Column("id", \.id, .primaryKey)
    }
}

struct Keyless: PostgresTable {
    var a: Int
    var b: Int

    static let table = Table<Self>("keyless") {
        Column("a", \.a)
        Column("b", \.b)
    }
}

struct KeyOnly: PostgresTable {
    var a: Int

    static let table = Table<Self>("key_only") { Column("a", \.a, .primaryKey) }
}

struct SwappedTypes: PostgresTable {
    var a: Int
    var b: String

    static let table = Table<Self>("swapped", init: Self.init(a:b:)) {
        Column("b", \.b, .primaryKey)
        Column("a", \.a)
    }
}

struct TooFew: PostgresTable {
    var a: Int
    var b = ""

    init(a: Int) { self.a = a }

    static let table = Table<Self>("too_few", init: Self.init(a:)) {
        Column("a", \.a, .primaryKey)
        Column("b", \.b)
    }
}

struct TwiceNamed: PostgresTable {
    var a: Int
    var b: Int

    static let table = Table<Self>("twice") {
        Column("a", \.a, .primaryKey)
        Column("a", \.b)
    }
}

struct NoColumns: PostgresTable {
    static let table = Table<Self>("none") {}
}

struct Tagged: PostgresTable {
    var id: Int
    var tags: [String]

    static let table = Table<Self>("tagged") {
        Column("id", \.id, .primaryKey)
        Column("tags", \.tags)
    }
}
