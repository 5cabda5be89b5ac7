/// The sending half of a session: which messages make up a request, in one piece of the send buffer.
///
/// It lives under the connection's lock, so it runs no code but its own: parameters come as ready-made cells.
package struct Outbound: ~Copyable, Sendable {
    package var statements: StatementCache
    /// Messages written so far.
    package private(set) var messageCount = 0

    package init(statementCacheCapacity: Int) {
        statements = StatementCache(capacity: statementCacheCapacity)
    }

    /// The parameters of one execution, as Bind wants them.
    package struct Parameters {
        package let count: Int
        package let formats: FormatCodes
        /// Length words and payloads.
        package let cells: UnsafeRawBufferPointer

        @inline(__always)
        package init(count: Int, formats: FormatCodes, cells: UnsafeRawBufferPointer) {
            self.count = count
            self.formats = formats
            self.cells = cells
        }
    }

    /// Bind, Execute and, if the request has one, Sync; before them what its statement needs: Close of evicted ones, Parse and
    /// Describe.
    ///
    /// On an error nothing is left in the writer, and a statement that was to be parsed is forgotten.
    @inline(__always)
    package mutating func execute(
        _ statement: PreparedStatement, parse: Bool, sync: Bool, _ parameters: Parameters, _ formats: FormatCodes,
        into writer: inout ByteWriter
    ) throws(EncodingError) -> Request {
        let parts: Request.Parts = sync ? .executesAndSyncs : .executes
        return try execute(statement, parse: parse, parts, into: &writer) { (writer, name) throws(EncodingError) in
            if sync {
                try writer.bindExecuteSync(
                    statement: name, parameterFormats: parameters.formats, parameterCount: parameters.count,
                    cells: parameters.cells, resultFormats: formats)
            } else {
                try writer.bind(
                    statement: name, parameterFormats: parameters.formats, parameterCount: parameters.count,
                    cells: parameters.cells, resultFormats: formats)
                writer.execute()
            }
        }
    }

    /// The same, with Sync, but without the cells of the parameters: those are sent from where they lie.
    ///
    /// - Returns: also where in the writer they belong.
    package mutating func executeAroundCells(
        _ statement: PreparedStatement, parse: Bool, _ parameters: Parameters, _ formats: FormatCodes,
        into writer: inout ByteWriter
    ) throws(EncodingError) -> (Request, place: Int) {
        var place = 0
        let request = try execute(statement, parse: parse, .executesAndSyncs, into: &writer) {
            (writer, name) throws(EncodingError) in
            place = try writer.bindExecuteSync(
                around: parameters.cells, statement: name, parameterFormats: parameters.formats,
                parameterCount: parameters.count, resultFormats: formats)
        }
        return (request, place)
    }

    /// - Parameter bind: writes Bind, Execute, and Sync if that is among the parts, to the statement of this name.
    @inline(__always)
    private mutating func execute(
        _ statement: PreparedStatement, parse: Bool, _ parts: Request.Parts, into writer: inout ByteWriter,
        _ bind: (inout ByteWriter, UnsafeRawBufferPointer) throws(EncodingError) -> Void
    ) throws(EncodingError) -> Request {
        var request = Request(parts, statement: statement)
        let start = writer.count
        let evicted = parse ? statements.evicted : []
        if parse { try self.parse(statement, into: &writer, &request) }
        do {
            try statement.name.withUnsafeBufferPointer { name throws(EncodingError) in
                try bind(&writer, UnsafeRawBufferPointer(name))
            }
        } catch {
            writer.truncate(to: start)
            if parse { takeBack(statement, evicted) }
            throw error
        }
        messageCount &+= parts == .executesAndSyncs ? 3 : 2
        return request
    }

    /// Parse, Describe, Bind of a portal with a name, Execute of its first rows, and Sync. The statement is the unnamed one: a
    /// portal outlives it, and a cursor is worth a Parse.
    package mutating func open(
        portal: String, _ statement: PreparedStatement, maximumRows: Int32, _ parameters: Parameters,
        _ formats: FormatCodes, into writer: inout ByteWriter
    ) throws(EncodingError) -> Request {
        var request = Request([.executes, .limited, .syncs], statement: statement)
        let start = writer.count
        let evicted = statements.evicted
        try parse(statement, into: &writer, &request)
        do {
            try Array(portal.utf8).withUnsafeBufferPointer { name throws(EncodingError) in
                try writer.bind(
                    portal: UnsafeRawBufferPointer(name), statement: UnsafeRawBufferPointer(start: nil, count: 0),
                    parameterFormats: parameters.formats, parameterCount: parameters.count, cells: parameters.cells,
                    resultFormats: formats)
            }
            try writer.execute(portal: portal, maximumRows: maximumRows)
        } catch {
            writer.truncate(to: start)
            takeBack(statement, evicted)
            throw error
        }
        writer.sync()
        messageCount &+= 3
        return request
    }

    /// Execute of a portal's next rows, and Sync.
    package mutating func fetch(
        portal: String, _ statement: PreparedStatement, maximumRows: Int32, into writer: inout ByteWriter
    ) throws(EncodingError) -> Request {
        try writer.execute(portal: portal, maximumRows: maximumRows)
        writer.sync()
        messageCount &+= 2
        return Request([.limited, .syncs], statement: statement)
    }

    /// Close of a portal, and Sync.
    package mutating func close(portal: String, into writer: inout ByteWriter) throws(EncodingError) -> Request {
        try writer.close(portal: portal)
        writer.sync()
        messageCount &+= 2
        return Request(.syncs, closes: 1)
    }

    /// Parse, Describe and Sync alone.
    package mutating func prepare(
        _ statement: PreparedStatement, into writer: inout ByteWriter
    ) throws(EncodingError) -> Request {
        var request = Request(.syncs, statement: statement)
        try parse(statement, into: &writer, &request)
        writer.sync()
        messageCount &+= 1
        return request
    }

    /// A simple Query.
    package mutating func script(_ sql: String, into writer: inout ByteWriter) throws(EncodingError) -> Request {
        try writer.query(sql)
        messageCount &+= 1
        return Request(.simple)
    }

    /// A simple Query that is one COPY; `direction` is `copiesIn` or `copiesOut`.
    package mutating func copy(
        _ sql: String, _ direction: Request.Parts, into writer: inout ByteWriter
    ) throws(EncodingError) -> Request {
        try writer.query(sql)
        messageCount &+= 1
        return Request(direction.union(.simple))
    }

    /// A piece of a COPY FROM STDIN.
    package mutating func copyData(
        _ bytes: UnsafeRawBufferPointer, into writer: inout ByteWriter
    ) throws(EncodingError) {
        try writer.copyData(bytes)
        messageCount &+= 1
    }

    /// The beginning of such a piece, whose bytes follow from elsewhere.
    package mutating func copyDataHeader(of count: Int, into writer: inout ByteWriter) throws(EncodingError) {
        try writer.copyDataHeader(of: count)
        messageCount &+= 1
    }

    /// The end of a COPY FROM STDIN: CopyDone, or CopyFail with a reason.
    package mutating func endCopy(failing reason: String?, into writer: inout ByteWriter) throws(EncodingError) {
        if let reason { try writer.copyFail(reason: reason) } else { writer.copyDone() }
        messageCount &+= 1
    }

    /// A Sync of its own: the end of an atomic group, or a sign of life.
    package mutating func sync(into writer: inout ByteWriter) -> Request {
        writer.sync()
        messageCount &+= 1
        return Request(.syncs)
    }

    /// Execute of a portal that there is not, and Sync: the end of a group that is not to take effect.
    package mutating func failGroup(into writer: inout ByteWriter) throws(EncodingError) -> Request {
        try writer.execute(portal: "postgres_swift_cut_short", maximumRows: 0)
        writer.sync()
        messageCount &+= 2
        return Request([.limited, .syncs])
    }

    /// CopyFail, and a Sync for the one that the server ignored while it waited for data.
    package mutating func refuseCopy(resync: Bool, into writer: inout ByteWriter) throws(EncodingError) {
        try writer.copyFail(reason: "COPY was not asked for")
        if resync { writer.sync() }
        messageCount &+= resync ? 2 : 1
    }

    /// The driver took an execution out of the writer again, but for its Sync. Nobody may have bound to a statement that it parses.
    package mutating func tookBack(_ request: Request) {
        messageCount &-= 2
        guard request.parts.contains(.parses), let statement = request.statement else { return }
        takeBack(statement, statement.closing)
        statement.closing = []
    }

    /// A Parse that was written before a Bind that cannot be.
    @inline(never)
    private mutating func takeBack(_ statement: PreparedStatement, _ evicted: [[UInt8]]) {
        statements.remove(statement)
        statements.putBack(evicted)
        messageCount &-= 2 &+ evicted.count
    }

    @inline(never)
    private mutating func parse(
        _ statement: PreparedStatement, into writer: inout ByteWriter, _ request: inout Request
    ) throws(EncodingError) {
        let start = writer.count
        let evicted = statements.takeEvicted()
        do {
            for name in evicted { try writer.close(statement: String(decoding: name, as: UTF8.self)) }
            try statement.name.withUnsafeBufferPointer { name throws(EncodingError) in
                let name = UnsafeRawBufferPointer(name)
                try statement.key.sql.withUnsafeBufferPointer { sql throws(EncodingError) in
                    try writer.parse(
                        statement: name, sql: UnsafeRawBufferPointer(sql), parameterTypes: statement.key.parameterTypes)
                }
            }
            try writer.describe(statement: String(decoding: statement.name, as: UTF8.self))
        } catch {
            writer.truncate(to: start)
            statements.putBack(evicted)
            statements.remove(statement)
            throw error
        }
        statement.closing = evicted
        request.closes = evicted.count
        request.parts.formUnion([.parses, .describes])
        messageCount &+= 2 &+ evicted.count
    }
}
