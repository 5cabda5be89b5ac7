import Postgres
import PostgresTesting
import PostgresUpsert
import Testing

/// What a session says became of rows that it wrote in one statement.
struct FaultClaim: Sendable {
    /// The rows; none for a statement that only reads.
    var keys: Range<Int64>
    /// Nil when the statement was acknowledged.
    var error: PostgresError?
}

/// What is tried under faults: one way to use a connection, whose bytes are the same each time.
///
/// A new one belongs into `all`: a name, and what it does with a connection and `keyCount` keys that nobody else uses, in the table
/// `faults (key, n)`. It looks at its own results, and returns a claim for each statement that wrote.
struct FaultSession: Sendable, CustomTestStringConvertible {
    typealias Run = @Sendable (_ db: PostgresConnection, _ key: Int64) async -> [FaultClaim]

    var name: String
    /// Nil: the faults are in the connecting; nothing is run afterwards.
    var run: Run?
    /// How many keys a run may use.
    var keyCount: Int64 = 0
    /// Whether all that a run writes is one transaction.
    var isAtomic = false
    /// The server has words of its own for a client that ends in the middle of one.
    var copiesIn = false
    var usesTLS = false
    var usesSCRAM = false

    var testDescription: String { name }

    static let all: [FaultSession] = [
        FaultSession(name: "connect with SCRAM", usesSCRAM: true),
        FaultSession(name: "connect with TLS", usesTLS: true),
        FaultSession(name: "script", run: script, keyCount: 2, isAtomic: true),
        FaultSession(name: "extended query", run: extendedQuery, keyCount: 2),
        FaultSession(name: "isolated pipeline of 10", run: { await pipeline($0, $1, .isolated) }, keyCount: 10),
        FaultSession(
            name: "atomic pipeline of 10", run: { await pipeline($0, $1, .atomic) }, keyCount: 10, isAtomic: true),
        FaultSession(name: "upsert batch of 100", run: upsertBatch, keyCount: 100, isAtomic: true),
        FaultSession(name: "COPY in", run: copyIn, keyCount: 20, isAtomic: true, copiesIn: true),
        FaultSession(name: "COPY out", run: copyOut),
        FaultSession(name: "transaction", run: transaction, keyCount: 3, isAtomic: true),
    ]

    // MARK: What they do

    private static func claim(_ keys: Range<Int64>, _ statement: () async throws -> Void) async -> FaultClaim {
        do {
            try await statement()
            return FaultClaim(keys: keys, error: nil)
        } catch let error as PostgresError {
            return FaultClaim(keys: keys, error: error)
        } catch {
            Issue.record("an error of another type: \(error)")
            return FaultClaim(keys: keys.lowerBound..<keys.lowerBound, error: nil)
        }
    }

    private static let script: Run = { db, key in
        let claim = await claim(key..<(key + 2)) {
            let sql = "INSERT INTO faults VALUES (\(key), 1); INSERT INTO faults VALUES (\(key + 1), 2); SELECT \(key)"
            let results = try await db.script("\(unsafeSQL: sql)")
            #expect(results.count == 3)
            #expect(try results.last?.one().decode(0, as: Int64.self) == key)
        }
        return [claim]
    }

    private static let copyIn: Run = { db, key in
        let claim = await claim(key..<(key + 20)) {
            let rows = (key..<(key + 20)).map { ($0, Int64(3)) }
            let copied = try await db.copy(into: "faults", columns: ["key", "n"], rows: rows)
            #expect(copied == 20)
        }
        return [claim]
    }

    private static let copyOut: Run = { db, key in
        let claim = await claim(key..<key) {
            var sum = 0
            for try await number in try await db.copy(
                rowsOf: "SELECT n::int4, 'text' FROM generate_series(1, 10) AS n", as: (Int32, String).self)
            { sum += Int(number.0) }
            #expect(sum == 55)
        }
        return [claim]
    }

    private static let transaction: Run = { db, key in
        let claim = await claim(key..<(key + 3)) {
            try await db.transaction { tx in
                for key in key..<(key + 3) { try await tx.execute("INSERT INTO faults VALUES (\(key), \(Int64(4)))") }
            }
        }
        return [claim]
    }

    /// Twice: described and prepared first, from the cache then.
    private static let extendedQuery: Run = { db, key in
        var claims: [FaultClaim] = []
        for key in key..<(key + 2) {
            claims.append(
                await claim(key..<(key + 1)) {
                    let back = try await db.query(
                        "INSERT INTO faults VALUES (\(key), \(Int64(7))) RETURNING key, n", as: (Int64, Int64).self
                    ).one()
                    #expect(back == (key, 7))
                })
        }
        return claims
    }

    @Sendable private static func pipeline(
        _ db: PostgresConnection, _ key: Int64, _ sync: PostgresPipeline.Sync
    ) async -> [FaultClaim] {
        let keys = key..<(key + 10)
        var pipeline = PostgresPipeline(sync)
        let tickets = keys.map { key in
            pipeline.add(
                PostgresQuery("INSERT INTO faults VALUES (\(key), \(Int64(8))) RETURNING key").as(Int64.self))
        }
        do throws(PostgresError) {
            let results = try await db.run(pipeline)
            #expect(results.count == 10)
            return zip(keys, tickets).map { key, ticket in
                let rows = results[ticket]
                if rows.error == nil {
                    let back = Result { try rows.one() }
                    #expect((try? back.get()) == key)
                }
                return FaultClaim(keys: key..<(key + 1), error: rows.error)
            }
        } catch {
            #expect(error.outcome == .notSent, "a pipeline throws only when nothing was sent")
            return [FaultClaim(keys: keys, error: error)]
        }
    }

    private static let upsertBatch: Run = { db, key in
        let keys = key..<(key + 100)
        let claim = await claim(keys) {
            let count = try await db.upsert(keys.map { FaultRow(key: $0, n: 9) })
            #expect(count == 100)
        }
        return [claim]
    }
}

struct FaultRow: PostgresTable {
    var key: Int64
    var n: Int64

    static let table = Table<Self>("faults") {
        Column("key", \.key, .primaryKey)
        Column("n", \.n)
    }
}
