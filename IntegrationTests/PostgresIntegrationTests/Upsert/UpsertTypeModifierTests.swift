import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

/// Columns whose type has a length or a precision, declared with it.
private struct Limited: PostgresTable, Equatable {
    var id: Int
    var name: String
    var code: String
    var bits: String

    static let table = Table<Self>("limited_rows", init: Self.init(id:name:code:bits:)) {
        Column("id", \.id, .primaryKey)
        Column("name", \.name, type: "varchar(5)")
        Column("code", \.code, type: "char(3)")
        Column("bits", \.bits, type: "bit(4)")
    }

    static let row = Limited(id: 1, name: "abcde", code: "abc", bits: "1011")
}

private struct Rounded: PostgresTable {
    var price: String
    var n: Int

    static let table = Table<Self>("rounded_rows", init: Self.init(price:n:)) {
        Column("price", \.price, .primaryKey, type: "numeric(5,2)")
        Column("n", \.n)
    }
}

/// The type without its precision, as the checker proposes it.
private struct Bare: PostgresTable {
    var price: String
    var n: Int

    static let table = Table<Self>("rounded_rows", init: Self.init(price:n:)) {
        Column("price", \.price, .primaryKey, type: "numeric")
        Column("n", \.n)
    }
}

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct UpsertTypeModifierTests {
    private func table() async throws -> PostgresConnection {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS limited_rows")
        try await db.execute(
            """
            CREATE TABLE limited_rows (
                id int8 PRIMARY KEY, name varchar(5) NOT NULL, code char(3) NOT NULL, bits bit(4) NOT NULL)
            """)
        return db
    }

    /// A plain INSERT refuses such values (22001, 22026); a cast to the type with its length would cut them.
    private func expectNothingIsCut(
        _ db: PostgresConnection, _ sourceLocation: SourceLocation = #_sourceLocation,
        by upsert: (Limited) async throws -> Void
    ) async throws {
        var long = [Limited.row, Limited.row, Limited.row]
        long[0].name = "abcdef"
        long[1].code = "abcd"
        long[2].bits = "10111"
        for (row, state) in zip(long, ["22001", "22001", "22026"]) {
            let error = await failure(sourceLocation) { try await upsert(row) }
            #expect(error?.sqlState == state, sourceLocation: sourceLocation)
        }
        try await upsert(Limited.row)
        let stored = try await db.query("SELECT id, name, code, bits::text FROM limited_rows", as: Limited.self).all()
        #expect(stored == [Limited.row], sourceLocation: sourceLocation)
    }

    @Test func aValueThatIsTooLongIsRefused() async throws {
        let db = try await table()
        defer { db.close() }
        try await expectNothingIsCut(db) { try await db.upsert($0) }
        try await expectNothingIsCut(db) { try await db.upsert(Upsert($0).updateFirst()) }
    }

    @Test(arguments: [UpsertStrategy.unnest, .values, .copy])
    func aValueThatIsTooLongIsRefusedInABatch(_ strategy: UpsertStrategy) async throws {
        let db = try await table()
        defer { db.close() }
        try await expectNothingIsCut(db) { try await db.upsert(Upsert([$0]).strategy(strategy)) }
    }

    @Test func aValueThatIsTooLongIsRefusedByAFunction() async throws {
        let db = try await table()
        defer { db.close() }
        try await db.execute("DROP SCHEMA IF EXISTS limited CASCADE")
        try await db.execute("CREATE SCHEMA limited")
        let save = try await db.install(UpsertFunction("save", in: "limited", Limited.upsert))
        try await expectNothingIsCut(db) { try await db.upsert(save($0)) }
        try await expectNothingIsCut(db) { try await db.upsert(save.rows([$0])) }
    }

    /// The value that is stored is not the one that was sent, and found by it all the same.
    @Test func aKeyThatTheColumnRoundsIsFound() async throws {
        let db = try await connect()
        defer { db.close() }
        try await db.execute("DROP TABLE IF EXISTS rounded_rows")
        try await db.execute("CREATE TABLE rounded_rows (price numeric(5,2) PRIMARY KEY, n int8 NOT NULL)")
        let rounded = Upsert(Rounded(price: "1.005", n: 1)).doSelect().returning(\.n).outcomes()
        let bare = Upsert(Bare(price: "1.005", n: 2)).doSelect().returning(\.n).outcomes()
        let first = try await db.upsert(rounded).one()
        #expect(first == UpsertedRow(outcome: .inserted, returned: 1))
        let second = try await db.upsert(rounded).one()
        #expect(second == UpsertedRow(outcome: .skipped, returned: 1))
        let third = try await db.upsert(bare).one()
        #expect(third == UpsertedRow(outcome: .skipped, returned: 1))
    }
}
