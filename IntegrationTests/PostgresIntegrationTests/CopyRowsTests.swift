import Foundation
import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

/// COPY in and out, as bytes and as typed rows.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(3)))
struct CopyRowsTests {
    /// In a transaction, too, nothing gets in between.
    @Test func aStatementOfTheTransactionInsideTheSourceIsRefused() async throws {
        let db = try await connect()
        try await db.execute("CREATE TEMP TABLE copied_inside (n int4)")
        try await db.transaction { tx in
            let copied = try await tx.copy(into: "copied_inside", columns: ["n"]) { writer in
                try await writer.write("1\n")
                let error = await failure { try await tx.execute("SELECT 1") }
                #expect(error?.code == .transactionEnded)
                #expect(error?.outcome == .notSent)
                try await writer.write("2\n")
            }
            #expect(copied == 2)
            try await tx.execute("INSERT INTO copied_inside VALUES (3)")
        }
        #expect(try await db.query("SELECT sum(n) FROM copied_inside", as: Int.self).one() == 6)
    }

    private struct SourceFailure: Error, Equatable {}

    /// What could be mistaken for something else in one format or the other.
    static let texts: [String?] = [
        nil, "", "plain", "\\N", "\\.", "\"quoted\"", "a,b;c\td", "line\nbreak\r\n", "back\\slash", "é 漢字 🐘",
        "NULL", " ", "'", String(repeating: "x", count: 200_000),
    ]

    private func table(_ columns: String, on db: PostgresConnection) async throws {
        try await db.script("CREATE TEMP TABLE t (\(unsafeSQL: columns))")
    }

    // MARK: Bytes

    @Test(
        arguments: [
            .text, .csv, .binary, .text(delimiter: "|", null: "nil"), .text(header: true), .csv(header: true),
            .csv(delimiter: ";", null: "nil", header: true, quote: "'", escape: "\\", forceQuote: ["s"]),
            .csv.encoding("UTF8"),
        ] as [PostgresCopyFormat])
    func whatIsCopiedOutCanBeCopiedIn(format: PostgresCopyFormat) async throws {
        let db = try await connect()
        let other = try await connect()
        for each in [db, other] { try await table("n int8, s text, x float8", on: each) }
        let rows = Self.texts.enumerated().map { ($0, $1, Double($0) / 3) }
        let copied = try await db.copy(into: "t", columns: ["n", "s", "x"], rows: rows)
        #expect(copied == rows.count)

        let chunks = try await db.copy(from: "t", format: format)
        // FORCE_QUOTE is of one direction only.
        let back: PostgresCopyFormat =
            format == .csv(delimiter: ";", null: "nil", header: true, quote: "'", escape: "\\", forceQuote: ["s"])
            ? .csv(delimiter: ";", null: "nil", header: true, quote: "'", escape: "\\") : format
        let count = try await other.copy(into: "t", format: back, from: chunks)
        #expect(count == rows.count)
        #expect(chunks.rowCount == rows.count)
        let read = try await other.query("SELECT n, s, x FROM t ORDER BY n", as: (Int, String?, Double).self).all()
        #expect(read.map { $0.0 } == rows.map { $0.0 })
        #expect(read.map { $0.1 } == rows.map { $0.1 })
        #expect(read.map { $0.2 } == rows.map { $0.2 })
        try await expectUsable(db)
        try await expectUsable(other)
    }

    @Test func aWriterTakesPiecesOfAnySize() async throws {
        let db = try await connect()
        try await table("n int4, s text", on: db)
        let count = try await db.copy(into: "t", columns: ["s", "n"], format: .csv) { writer in
            #expect(writer.columnCount == 2)
            #expect(writer.format == .text)
            for byte in "one,1\n\"tw\"\"o\",2\n".utf8 { try await writer.write([byte]) }
            try await writer.flush()
            try await writer.write([UInt8](repeating: UInt8(ascii: "x"), count: 3_000_000))
            try await writer.write(Data(",3\n".utf8))
            try await writer.write("")
        }
        #expect(count == 3)
        let read = try await db.query("SELECT n, length(s), left(s, 4) FROM t ORDER BY n", as: (Int, Int, String).self)
        let rows = try read.all()
        #expect(rows.map { $0.1 } == [3, 4, 3_000_000])
        #expect(rows.map { $0.2 } == ["one", "tw\"o", "xxxx"])
    }

    @Test func nothingIsARow() async throws {
        let db = try await connect()
        try await table("n int8", on: db)
        #expect(try await db.copy(into: "t") { _ in } == 0)
        #expect(try await db.copy(into: "t", column: "n", values: [Int]()) == 0)
        let chunks = try await db.copy(from: "t")
        for try await _ in chunks { Issue.record("there are no rows") }
        #expect(chunks.rowCount == 0)
        for try await _ in try await db.copy(from: "t", as: Int.self) { Issue.record("there are no rows") }
        try await expectUsable(db)
    }

    @Test func namesAreQuoted() async throws {
        let db = try await connect()
        let table = "a\"b; DROP TABLE t;--"
        let column = String(repeating: "é", count: 31)
        try await db.execute("CREATE TEMP TABLE \(identifier: table) (\(identifier: column) int8)")
        #expect(try await db.copy(into: table, schema: "pg_temp", column: column, values: 1...5) == 5)
        var sum = 0
        for try await n in try await db.copy(from: table, columns: [column], as: Int.self) { sum += n }
        #expect(sum == 15)
        let long = await failure { try await db.copy(into: table, columns: [column + "éé"]) { _ in } }
        #expect(long?.outcome == .notSent)
        try await expectUsable(db)
    }

    // MARK: Failures

    @Test(arguments: [
        ("1\tx\n2\n3\tz\n", PostgresError.Code.badCopyFileFormat, 2), ("1\tx\ny\tz\n", .invalidTextRepresentation, 2),
        ("1\tx\n2\ty\n1\tz\n", .uniqueViolation, 3), ("1\tx\ty\n", .badCopyFileFormat, 1),
        ("1\t\\N\n", .notNullViolation, 1), ("1\tx\n2\t\u{0}\n", .characterNotInRepertoire, 2),
    ])
    func badDataIsATypedErrorWithItsLine(data: String, code: PostgresError.Code, line: Int) async throws {
        let db = try await connect()
        try await table("n int4 PRIMARY KEY, s text NOT NULL", on: db)
        for _ in 0..<2 {
            let error = await failure { try await db.copy(into: "t") { try await $0.write(data) } }
            #expect(error?.code == code)
            #expect(error?.outcome == .rejected)
            #expect(error?.server?.context?.contains("line \(line)") == true, "\(error?.server?.context ?? "-")")
            #expect(error?.sql == "COPY \"t\" FROM STDIN")
            try await expectUsable(db)
        }
        #expect(try await db.query("SELECT count(*) FROM t", as: Int.self).one() == 0)
    }

    @Test func aViolationInTypedRowsTellsTheLine() async throws {
        let db = try await connect()
        try await table("n int8 PRIMARY KEY", on: db)
        let error = await failure { try await db.copy(into: "t", column: "n", values: [1, 2, 3, 2]) }
        #expect(error?.code == .uniqueViolation)
        #expect(error?.constraint == "t_pkey")
        #expect(error?.server?.context?.contains("line 4") == true)
        try await expectUsable(db)
    }

    @Test func anErrorIsSeenWhileTheSourceHasMore() async throws {
        let db = try await connect()
        try await table("n int4", on: db)
        var written = 0
        let error = await failure {
            try await db.copy(into: "t") { writer in
                try await writer.write("no number\n")
                while true {
                    try await writer.write(String(repeating: "1\n", count: 10_000))
                    written += 1
                }
            }
        }
        #expect(error?.code == .invalidTextRepresentation)
        #expect(written > 0)
        try await expectUsable(db)
    }

    @Test func whatTheSourceThrowsArrivesAsItself() async throws {
        let db = try await connect()
        try await table("n int8, s text", on: db)
        for rowsBefore in [0, 1, 100_000] {
            await #expect(throws: SourceFailure()) {
                try await db.copy(into: "t", columns: ["n"]) { writer in
                    for n in 0..<rowsBefore { try await writer.write("\(n)\n") }
                    throw SourceFailure()
                }
            }
            let source = AsyncThrowingStream<(Int, String), any Error> { continuation in
                for n in 0..<rowsBefore { continuation.yield((n, "\(n)")) }
                continuation.finish(throwing: SourceFailure())
            }
            await #expect(throws: SourceFailure()) { try await db.copy(into: "t", columns: ["n", "s"], rows: source) }
            try await expectUsable(db)
        }
        #expect(try await db.query("SELECT count(*) FROM t", as: Int.self).one() == 0)
    }

    @Test func aCancelledTaskCopiesNothing() async throws {
        let db = try await connect()
        try await table("n int8", on: db)
        for round in 0..<20 {
            let (started, start) = AsyncStream<Void>.makeStream()
            let copy = Task { () -> PostgresError? in
                await failure {
                    try await db.copy(into: "t") { writer in
                        for n in 0... {
                            try await writer.write("\(n)\n")
                            if n == round * 1000 { start.yield() }
                        }
                    }
                }
            }
            for await _ in started { break }
            copy.cancel()
            let error = await copy.value
            #expect(error?.code == .cancelled)
            #expect(error?.outcome == .rejected)
            try await expectUsable(db)
        }
        #expect(try await db.query("SELECT count(*) FROM t", as: Int.self).one() == 0)
    }

    @Test func aTransactionThatIsOpenGoesOnAroundACopy() async throws {
        let db = try await connect()
        try await table("n int8 PRIMARY KEY", on: db)
        try await db.execute("BEGIN")
        #expect(try await db.copy(into: "t", column: "n", values: 1...10) == 10)
        try await db.execute("SAVEPOINT s")
        let error = await failure { try await db.copy(into: "t", column: "n", values: [11, 1]) }
        #expect(error?.code == .uniqueViolation)
        let aborted = await failure { try await db.copy(into: "t", column: "n", values: [12]) }
        #expect(aborted?.code == .inFailedSqlTransaction)
        try await db.execute("ROLLBACK TO s")
        try await db.execute("COMMIT")
        #expect(try await db.query("SELECT count(*) FROM t", as: Int.self).one() == 10)
    }

    @Test func otherTasksWaitAndThenWork() async throws {
        let db = try await connect()
        try await table("n int8", on: db)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    for round in 0..<20 {
                        switch (task + round) % 4 {
                        case 0: #expect(try await db.copy(into: "t", column: "n", values: 0..<500) == 500)
                        case 1:
                            let error = await failure {
                                try await db.copy(into: "t") { try await $0.write("1\nx\n") }
                            }
                            #expect(error?.code == .invalidTextRepresentation)
                        case 2:
                            var count = 0
                            let rows: PostgresQuery = "SELECT generate_series(1, 2000)::int8"
                            for try await _ in try await db.copy(rowsOf: rows, as: Int.self) { count += 1 }
                            #expect(count == 2000)
                        default: try await expectUsable(db)
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await db.query("SELECT count(*) FROM t", as: Int.self).one() == 40 * 500)
    }

    // MARK: Typed rows

    enum Mood: String, PostgresCodable, Sendable { case sad, happy }

    @Test func everyTypeGoesThere() async throws {
        let db = try await connect()
        let mood = uniqueName("mood")
        try await db.execute("CREATE TYPE \(identifier: mood) AS ENUM ('sad', 'happy')")
        try await db.execute(
            """
            CREATE TEMP TABLE t (b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, s text, v varchar, c char(3), \
            by bytea, u uuid, ts timestamptz, j jsonb, m \(identifier: mood), a int8[], sa text[])
            """)
        let columns = ["b", "i2", "i4", "i8", "f4", "f8", "s", "v", "c", "by", "u", "ts", "j", "m", "a", "sa"]
        let id = UUID()
        let now = PostgresTimestamp(microseconds: 753_000_000_123_456)
        let row = (
            true, Int16(-2), Int32.min, Int.max, Float(0.1), Double.nan, "é", "v", "abc", PostgresBytes([0, 255]), id,
            now, PostgresJSON(["k": 1]), Mood.happy as Mood?, [1, nil, 3] as [Int?], ["x", "y"]
        )
        #expect(try await db.copy(into: "t", columns: columns, rows: [row, row]) == 2)
        var count = 0
        for try await read in try await db.copy(
            from: "t", columns: columns.dropLast(3),
            as: (
                Bool, Int16, Int32, Int, Float, Double, String, String, String, PostgresBytes, UUID, PostgresTimestamp,
                PostgresJSON<[String: Int]>
            ).self)
        {
            count += 1
            #expect(read.0 && read.1 == -2 && read.2 == .min && read.3 == .max && read.4 == 0.1 && read.5.isNaN)
            #expect(read.6 == "é" && read.7 == "v" && read.8 == "abc" && read.9 == [0, 255] && read.10 == id)
            #expect(read.11 == now && read.12.value == ["k": 1])
        }
        #expect(count == 2)
        let rest = try await db.query("SELECT m::text, a, sa FROM t LIMIT 1", as: (String, [Int?], [String]).self).one()
        #expect(rest.0 == "happy" && rest.1 == [1, nil, 3] && rest.2 == ["x", "y"])
    }

    @Test(arguments: ["int4", "int2", "date", "uuid", "jsonb", "numeric", "interval", "int8range"])
    func textIsNotPutIntoAnotherType(type: String) async throws {
        let db = try await connect()
        try await table("c \(type)", on: db)
        // Of a length that the server would take for a value.
        for text in ["2024", "20", "12345678", "1234567890123456"] {
            let error = await failure { try await db.copy(into: "t", column: "c", values: [text]) }
            #expect(error?.code == .typeMismatch)
            #expect(error?.outcome == .notSent)
        }
        try await expectUsable(db)
        #expect(try await db.query("SELECT count(*) FROM t", as: Int.self).one() == 0)
    }

    @Test func rowsComeFromAnySequence() async throws {
        let db = try await connect()
        try await table("n int8, s text", on: db)
        let lazy = (0..<100_000).lazy.map { ($0, "row \($0)") }
        #expect(try await db.copy(into: "t", columns: ["n", "s"], rows: lazy) == 100_000)
        let stream = AsyncStream<(Int, String?)> { continuation in
            for n in 0..<50_000 { continuation.yield((n, n % 2 == 0 ? nil : "é")) }
            continuation.finish()
        }
        #expect(try await db.copy(into: "t", columns: ["n", "s"], rows: stream) == 50_000)
        let sums = try await db.query("SELECT count(*), sum(n)::int8, count(s) FROM t", as: (Int, Int, Int).self).one()
        #expect(sums == (150_000, 4_999_950_000 + 1_249_975_000, 125_000))
    }

    struct Reading: PostgresTable, Decodable, Equatable {
        var id: Int
        var sensor: String
        var value: Double?
        var seen: PostgresTimestamp?

        static let table = Table<Self>("reading", init: Self.init(id:sensor:value:seen:)) {
            Column("id", \.id, .primaryKey)
            Column("sensor", \.sensor)
            Column("value", \.value)
            Column("seen", \.seen, .createdAt)
        }
    }

    /// An array is read where it lies, any other sequence in small batches; both count rows from the beginning.
    @Test(arguments: [0, 63, 64, 150, 4999])
    func anErrorTellsTheRowOfASequence(place: Int) async throws {
        let db = try await connect()
        try await table("n int4, s text, x float8", on: db)
        var rows = (0..<5000).map { (Int32($0), String(repeating: "s", count: $0 % 40), Double($0)) }
        let columns = ["n", "s", "x"]
        let copied = try await db.copy(into: "t", columns: columns, rows: rows)
        #expect(copied == rows.count)
        let copiedLazily = try await db.copy(into: "t", columns: columns, rows: rows.lazy.map { $0 })
        #expect(copiedLazily == rows.count)
        let same = try await db.query("SELECT count(*) FROM t WHERE s = repeat('s', n % 40) AND x = n", as: Int.self)
        #expect(try same.one() == 2 * rows.count)

        rows[place].1 = "a\0b"
        let ofArray = await #expect(throws: PostgresError.self) {
            try await db.copy(into: "t", columns: columns, rows: rows)
        }
        let ofSequence = await #expect(throws: PostgresError.self) {
            try await db.copy(into: "t", columns: columns, rows: rows.lazy.map { $0 })
        }
        for error in [ofArray, ofSequence] {
            #expect(error?.code == .invalidArgument)
            #expect(error?.message.hasPrefix("row \(place): ") == true)
        }
    }

    @Test func rowsOfADeclaredTable() async throws {
        let db = try await connect()
        try await db.script(
            """
            CREATE TEMP TABLE reading (id int8 PRIMARY KEY, value float8, sensor text NOT NULL,
                                       seen timestamptz NOT NULL DEFAULT '2020-01-01 UTC')
            """)
        for count in [0, 1, 63, 64, 65, 10_000] {
            try await db.execute("TRUNCATE reading")
            let rows = (0..<count).map { n in
                Reading(id: n, sensor: String(repeating: "é", count: n % 50), value: n % 3 == 0 ? nil : Double(n))
            }
            #expect(try await db.copy(rows) == count)
            let read = try await db.query("SELECT * FROM reading ORDER BY id", as: Reading.self).all()
            #expect(read.map(\.id) == rows.map(\.id))
            #expect(read.map(\.sensor) == rows.map(\.sensor))
            #expect(read.map(\.value) == rows.map(\.value))
            #expect(read.allSatisfy { $0.seen != nil })
        }
        var bad = (0..<200).map { Reading(id: $0, sensor: "s") }
        bad[150].sensor = "a\0b"
        let error = await failure { try await db.copy(bad) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains("row 150, column \"sensor\"") == true, "\(error?.message ?? "-")")
        try await expectUsable(db)
        // Copied out by name, into the same type.
        var count = 0
        for try await row in try await db.copy(from: "reading", as: Reading.self) {
            #expect(row.sensor.utf8.count == row.id % 50 * 2)
            count += 1
        }
        #expect(count == 10_000)
    }

    // MARK: Out

    @Test func aSlowConsumerHoldsTheServerBack() async throws {
        let db = try await connect()
        let other = try await connect()
        let rows: PostgresQuery = "SELECT repeat('x', 1000) FROM generate_series(1, 300000)"
        let before = db.statistics.bytesReceived
        var bytes = 0
        var isFirst = true
        for try await chunk in try await db.copy(rowsOf: rows) {
            if isFirst {
                isFirst = false
                let pid = try #require(db.backendProcessID)
                try await eventually("the server never had to wait") {
                    try await other.query(
                        "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = \(Int(pid))", as: String.self
                    ).one() == "ClientWrite"
                }
                // 300 MB are to come.
                #expect(db.statistics.bytesReceived - before < 4 << 20)
            }
            bytes += chunk.count
        }
        #expect(bytes == 300_000 * 1001)
    }

    @Test func aCopyThatIsLeftEarlyLeavesTheConnectionUsable() async throws {
        let db = try await connect()
        for _ in 0..<5 {
            for try await _ in try await db.copy(rowsOf: "SELECT generate_series(1, 1000000)") { break }
            try await expectUsable(db)
            let rows: PostgresQuery = "SELECT generate_series(1, 100000), 'x'"
            for try await (n, _) in try await db.copy(rowsOf: rows, as: (Int, String).self) where n == 10 { break }
            try await expectUsable(db)
        }
    }

    @Test func anErrorInTheMiddleOfACopyOut() async throws {
        let db = try await connect()
        var bytes = 0
        let error = await failure {
            let rows: PostgresQuery = "SELECT 1 / (100000 - n) FROM generate_series(1, 200000) n"
            for try await chunk in try await db.copy(rowsOf: rows) { bytes += chunk.count }
        }
        #expect(error?.code == .divisionByZero)
        #expect(bytes > 0)
        let parameters = await failure { try await db.copy(rowsOf: "SELECT \(1)") }
        #expect(parameters?.code == .invalidArgument)
        let missing = await failure { try await db.copy(from: "no such table") }
        #expect(missing?.code == .undefinedTable)
        try await expectUsable(db)
    }

    @Test func twoCopiesInOneQueryBreakTheConnection() async throws {
        let db = try await connect()
        let error = await failure {
            for try await _ in try await db.copy(rowsOf: "SELECT 1) TO STDOUT; COPY (SELECT 2") {}
        }
        #expect(error?.code == .brokenProtocol)
        #expect(db.isClosed)
    }

    // MARK: Blocking

    @Test func theBlockingAPI() async throws {
        let server = try await PostgresEphemeralServer.shared()
        let url = server.connectionURL(over: .unixSocket)
        try await onThread {
            let db = try PostgresBlockingConnection.connect(url)
            try db.script("CREATE TEMP TABLE t (n int8 PRIMARY KEY, s text)")
            let rows = (0..<100_000).map { ($0, $0 % 2 == 0 ? nil : "é" as String?) }
            #expect(try db.copy(into: "t", columns: ["n", "s"], rows: rows) == 100_000)
            #expect(
                try db.copy(into: "t", format: .csv) { writer in
                    for n in 100_000..<200_000 { try writer.write("\(n),x\n") }
                } == 100_000)
            #expect(throws: SourceFailure()) {
                try db.copy(into: "t") { writer in
                    try writer.write("-1\tx\n")
                    throw SourceFailure()
                }
            }
            #expect(throws: PostgresError.self) { try db.copy(into: "t", columns: ["n", "s"], rows: [(1, "x")]) }
            #expect(throws: PostgresError.self) { try db.copy(into: "t", columns: ["s", "n"], rows: [(1, "x")]) }
            var bytes = 0
            #expect(try db.copy(from: "t", columns: ["s"]) { bytes += $0.count } == 200_000)
            #expect(bytes == 50_000 * 3 + 50_000 * 3 + 100_000 * 2)
            #expect(try db.copy(rowsOf: "SELECT 1") { _ in } == 1)
            #expect(throws: SourceFailure()) { try db.copy(from: "t") { _ in throw SourceFailure() } }
            #expect(try db.query("SELECT count(*) FROM t", as: Int.self).one() == 200_000)
        }
    }

    @Test func aMillionRowsThereAndBack() async throws {
        let db = try await connect()
        let other = try await connect()
        for each in [db, other] { try await table("n int4, s text, x float8", on: each) }
        let rows = (0..<1_000_000).lazy.map { (Int32($0), "row \($0)", Double($0)) }
        #expect(try await db.copy(into: "t", columns: ["n", "s", "x"], rows: rows) == 1_000_000)
        let chunks = try await db.copy(from: "t", format: .binary)
        #expect(try await other.copy(into: "t", format: .binary, from: chunks) == 1_000_000)
        let sums = try await other.query("SELECT sum(n)::int8, sum(x)::int8 FROM t", as: (Int, Int).self).one()
        #expect(sums == (499_999_500_000, 499_999_500_000))
    }
}
