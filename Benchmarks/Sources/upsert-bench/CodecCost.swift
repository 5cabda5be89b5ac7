import Measurement
import MessageCosts
import Postgres
import PostgresUpsert

/// What values and messages cost alone, without a connection: from Swift to the bytes of a Bind, and from the bytes of rows to Swift;
/// the framing of requests and replies around them.
struct CodecCost: Sendable {
    var name: String
    /// One of each round.
    var nanoseconds: [Double]

    static func measure(_ route: ProtocolServer.Route, rounds: Int) async throws -> [CodecCost] {
        let db = try await route.connect()
        defer { db.close() }
        let work: [(name: String, work: Values)] = [
            ("encode SELECT $1::int4", .select), ("encode an upsert of text and jsonb", .upsert),
            ("decode a row of five columns, binary", .binary(try await Values.binaryRows(db))),
            ("decode a row of five columns, text", .text(try await Values.textRows(db))),
        ]
        return try work.map { name, work in try CodecCost(name, rounds: rounds) { try work.run($0) } }
            + MessageWork.allCases.map { work in try CodecCost(work.text, rounds: rounds) { try work.run($0) } }
    }

    /// - Parameter work: of so many.
    private init(_ name: String, rounds: Int, _ work: (Int) throws -> Void) throws {
        self.name = name
        let count = 10_000
        try work(1000)
        nanoseconds = try (0..<rounds).map { _ in
            let start = monotonicNanoseconds()
            try work(count)
            return Double(monotonicNanoseconds() &- start) / Double(count)
        }
    }
}

/// Values that are encoded or decoded over and over.
enum Values {
    typealias Columns = (Int32, Int64, String, Double, PostgresTimestamp)

    case select
    case upsert
    case binary(PostgresRows<Columns>)
    case text(PostgresRows<PostgresRow>)

    static let rowCount = 1000

    static func binaryRows(_ db: PostgresConnection) async throws(PostgresError) -> PostgresRows<Columns> {
        try await db.query("\(unsafeSQL: sql)", as: Columns.self)
    }

    static func textRows(_ db: PostgresConnection) async throws -> PostgresRows<PostgresRow> {
        guard let rows = try await db.script("\(unsafeSQL: sql)").first else { throw Selecting.WrongAnswer() }
        return rows
    }

    private static var sql: String { SQLText.fiveColumns.replacing("$1::int4", with: "\(rowCount)") }

    /// - Parameter count: queries or rows.
    func run(_ count: Int) throws {
        var checksum = 0
        switch self {
        case .select:
            for number in 0..<Int32(clamping: count) {
                let query: PostgresQuery = "SELECT \(number)::int4"
                checksum &+= query.parameterCount
            }
        case .upsert:
            let rows = StatsRow.rows(10, keys: 10)
            for number in 0..<count {
                checksum &+= StatsRow.upsert(rows[number % rows.count]).query.query.parameterCount
            }
        case .binary(let rows):
            for _ in 0..<max(count / Self.rowCount, 1) {
                for row in try rows.all() { checksum &+= Int(row.0) &+ row.2.utf8.count }
            }
        case .text(let rows):
            for _ in 0..<max(count / Self.rowCount, 1) {
                for row in try rows.all() {
                    let columns = try row.decode(as: Columns.self)
                    checksum &+= Int(columns.0) &+ columns.2.utf8.count
                }
            }
        }
        if checksum == 0 { throw Selecting.WrongAnswer() }
    }
}
