import Postgres
import Testing

@testable import PostgresUpsert

/// Rows that lack columns, and rows of which one stands for others.
@Suite struct UnevenBatchTests {
    @Test func u32ARowWithoutAnythingToUpdateIsSkipped() throws {
        let row = Sparse(id: 1, name: .absent, tags: .absent)
        let upsert = Sparse.upsert.outcomes()
        for statement in [try upsert(row).bind(), try upsert.rows([row]).batch(UpsertCut(isByRow: true)).statements[0]]
        {
            #expect(statement.query.sql.contains("DO NOTHING"))
            #expect(try upsert.read([], of: statement).outputs == [.skipped])
        }
    }

    /// An array column makes it VALUES, in which rows that are left alone could not be told from the others.
    @Test func u32SuchRowsOfABatchGoOneByOne() throws {
        let rows = [
            Sparse(id: 1, name: .absent, tags: .absent), Sparse(id: 2, name: .absent, tags: .absent),
            Sparse(id: 3, name: .value("c"), tags: .value(["x"])),
        ]
        let batch = try Sparse.upsert.rows(rows).outcomes().batch()
        #expect(batch.statements.map(\.count) == [1, 1, 1])
        #expect(batch.statements.map { $0.query.sql.contains("DO NOTHING") } == [true, true, false])
        #expect(try Sparse.upsert.rows(rows).batch().statements.map(\.count) == [2, 1])
    }

    @Test func u32PlansOfRowsThatLackColumnsAreBounded() {
        let plan = Sparse.upsert.rows([]).definition.plan(.row)
        for absent in 1...UInt64(UpsertPlan<Sparse>.variantLimit * 2) { _ = plan.variant(absent: absent << 8) }
        #expect(plan.variantCount <= UpsertPlan<Sparse>.variantLimit)
    }

    /// Row 3, of which the program knows, though two rows before it are not sent.
    @Test(arguments: [UpsertStrategy.automatic, .copy])
    func u28AnErrorNamesTheRowThatWasGiven(_ strategy: UpsertStrategy) throws {
        let rows = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "\0"), ("c", "4")].map { Named(name: $0.0, text: $0.1) }
        for policy in [UpsertDuplicates<Named>.keepFirst, .keepLast, .merge { first, _ in first }] {
            let upsert = Upsert(rows).duplicates(policy)
            let error = #expect(throws: PostgresError.self) {
                if strategy == .automatic {
                    if let failure = upsert.query.query.failure { throw failure }
                    return
                }
                var copy = try upsert.stagedBatch().copy
                var encoder = PostgresEncoder()
                _ = try copy.writeRows(into: &encoder)
            }
            #expect(error?.message.contains("row 3, column \"text\"") == true, "\(String(describing: error))")
        }
        let last = Upsert([Named(name: "a", text: ""), Named(name: "b", text: ""), Named(name: "a", text: "\0")])
        let error = last.duplicates(.keepLast).query.query.failure
        #expect(error?.message.contains("row 2, column \"text\"") == true)
    }

    @Test func u43BytesOfAStageAreCounted() throws {
        let rows = (0..<300).map { Named(name: "\($0)", text: String(repeating: "x", count: 1000)) }
        var copy = try Upsert(rows).stagedBatch().copy
        var more = true
        while more {
            var encoder = PostgresEncoder()
            more = try copy.writeRows(into: &encoder)
        }
        #expect(copy.bytes > 300_000)
        #expect(copy.bytes < 320_000)
    }

    /// Outside of the predicate rows of one key are different rows.
    @Test func u28NoRowStandsForAnotherOfAPartialIndex() {
        let rows = [Named(name: "a", text: "x"), Named(name: "b", text: "y")]
        let partial = Upsert(rows).onConflict(\.name, where: "text <> ''")
        #expect(partial.error == nil)
        for strategy in [UpsertStrategy.automatic, .copy] {
            let error = #expect(throws: PostgresError.self) {
                let upsert = partial.strategy(strategy).duplicates(.keepLast)
                if strategy == .copy { _ = try upsert.stagedBatch() } else { _ = try upsert.batch() }
            }
            #expect(error?.message.contains("does not go with a partial index") == true)
        }
    }

    @Test(
        arguments: [
            ("42703", "column \"threshold\" does not exist", false),
            ("42703", "column \"old_price\" does not exist", false),
            ("42703", "column \"xmax\" does not exist", true), ("42703", "column old.tableoid does not exist", true),
            ("42P01", "relation \"thresholds\" does not exist", false),
            ("42P01", "missing FROM-clause entry for table \"old\"", true),
        ])
    func u24OnlyWhatOutcomesAreToldByContradictsThem(_ state: String, _ message: String, _ contradicts: Bool) {
        let shape = Named.upsert.rows([]).outcomes().definition.shape
        let server = PostgresError.Server(severity: "ERROR", sqlState: state, message: message)
        #expect(shape.contradictsEvidence(server) == contradicts)
    }
}

private struct Sparse: PostgresTable {
    var id: Int
    var name: UpsertField<String>
    var tags: UpsertField<[String]>

    static let table = Table<Self>("sparse") {
        Column("id", \.id, .primaryKey)
        Column("name", \.name)
        Column("tags", \.tags)
    }
}

private struct Named: PostgresTable {
    var name: String
    var text: String

    static let table = Table<Self>("named") {
        Column("name", \.name, .primaryKey)
        Column("text", \.text)
    }
}
