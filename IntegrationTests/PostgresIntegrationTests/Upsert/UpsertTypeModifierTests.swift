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

/// Values that the columns round, the key too.
private struct Measured: PostgresTable, Equatable {
    var at: String
    var price: String
    var span: String
    var version: Int32

    static let table = Table<Self>("measured_rows", init: Self.init(at:price:span:version:)) {
        Column("at", \.at, .primaryKey, type: "timestamp(0)")
        Column("price", \.price, type: "numeric(5,2)")
        Column("span", \.span, type: "interval second(0)")
        Column("version", \.version)
    }

    static let row = Measured(at: "2024-01-01 00:00:00.6", price: "1.005", span: "00:00:02.4", version: 1)
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

    private func measured() async throws -> PostgresConnection {
        let db = try await connect()
        try await db.execute("DROP TABLE IF EXISTS measured_rows")
        try await db.execute(
            """
            CREATE TABLE measured_rows (
                at timestamp(0) PRIMARY KEY, price numeric(5,2) NOT NULL, span interval second(0) NOT NULL,
                version int4 NOT NULL, number bigserial)
            """)
        return db
    }

    /// The UPDATE finds the row by the value that the key's column holds, and sees that nothing has changed.
    @Test(arguments: [UpsertStrategy.unnest, .copy])
    func aRowThatTheColumnsRoundIsUpdatedFirst(_ strategy: UpsertStrategy) async throws {
        let db = try await measured()
        defer { db.close() }
        let upsert = Measured.upsert.updateFirst().strategy(strategy)
        var row = Measured.row
        #expect(try await db.upsert(upsert(row)) == 1)
        var exact = row
        exact.at = "2024-01-01 00:00:01"
        for same in [row, exact] {
            #expect(try await db.upsert(upsert.ifChanged()(same)) == 0)
            #expect(try await db.upsert(upsert.ifChanged().rows([same])) == 0)
        }
        func numbersTaken() async throws -> Int {
            try await db.query("SELECT last_value FROM measured_rows_number_seq", as: Int.self).one()
        }
        let taken = try await numbersTaken()
        row.price = "2.005"
        #expect(try await db.upsert(upsert(row)) == 1)
        row.span = "00:00:07.6"
        #expect(try await db.upsert(upsert.rows([row])) == 1)
        // An INSERT would have taken one.
        #expect(try await numbersTaken() == taken)
        let stored = try await db.query(
            "SELECT at::text, price::text, span::text, version FROM measured_rows", as: Measured.self
        ).all()
        #expect(stored == [Measured(at: "2024-01-01 00:00:01", price: "2.01", span: "00:00:08", version: 1)])
    }

    /// The row of another version is found by the value that the key's column holds.
    @Test func aRowOfAnotherVersionIsFoundByAKeyThatTheColumnRounds() async throws {
        let db = try await measured()
        defer { db.close() }
        let save = Measured.upsert.version(\.version)
        #expect(try await db.upsert(save(.row)) == 1)
        #expect(try await db.upsert(save(.row)) == 2)
        let error = await failure { try await db.upsert(save(.row)) }
        #expect(error?.code == .staleVersion)
        #expect((error?.underlying as? UpsertStaleVersion<Measured>)?.current?.version == 2)
    }
}
