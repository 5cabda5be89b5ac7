import Postgres
import PostgresTesting
import PostgresUpsert
import Testing

/// What keeps a connection for longer than a statement, or needs a second one.
extension FaultSession {
    /// Ten rows in batches of four; they are written when the cursor's transaction has ended.
    static let cursor: Run = { db, key in
        let keys = key..<(key + 10)
        let claim = await claim(keys) {
            var read: [Int64] = []
            let query: PostgresQuery =
                "INSERT INTO faults SELECT n, 1 FROM generate_series(\(key), \(key + 9)) AS n RETURNING key"
            for try await key in try await db.cursor(query, as: Int64.self, fetching: 4) { read.append(key) }
            #expect(read == Array(keys))
        }
        return [claim]
    }

    /// Another statement between its batches, and one behind its end.
    static let heldCursor: Run = { db, key in
        var between = FaultClaim(keys: key..<key)
        let held = await claim(key..<key) {
            var sum: Int64 = 0
            for try await number in try await db.cursor(
                "SELECT n FROM generate_series(1::int8, 10) AS n", as: Int64.self, fetching: 4, withHold: true)
            {
                sum += number
                if number == 5 { between = await claim(key..<(key + 1)) { try await db.execute(.insert(key, 2)) } }
            }
            #expect(sum == 55)
        }
        let behind = await claim((key + 1)..<(key + 2)) { try await db.execute(.insert(key + 1, 2)) }
        return [between, held, behind]
    }

    /// A notification is proof that the transaction that sent it was committed, whatever became of its acknowledgement.
    ///
    /// The sender's process, which differs from session to session, has four bytes in every notification.
    static let listen: Run = { db, key in
        var written = FaultClaim(keys: key..<key)
        var heard = await claim(key..<(key + 1)) {
            var notifications = try await db.listen(to: "faults_\(key)").makeAsyncIterator()
            written = await claim(key..<(key + 1)) {
                try await db.execute(
                    """
                    WITH written AS (INSERT INTO faults VALUES (\(key), \(Int64(3))) RETURNING key::text)
                    SELECT pg_notify('faults_' || key, key) FROM written
                    """)
            }
            let notification = try await notifications.next()
            #expect(notification?.payload == "\(key)")
            #expect(notification?.backendProcessID == db.backendProcessID)
        }
        if heard.error != nil { heard.keys = key..<key }
        // Behind UNLISTEN, which nobody waits for.
        let behind = await claim((key + 1)..<(key + 2)) { try await db.execute(.insert(key + 1, 3)) }
        return [written, heard, behind]
    }

    /// A statement that would last too long is stopped, and the next one must not be, whatever becomes of the request to cancel.
    static let cancelled: Run = { db, key in
        let stopped = await claim(key..<(key + 1)) {
            try await withPostgresTimeout(.milliseconds(30)) {
                _ = try await db.execute("INSERT INTO faults SELECT \(key), 5 FROM pg_sleep(20)")
            }
        }
        #expect(stopped.error?.code != .queryCanceled, "an end that was asked for has the caller's own code")
        return [stopped, await claim((key + 1)..<(key + 2)) { try await db.execute(.insert(key + 1, 5)) }]
    }

    /// Everything that takes a connection from the pool, also two at once, of which one has to wait.
    static let pool: PoolRun = { client, key in
        var claims = [await claim(key..<(key + 1)) { try await client.execute(.insert(key, 6)) }]
        claims.append(
            await claim((key + 1)..<(key + 2)) {
                // The session is reset behind it, with the request that comes next.
                try await client.withConnection { db in _ = try await db.execute(.insert(key + 1, 6)) }
            })
        async let first = claim((key + 2)..<(key + 3)) { try await client.execute(.insert(key + 2, 6)) }
        async let second = claim((key + 3)..<(key + 4)) { try await client.execute(.insert(key + 3, 6)) }
        claims += await [first, second]
        claims += await pipeline(client, key + 4, .isolated, count: 2)
        claims.append(
            await claim((key + 6)..<(key + 8)) {
                try await client.transaction { tx in
                    for key in (key + 6)..<(key + 8) { try await tx.execute(.insert(key, 6)) }
                }
            })
        claims.append(
            await claim(key..<key) {
                var sum = 0
                for try await number in try await client.stream(
                    "SELECT n FROM generate_series(1, 10) AS n", as: Int.self)
                { sum += number }
                #expect(sum == 55)
            })
        return claims
    }

    static let blocking: BlockingRun = { db, key in
        var claims: [FaultClaim] = []
        for key in key..<(key + 2) {
            claims.append(
                claimBlocking(key..<(key + 1)) {
                    let back = try db.query(
                        "INSERT INTO faults VALUES (\(key), \(Int64(7))) RETURNING key", as: Int64.self
                    ).one()
                    #expect(back == key)
                })
        }
        claims.append(
            claimBlocking((key + 2)..<(key + 10)) {
                let rows = ((key + 2)..<(key + 10)).map { ($0, Int64(7)) }
                let copied = try db.copy(into: "faults", columns: ["key", "n"], rows: rows)
                #expect(copied == 8)
            })
        claims.append(
            claimBlocking(key..<key) {
                var text: [UInt8] = []
                let count = try db.copy(rowsOf: "SELECT generate_series(1, 10)") { text += $0 }
                #expect(count == 10)
                #expect(String(decoding: text, as: UTF8.self) == (1...10).map { "\($0)\n" }.joined())
            })
        claims.append(
            claimBlocking((key + 10)..<(key + 13)) {
                try db.transaction { tx in
                    for key in (key + 10)..<(key + 13) { try tx.execute(.insert(key, 7)) }
                }
            })
        claims.append(
            claimBlocking((key + 13)..<(key + 16)) {
                let count = try db.upsert(((key + 13)..<(key + 16)).map { FaultRow(key: $0, n: 7) })
                #expect(count == 3)
            })
        return claims
    }
}
