import PostgresProtocol

/// Messages that are made or taken apart over and over, by the library's own code, without a connection: requests into a send
/// buffer, replies out of a receive buffer.
public enum MessageWork: String, CaseIterable, Sendable {
    /// Bind, Execute and Sync of a prepared statement with one int4.
    case requestOfSelect
    /// The same with a key and a hundred bytes of jsonb.
    case requestOfUpsert
    /// BindComplete, CommandComplete, ReadyForQuery.
    case replyOfUpsert
    /// The same with a DataRow of one int4.
    case replyOfSelect
    /// The same, one message after the other, as what comes in pieces is read.
    case replyByMessages
    /// DataRows of five columns, a thousand in a reply; counted by row.
    case rows

    public struct WrongMessage: Error {}

    /// What one of it is.
    public var text: String {
        switch self {
        case .requestOfSelect: "encode Bind, Execute, Sync: an int4"
        case .requestOfUpsert: "encode Bind, Execute, Sync: text and jsonb, 100 bytes"
        case .replyOfUpsert: "decode BindComplete, CommandComplete, ReadyForQuery"
        case .replyOfSelect: "decode the same with a DataRow of an int4"
        case .replyByMessages: "  the same, message by message"
        case .rows: "decode a DataRow of five columns, of 1,000"
        }
    }

    /// How many of `rows` are in a reply.
    public static let rowCount = 1000

    /// - Parameter count: how many requests, replies, or rows; of rows whole replies.
    public func run(_ count: Int) throws {
        switch self {
        case .requestOfSelect: try Self.encode(count, parameters: 1, cells: Bytes.int4)
        case .requestOfUpsert:
            try Self.encode(count, parameters: 2, cells: Bytes.cell("key1000000") + Bytes.cell(Bytes.json))
        case .replyOfUpsert: try Self.decode(count, Bytes.reply([], tag: "INSERT 0 1"), columns: 0)
        case .replyOfSelect: try Self.decode(count, Bytes.reply([Bytes.int4], tag: "SELECT 1"), columns: 1)
        case .replyByMessages:
            try Self.decode(
                count, Bytes.reply([Bytes.int4], tag: "SELECT 1"), columns: 1, isWhole: false)
        case .rows:
            let row = Bytes.int4 + Bytes.int8 + Bytes.cell("row 1000") + Bytes.int8 + Bytes.int8
            let reply = Bytes.reply(
                Array(repeating: row, count: Self.rowCount), tag: "SELECT \(Self.rowCount)", columns: 5)
            try Self.decode(max(count / Self.rowCount, 1), reply, columns: 5)
        }
    }

    private static func statement(columns: Int) -> PreparedStatement {
        let statement = PreparedStatement(
            name: Array("s1".utf8), key: StatementKey(sql: Array("SELECT".utf8), parameterTypes: []))
        statement.state = .ready
        let described = (0..<columns).map { RowDescription.Column(name: "c\($0)", typeOID: 23) }
        statement.description = StatementDescription(
            parameterTypes: [], rowDescription: columns == 0 ? nil : RowDescription(columns: described))
        return statement
    }

    private static func encode(_ count: Int, parameters: Int, cells: [UInt8]) throws {
        var outbound = Outbound(statementCacheCapacity: 256)
        var writer = ByteWriter()
        let statement = statement(columns: 1)
        var syncs = 0
        try cells.withUnsafeBytes { cells in
            for _ in 0..<count {
                let request = try outbound.execute(
                    statement, parse: false, sync: true,
                    Outbound.Parameters(count: parameters, formats: .all(.binary), cells: cells), .all(.binary),
                    into: &writer)
                if request.parts == .executesAndSyncs { syncs += 1 }
                // As a connection does when all was sent.
                writer.removeAll()
            }
        }
        if syncs != count { throw WrongMessage() }
    }

    private static func decode(_ count: Int, _ reply: [UInt8], columns: Int, isWhole: Bool = true) throws {
        var inbound = Inbound(bufferCapacity: max(16384, 2 * reply.count))
        let request = Request(.executesAndSyncs, statement: statement(columns: columns))
        var read = 0
        try reply.withUnsafeBytes { bytes in
            for _ in 0..<count {
                // In place of the system's copy on receiving.
                inbound.buffer.append(bytes)
                inbound.begin(request)
                if isWhole {
                    guard let end = inbound.takeUsualReply(columns: nil) else { throw WrongMessage() }
                    read += end.affected
                } else {
                    guard case .finished = try inbound.next() else { throw WrongMessage() }
                    read += inbound.takeResult().rowCount
                }
            }
        }
        if read == 0 { throw WrongMessage() }
    }
}

/// Messages as a server sends them.
private enum Bytes {
    static let int4: [UInt8] = [0, 0, 0, 4, 0, 0, 0, 7]
    static let int8: [UInt8] = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]
    static let json = #"{"count": 1, "mean": 12.5, "tags": ["alpha", "beta", "gamma"], "note": "the quick brown fox"}"#

    static func cell(_ text: String) -> [UInt8] { length(text.utf8.count) + Array(text.utf8) }

    private static func length(_ count: Int) -> [UInt8] {
        withUnsafeBytes(of: Int32(truncatingIfNeeded: count).bigEndian) { Array($0) }
    }

    private static func message(_ tag: Character, _ body: [UInt8]) -> [UInt8] {
        Array(String(tag).utf8) + length(body.count + 4) + body
    }

    /// - Parameter rows: the cells of each.
    static func reply(_ rows: [[UInt8]], tag: String, columns: UInt8 = 1) -> [UInt8] {
        message("2", []) + rows.flatMap { message("D", [0, columns] + $0) } + message("C", Array(tag.utf8) + [0])
            + message("Z", Array("I".utf8))
    }
}
