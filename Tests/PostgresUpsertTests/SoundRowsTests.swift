import Testing

@testable import Postgres
@testable import PostgresUpsert

/// Rows that cannot be sent, and what is done to the others.
@Suite struct SoundRowsTests {
    private func failures<Row>(_ batch: UpsertBatch<Row>) -> [Int: String] {
        var failures: [Int: String] = [:]
        for statement in batch.statements {
            guard let failure = statement.failure else { continue }
            #expect(failure.outcome == .notSent)
            for row in batch.inputs(of: statement) { failures[row] = failure.message }
        }
        return failures
    }

    private func articles(_ slugs: String?...) -> [Article] { slugs.map { Article.sample(slug: $0) } }

    @Test(arguments: [false, true])
    func u33ARowWithoutAKeyThatCanBeSentIsOfNoChunk(_ isByRow: Bool) throws {
        let cut = UpsertCut(isByRow: isByRow, isIsolated: true)
        var rows = articles("c", "b\0", nil, "a")
        rows[3].title = "\0"
        let upsert = Article.upsert.rejectingNullKeys()
        let found = failures(try upsert.rows(rows).batch(cut))
        #expect(found[1]?.hasPrefix("row 1, column \"slug\": ") == true)
        #expect(found[2]?.hasPrefix("row 2: table \"articles\": a row's key") == true)
        #expect(found[3]?.hasPrefix("row 3, column \"title\": ") == true)
        // It takes its chunk with it.
        #expect(found.count == (isByRow ? 3 : 4))
        // None is left.
        let none = try upsert.rows(articles(nil, "\0")).batch(cut)
        #expect(failures(none).count == 2)
        #expect(none.positions.sorted() == [0, 1])
    }

    @Test func u33RowsThatStandForOthersAreNamedByTheirPlace() throws {
        let rows = articles("a", "a", "b\0", "a", "c\0")
        let batch = try Article.upsert.duplicates(.keepLast).rows(rows).batch(UpsertCut(isIsolated: true))
        let found = failures(batch)
        #expect(found.keys.sorted() == [2, 4])
        #expect(found[2]?.hasPrefix("row 2, column") == true)
        #expect(found[4]?.hasPrefix("row 4, column") == true)
        #expect(batch.positions.count == 5)
    }

    @Test func u33ARowThatLacksItsKeyFailsAlone() throws {
        let rows = [AbsentKey(id: .value(1)), AbsentKey(id: .absent), AbsentKey(id: .value(2))]
        for isByRow in [false, true] {
            let batch = try Upsert(rows).batch(UpsertCut(isByRow: isByRow, isIsolated: true))
            #expect(failures(batch).keys.sorted() == [1])
        }
        #expect(throws: PostgresError.self) { try Upsert(rows).batch() }
    }

    @Test func u36AnErrorOfValuesNamesTheRow() {
        let rows = [Tagged(id: 3, tags: ["a"]), Tagged(id: 1, tags: ["\0"]), Tagged(id: 2, tags: [])]
        let error = Upsert(rows).query.query.error
        #expect(error?.message.hasPrefix("row 1, column \"tags\": ") == true)
        #expect(error?.sql?.hasPrefix("INSERT INTO") == true)
        let oneByOne = #expect(throws: PostgresError.self) { try Upsert(rows).doNothing().outcomes().batch() }
        #expect(oneByOne?.message.hasPrefix("row 1, column \"tags\": ") == true)
    }

    /// Whoever sends rows of one key one after another must learn of them before it parts them.
    @Test func u28RowsOfOneKeyAreFoundBeforeKeysThatCannotBeSent() {
        let rows = ["a", "b\0", "a"].map { PageStats(path: $0, hits: 1) }
        let error = #expect(throws: PostgresError.self) { try Upsert(rows).batch() }
        #expect((error?.underlying as? UpsertDuplicateKeys)?.groups == [[0, 2]])
        let staged = #expect(throws: PostgresError.self) { try Upsert(rows).strategy(.copy).stagedBatch() }
        #expect(staged?.code == .duplicateKeys)
        let nulls = #expect(throws: PostgresError.self) {
            try Article.upsert.rejectingNullKeys().rows(articles("a", nil, "a")).batch()
        }
        #expect(nulls?.code == .duplicateKeys)
        for strategy in [UpsertStrategy.automatic, .copy] {
            let merged = #expect(throws: PostgresError.self) {
                let upsert = Upsert(rows).duplicates(.keepLast).strategy(strategy)
                if strategy == .copy { _ = try upsert.stagedBatch() } else { _ = try upsert.batch() }
            }
            #expect(merged?.message.hasPrefix("row 1, column \"path\": ") == true)
        }
    }

    @Test func u43BytesOfRowsThatGoOneByOneAreCounted() throws {
        let rows = (0..<10).map { Tagged(id: $0, tags: [String(repeating: "x", count: 1000)]) }
        let batch = try Upsert(rows).doNothing().outcomes().batch()
        #expect(batch.statements.count == 10)
        #expect(batch.statements.allSatisfy { $0.bytes > 1000 && $0.bytes < 1100 })
    }

    // What is known of the key

    @Test func u28WhatIsSaidOfRowsOfOneKeyNeedsAKnownKey() throws {
        let rows = [PageStats(path: "a", hits: 1), PageStats(path: "b", hits: 2)]
        let unknown = [
            PageStats.upsert.onIndex("lower(path)"), PageStats.upsert.onConstraint("c"),
            PageStats.upsert.onAnyConflict().doNothing(),
        ]
        for upsert in unknown {
            #expect(upsert.error == nil)
            let merging = upsert.duplicates(.keepLast)
            #expect(merging.error?.message.contains("duplicates(...) needs to know the key columns") == true)
            #expect(merging.rows(rows).query.query.error?.outcome == .notSent)
            #expect(throws: PostgresError.self) { try merging.rows(rows).stagedBatch() }
            #expect(merging(rows[0]).error == nil)
        }
        #expect(PageStats.upsert.onConstraint("c", \.path).duplicates(.keepLast).rows(rows).error == nil)
        #expect(Keyless.upsert.duplicates(.keepLast).error?.message.contains("no column declared") == true)
    }

    @Test func u28WhatTheServerSaysOfRowsOfOneKeyIsWordedByWhatIsKnown() {
        var server = PostgresError.Server(severity: "ERROR", sqlState: "21000", message: "m")
        server.routine = "ExecOnConflictUpdate"
        let error = PostgresError(code: .init("21000"), message: "m", outcome: .rejected, server: server)
        func message(_ upsert: Upsert<PageStats, Never>) -> String { upsert.definition.explain(error).message }
        #expect(message(PageStats.upsert).contains("different bytes"))
        #expect(message(PageStats.upsert.onConstraint("c")).contains("which only the server knows"))
    }

    /// Also where the table's facts are known, and old columns are returned, for which the row by itself has another plan.
    @Test func u28WhetherTheKeyIsKnownDependsOnTheDeclarationOnly() {
        struct Told: PostgresTable {
            var path: String
            var hits: Int

            static let table = Table<Self>("told", init: Self.init(path:hits:)) {
                Column("path", \.path, .primaryKey)
                Column("hits", \.hits)
            }
        }
        var server = PostgresError.Server(severity: "ERROR", sqlState: "21000", message: "m")
        server.routine = "ExecOnConflictUpdate"
        let error = PostgresError(code: .init("21000"), message: "m", outcome: .rejected, server: server)
        let known = Told.upsert.returningChange(\.hits)
        known.definition.layout.memory.facts = TableFacts(version: 180_006, kind: UInt8(ascii: "r"))
        #expect(known.definition.explain(error).message.contains("different bytes"))
        let unknown = Told.upsert.onConstraint("c").returningChange(\.hits).duplicates(.keepLast)
        #expect(unknown.rows([]).error?.message.contains("duplicates(...) needs to know the key columns") == true)
    }

    @Test func u7AnExclusionConstraintIsKnownInEveryLanguage() {
        var server = PostgresError.Server(severity: "ERROR", sqlState: "42809", message: "no soportado")
        server.routine = "infer_arbiter_indexes"
        let error = PostgresError(code: .init("42809"), message: "m", outcome: .rejected, server: server)
        let definition = PageStats.upsert.onConstraint("c").definition
        #expect(definition.explain(error).message.contains("cannot conflict by the constraint \"c\""))
        var index = UpsertUniqueIndex(
            name: "c", keys: ["path"], predicate: nil, constraint: "c", isPrimaryKey: false, isExclusion: true,
            isDeferrable: false, nullsNotDistinct: false, isValid: true)
        #expect(
            definition.explain(error, [index]).message.contains(
                "is an exclusion constraint, which goes with DO NOTHING only"))
        index.isExclusion = false
        #expect(definition.explain(error, [index]).message.contains("cannot conflict by the constraint \"c\""))
        #expect(PageStats.upsert.definition.explain(error).message == "m")
    }

    // Rows that lack columns

    @Test func u32APrimaryKeyThatIsAbsentIsNoReasonInABatch() throws {
        let rows = [
            Numbered(id: .absent, email: "b", name: .absent, seenAt: nil),
            Numbered(id: .value(1), email: "a", name: .value("x"), seenAt: nil),
        ]
        for upsert in [Numbered.upsert.onConstraint("c"), Numbered.upsert.onAnyConflict().doNothing()] {
            #expect(upsert(rows[0]).query.query.error == nil)
            #expect(try upsert.rows(rows).batch().statements.map(\.count) == [1, 1])
            #expect(try upsert.rows(rows).batch(UpsertCut(isByRow: true)).statements.count == 2)
        }
    }

    @Test func u16ARowThatHasNothingToCompareIsUnchanged() throws {
        let row = Numbered(id: .value(1), email: "a", name: .absent, seenAt: nil)
        let byEmail = Numbered.upsert.onConflict(\.id, \.email)
        for upsert in [byEmail.ifChanged(), byEmail.touchOnlyChanged(), byEmail.ifChanged().touchOnlyChanged()] {
            #expect(upsert.error == nil)
            let asking = upsert.outcomes()
            for statement in [
                try asking(row).bind(), try asking.rows([row]).batch(UpsertCut(isByRow: true)).statements[0],
            ] {
                #expect(statement.query.sql.contains("DO NOTHING"))
                #expect(try asking.read([], of: statement).outputs == [.unchanged])
            }
            #expect(try asking.rows([row]).batch().statements[0].plan.leftOut == .unchanged)
            var other = row
            other.name = .value("x")
            #expect(upsert(other).query.query.sql.contains("IS DISTINCT FROM"))
        }
        // Otherwise it is touched.
        #expect(byEmail(row).query.query.sql.hasSuffix("DO UPDATE SET \"seen_at\" = now()"))
    }

    // What goes with what

    @Test func u30StagedRowsGoIntoNoPipeline() async {
        let upsert = Upsert([PageStats(path: "a", hits: 1)]).strategy(.copy)
        #expect(upsert.query.query.error?.code == .unsupported)
        for isolation in [UpsertIsolation.batch, .chunk, .row] {
            let error = await #expect(throws: PostgresError.self) {
                try await NoServer().upsert(upsert, isolation: isolation)
            }
            #expect(error?.code == .unsupported)
            #expect(error?.outcome == .notSent)
        }
    }

    @Test func u35AnUpdateSeesOfTheProposedRowWhatWasSent() {
        let byWords = Article.upsert.where { $0.excluded.words > $0.existing.words }
        #expect(byWords.error == nil)
        #expect(
            byWords.updateFirst().error?.message.contains("`excluded` of column \"words\", which is not sent") == true)
        let setting = Article.upsert.updateFirst().set(\.title) { .sql("\($0.excluded.id)::text") }
        #expect(setting.error?.message.contains("`excluded` of column \"id\"") == true)
        #expect(Article.upsert.updateFirst().where { $0.excluded.score > $0.existing.score }.error == nil)
        let older = Profile.upsert.updateFirst().where { $0.excluded.age == $0.existing.age }
        #expect(older.error == nil)
        let lacking = older(Profile(id: 1, name: .value("n"), age: .absent)).query.query.error
        #expect(lacking?.message.contains("`excluded` of column \"age\"") == true)
    }

    @Test func u44RowsOfAWriterThatAsksAreNumbered() throws {
        let rows = [PageStats(path: "a", hits: 1), PageStats(path: "b", hits: 1)]
        let asking = PageStats.bump.outcomes()
        #expect(!asking.rows(rows).sql.contains("upsert_input"))
        #expect(asking.numberingRows().rows(rows).sql.contains("upsert_input"))
        #expect(try asking.numberingRows().rows(rows).batch().statements[0].plan.leftOut == .notWritten)
        #expect(PageStats.bump.numberingRows().rows(rows).sql == PageStats.bump.rows(rows).sql)
        let tagged = [Tagged(id: 1, tags: []), Tagged(id: 2, tags: [])]
        #expect(try Upsert(tagged).outcomes().numberingRows().batch().statements.count == 2)
        #expect(try Upsert(tagged).numberingRows().batch().statements.count == 1)
    }
}

private struct Numbered: PostgresTable {
    var id: UpsertField<Int>
    var email: String
    var name: UpsertField<String>
    var seenAt: PostgresTimestamp?

    static let table = Table<Self>("numbered") {
        Column("id", \.id, .primaryKey)
        Column("email", \.email)
        Column("name", \.name)
        Column("seen_at", \.seenAt, .updatedAt)
    }
}
