import Postgres
import PostgresTesting
import PostgresUpsert
import Testing

/// Statements, alone and many at once.
extension FaultSession {
    static let script: Run = { db, key in
        let claim = await claim(key..<(key + 2)) {
            let sql = "INSERT INTO faults VALUES (\(key), 1); INSERT INTO faults VALUES (\(key + 1), 2); SELECT \(key)"
            let results = try await db.script("\(unsafeSQL: sql)")
            #expect(results.count == 3)
            #expect(try results.last?.one().decode(0, as: Int64.self) == key)
        }
        return [claim]
    }

    static let copyIn: Run = { db, key in
        let claim = await claim(key..<(key + 20)) {
            let rows = (key..<(key + 20)).map { ($0, Int64(3)) }
            let copied = try await db.copy(into: "faults", columns: ["key", "n"], rows: rows)
            #expect(copied == 20)
        }
        return [claim]
    }

    static let copyOut: Run = { db, key in
        let claim = await claim(key..<key) {
            var sum = 0
            for try await number in try await db.copy(
                rowsOf: "SELECT n::int4, 'text' FROM generate_series(1, 10) AS n", as: (Int32, String).self)
            { sum += Int(number.0) }
            #expect(sum == 55)
        }
        return [claim]
    }

    static let transaction: Run = { db, key in
        let claim = await claim(key..<(key + 3)) {
            try await db.transaction { tx in
                for key in key..<(key + 3) { try await tx.execute(.insert(key, 4)) }
            }
        }
        return [claim]
    }

    /// Twice: described and prepared first, from the cache then.
    static let extendedQuery: Run = { db, key in
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

    @Sendable static func pipeline(
        _ db: some PostgresExecutor, _ key: Int64, _ sync: PostgresPipeline.Sync, count: Int64 = 10
    ) async -> [FaultClaim] {
        let keys = key..<(key + count)
        var pipeline = PostgresPipeline(sync)
        let tickets = keys.map { key in
            pipeline.add(
                PostgresQuery("INSERT INTO faults VALUES (\(key), \(Int64(8))) RETURNING key").as(Int64.self))
        }
        do throws(PostgresError) {
            let results = try await db.run(pipeline)
            #expect(results.count == Int(count))
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

    static let upsertBatch: Run = { db, key in
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
