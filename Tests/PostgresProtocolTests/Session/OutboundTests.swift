import PostgresProtocol
import Testing

@testable import PostgresTesting

struct OutboundTests {
    typealias FrontendMessage = PostgresMockServer.FrontendMessage

    /// Splits what was written into messages.
    private func messages(_ writer: borrowing ByteWriter) -> [FrontendMessage] {
        var rest = writer.written[...]
        var messages: [FrontendMessage] = []
        while case .message(let message, let size) = FrontendMessage.frame(rest, isStarted: true) {
            messages.append(message)
            rest = rest.dropFirst(size)
        }
        #expect(rest.isEmpty)
        return messages
    }

    private func key(_ sql: String) -> StatementKey { StatementKey(sql: Array(sql.utf8), parameterTypes: []) }

    private static var none: Outbound.Parameters {
        Outbound.Parameters(count: 0, formats: .none, cells: UnsafeRawBufferPointer(start: nil, count: 0))
    }

    @Test func `a first execution is Parse, Describe, Bind, Execute, Sync`() throws {
        var outbound = Outbound(statementCacheCapacity: 2)
        var writer = ByteWriter()
        let statement = outbound.statements.insert(key("SELECT 1"))
        let request = try outbound.execute(statement, parse: true, sync: true, Self.none, .all(.binary), into: &writer)
        #expect(messages(writer).map(\.kind) == [.parse, .describe, .bind, .execute, .sync])
        #expect(request.parts == [.parses, .describes, .executes, .syncs])
        #expect(request.closes == 0)
        #expect(outbound.messageCount == 5)
        writer.removeAll()
        let next = try outbound.execute(statement, parse: false, sync: false, Self.none, .all(.binary), into: &writer)
        #expect(messages(writer).map(\.kind) == [.bind, .execute])
        #expect(next.parts == .executes)
        #expect(outbound.messageCount == 7)
    }

    @Test func `cells may come from elsewhere`() throws {
        var outbound = Outbound(statementCacheCapacity: 2)
        var whole = ByteWriter()
        var apart = ByteWriter()
        let statement = outbound.statements.insert(key("SELECT $1"))
        let cells: [UInt8] = [0, 0, 0, 2, 8, 9]
        for parse in [true, false] {
            let before = outbound.messageCount
            try cells.withUnsafeBytes { cells in
                let parameters = Outbound.Parameters(count: 1, formats: .all(.binary), cells: cells)
                let request = try outbound.execute(
                    statement, parse: parse, sync: true, parameters, .all(.binary), into: &whole)
                let (same, place) = try outbound.executeAroundCells(
                    statement, parse: parse, parameters, .all(.binary), into: &apart)
                #expect(same.parts == request.parts)
                #expect(apart.count == whole.count - cells.count)
                apart.insert(cells, at: place)
            }
            #expect(apart.written == whole.written)
            #expect(outbound.messageCount - before == (parse ? 10 : 6))
        }
        let end = whole.count
        let bad = Outbound.Parameters(
            count: 65_536, formats: .none, cells: UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(throws: EncodingError.tooMany("parameters", count: 65_536)) {
            try outbound.executeAroundCells(statement, parse: false, bad, .all(.binary), into: &whole)
        }
        #expect(whole.count == end)
    }

    @Test func `a portal is bound, fetched from and closed by its name`() throws {
        var outbound = Outbound(statementCacheCapacity: 1)
        _ = outbound.statements.insert(key("a"))
        _ = outbound.statements.insert(key("b"))
        let statement = PreparedStatement(name: [], key: key("SELECT 1"))
        var writer = ByteWriter()
        let opening = try outbound.open(
            portal: "p", statement, maximumRows: 7, Self.none, .all(.binary), into: &writer)
        let written = messages(writer)
        #expect(written.map(\.kind) == [.close, .parse, .describe, .bind, .execute, .sync])
        #expect(written[3].strings == ["p", ""])
        #expect(written[4].body == Array("p\0".utf8) + [0, 0, 0, 7])
        #expect(opening.parts == [.parses, .describes, .executes, .limited, .syncs])
        #expect(opening.closes == 1)
        #expect(outbound.messageCount == 6)
        writer.removeAll()
        let next = try outbound.fetch(portal: "p", statement, maximumRows: 7, into: &writer)
        #expect(messages(writer).map(\.kind) == [.execute, .sync])
        #expect(next.parts == [.limited, .syncs])
        #expect(next.statement === statement)
        writer.removeAll()
        let end = try outbound.close(portal: "p", into: &writer)
        #expect(messages(writer).map(\.kind) == [.close, .sync])
        #expect(end.closes == 1)
        #expect(outbound.messageCount == 10)
    }

    @Test func `a portal that cannot be bound leaves nothing, and forgets no Close`() throws {
        var outbound = Outbound(statementCacheCapacity: 1)
        _ = outbound.statements.insert(key("a"))
        _ = outbound.statements.insert(key("b"))
        let statement = PreparedStatement(name: [], key: key("SELECT 1"))
        var writer = ByteWriter()
        #expect(throws: EncodingError.self) {
            try outbound.open(portal: "p\0", statement, maximumRows: 7, Self.none, .none, into: &writer)
        }
        #expect(writer.count == 0)
        #expect(outbound.messageCount == 0)
        #expect(outbound.statements.evicted.count == 1)
    }

    @Test func `Close of what was evicted comes before Parse, and is counted`() throws {
        var outbound = Outbound(statementCacheCapacity: 1)
        _ = outbound.statements.insert(key("a"))
        _ = outbound.statements.insert(key("b"))
        let c = outbound.statements.insert(key("c"))
        var writer = ByteWriter()
        let request = try outbound.execute(c, parse: true, sync: true, Self.none, .none, into: &writer)
        let written = messages(writer)
        #expect(written.map(\.kind) == [.close, .close, .parse, .describe, .bind, .execute, .sync])
        #expect(written.prefix(2).map(\.strings) == [["s1"], ["s2"]])
        #expect(request.closes == 2)
        #expect(outbound.messageCount == 7)
    }

    @Test func `a statement that cannot be written leaves nothing, and forgets nothing`() throws {
        var outbound = Outbound(statementCacheCapacity: 1)
        _ = outbound.statements.insert(key("a"))
        let bad = outbound.statements.insert(key("b\0"))
        var writer = ByteWriter()
        writer.write([1, 2, 3])
        #expect(throws: EncodingError.self) {
            try outbound.execute(bad, parse: true, sync: true, Self.none, .none, into: &writer)
        }
        #expect(writer.written == [1, 2, 3])
        #expect(bad.state == .gone)
        #expect(outbound.statements.takeEvicted() == [Array("s1".utf8)])
    }

    @Test func `a statement that cannot be bound leaves nothing, and forgets nothing`() throws {
        var outbound = Outbound(statementCacheCapacity: 1)
        _ = outbound.statements.insert(key("a"))
        let statement = outbound.statements.insert(key("b"))
        var writer = ByteWriter()
        writer.write([1, 2, 3])
        let tooMany = Outbound.Parameters(
            count: 65_536, formats: .none, cells: UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(throws: EncodingError.tooMany("parameters", count: 65_536)) {
            try outbound.execute(statement, parse: true, sync: true, tooMany, .none, into: &writer)
        }
        #expect(writer.written == [1, 2, 3])
        #expect(statement.state == .gone)
        #expect(outbound.statements.takeEvicted() == [Array("s1".utf8)])
        #expect(outbound.messageCount == 0)
    }

    @Test func `a statement that cannot be bound a second time stays prepared`() throws {
        var outbound = Outbound(statementCacheCapacity: 1)
        let statement = outbound.statements.insert(key("a"))
        var writer = ByteWriter()
        let tooMany = Outbound.Parameters(
            count: 65_536, formats: .none, cells: UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(throws: EncodingError.self) {
            try outbound.execute(statement, parse: false, sync: true, tooMany, .none, into: &writer)
        }
        #expect(writer.count == 0)
        #expect(statement.state == .pending)
    }

    @Test func `preparing is Parse, Describe, Sync`() throws {
        var outbound = Outbound(statementCacheCapacity: 1)
        var writer = ByteWriter()
        let statement = outbound.statements.insert(key("a"))
        let request = try outbound.prepare(statement, into: &writer)
        #expect(messages(writer).map(\.kind) == [.parse, .describe, .sync])
        #expect(request.parts == [.parses, .describes, .syncs])
        #expect(outbound.messageCount == 3)
    }

    @Test func `a script is one Query`() throws {
        var outbound = Outbound(statementCacheCapacity: 1)
        var writer = ByteWriter()
        let request = try outbound.script("SELECT 1; SELECT 2", into: &writer)
        #expect(messages(writer).map(\.kind) == [.query])
        #expect(messages(writer).first?.strings == ["SELECT 1; SELECT 2"])
        #expect(request.parts == .simple)
    }

    @Test func `a COPY is a Query, CopyData and one end`() throws {
        var outbound = Outbound(statementCacheCapacity: 4)
        var writer = ByteWriter(capacity: 64)
        let request = try outbound.copy("COPY t FROM STDIN", .copiesIn, into: &writer)
        #expect(request.parts == [.simple, .copiesIn])
        try [UInt8](repeating: 1, count: 9).span.bytes.withUnsafeBytes { bytes throws(EncodingError) in
            try outbound.copyData(bytes, into: &writer)
        }
        try outbound.endCopy(failing: nil, into: &writer)
        try outbound.endCopy(failing: "no", into: &writer)
        #expect(messages(writer).map(\.kind) == [.query, .copyData, .copyDone, .copyFail])
        #expect(outbound.messageCount == 4)
        var whole = ByteWriter(capacity: 64)
        var header = ByteWriter(capacity: 64)
        try [UInt8]([1, 2]).span.bytes.withUnsafeBytes { bytes throws(EncodingError) in
            try outbound.copyData(bytes, into: &whole)
            try outbound.copyDataHeader(of: 2, into: &header)
            header.write(bytes)
        }
        #expect(Array(header.bytes) == Array(whole.bytes))
        #expect(throws: EncodingError.self) { try outbound.copyDataHeader(of: 1 << 30, into: &header) }
        #expect(header.count == whole.count)
        let before = writer.count
        #expect(throws: EncodingError.self) { try outbound.copy("COPY\0", .copiesIn, into: &writer) }
        #expect(writer.count == before)
    }

    @Test func `a COPY is refused by CopyFail, with a Sync where the first was lost`() throws {
        var outbound = Outbound(statementCacheCapacity: 1)
        var writer = ByteWriter()
        try outbound.refuseCopy(resync: true, into: &writer)
        #expect(messages(writer).map(\.kind) == [.copyFail, .sync])
        writer.removeAll()
        try outbound.refuseCopy(resync: false, into: &writer)
        #expect(messages(writer).map(\.kind) == [.copyFail])
    }

    @Test func `a group that is cut short ends with a failure and Sync`() throws {
        var outbound = Outbound(statementCacheCapacity: 2)
        var writer = ByteWriter()
        let request = try outbound.failGroup(into: &writer)
        #expect(messages(writer).map(\.kind) == [.execute, .sync])
        // It is answered by an error, and ReadyForQuery.
        #expect(request.parts == [.limited, .syncs])
        #expect(outbound.messageCount == 2)
    }
}
