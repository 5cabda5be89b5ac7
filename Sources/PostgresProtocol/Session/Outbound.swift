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
        /// Format codes behind their count, in network byte order.
        package let formatCodes: [UInt8]
        /// Length words and payloads.
        package let cells: UnsafeRawBufferPointer

        package init(count: Int, formatCodes: [UInt8], cells: UnsafeRawBufferPointer) {
            self.count = count
            self.formatCodes = formatCodes
            self.cells = cells
        }
    }

    /// Result formats: a bit a column, set for binary; a count of 0 means one code for all.
    package struct ResultFormatCodes: Sendable {
        package let binary: UInt64
        package let count: UInt16

        package init(binary: UInt64, count: UInt16) {
            self.binary = binary
            self.count = count
        }
    }

    /// Bind, Execute and, if the request has one, Sync; before them what its statement needs: Close of evicted ones, Parse and
    /// Describe.
    ///
    /// On an error nothing is left in the writer, and a statement that was to be parsed is forgotten.
    package mutating func execute(
        _ statement: PreparedStatement, parse: Bool, sync: Bool, _ parameters: Parameters, _ formats: ResultFormatCodes,
        into writer: inout ByteWriter
    ) throws(EncodingError) -> Request {
        let start = writer.count
        var request = Request([.executes], statement: statement)
        var messages = 2
        do {
            if parse {
                try self.parse(statement, into: &writer, &request, &messages)
            }
            try writer.bind(statement.name, parameters, formats)
        } catch {
            writer.truncate(to: start)
            if parse { statements.remove(statement) }
            throw error
        }
        writer.executeUnnamed()
        if sync {
            writer.synchronize()
            request.parts.insert(.syncs)
            messages &+= 1
        }
        messageCount &+= messages
        return request
    }

    /// Parse, Describe and Sync alone.
    package mutating func prepare(
        _ statement: PreparedStatement, into writer: inout ByteWriter
    ) throws(EncodingError) -> Request {
        let start = writer.count
        var request = Request([.syncs], statement: statement)
        var messages = 1
        do {
            try parse(statement, into: &writer, &request, &messages)
        } catch {
            writer.truncate(to: start)
            statements.remove(statement)
            throw error
        }
        writer.synchronize()
        messageCount &+= messages
        return request
    }

    /// A simple Query.
    package mutating func script(_ sql: String, into writer: inout ByteWriter) throws(EncodingError) -> Request {
        try writer.message(UInt8(ascii: "Q")) { writer throws(EncodingError) in
            try writer.write(zeroTerminated: sql, "SQL")
        }
        messageCount &+= 1
        return Request([.simple])
    }

    /// A Sync of its own: the end of an atomic group, or a sign of life.
    package mutating func sync(into writer: inout ByteWriter) -> Request {
        writer.synchronize()
        messageCount &+= 1
        return Request([.syncs])
    }

    private mutating func parse(
        _ statement: PreparedStatement, into writer: inout ByteWriter, _ request: inout Request, _ messages: inout Int
    ) throws(EncodingError) {
        let evicted = statements.takeEvicted()
        for name in evicted {
            try writer.message(UInt8(ascii: "C")) { writer throws(EncodingError) in
                writer.write(UInt8(ascii: "S"))
                writer.write(name)
                writer.write(UInt8(0))
            }
        }
        try writer.message(UInt8(ascii: "P")) { writer throws(EncodingError) in
            writer.write(statement.name)
            writer.write(UInt8(0))
            guard !statement.key.sql.contains(0) else { throw .zeroByte("SQL") }
            writer.write(statement.key.sql)
            writer.write(UInt8(0))
            guard let count = UInt16(exactly: statement.key.parameterTypes.count) else {
                throw .tooMany("parameters", count: statement.key.parameterTypes.count)
            }
            writer.write(count)
            for type in statement.key.parameterTypes { writer.write(type) }
        }
        try writer.message(UInt8(ascii: "D")) { writer throws(EncodingError) in
            writer.write(UInt8(ascii: "S"))
            writer.write(statement.name)
            writer.write(UInt8(0))
        }
        request.closes = evicted.count
        request.parts.formUnion([.parses, .describes])
        messages &+= 2 &+ evicted.count
    }
}

extension ByteWriter {
    /// Bind of the unnamed portal.
    @inline(__always)
    fileprivate mutating func bind(
        _ statement: [UInt8], _ parameters: Outbound.Parameters, _ formats: Outbound.ResultFormatCodes
    ) throws(EncodingError) {
        guard let parameterCount = UInt16(exactly: parameters.count) else {
            throw .tooMany("parameters", count: parameters.count)
        }
        let (size, overflows) = parameters.cells.count.addingReportingOverflow(
            statement.count &+ parameters.formatCodes.count &+ 2 &* Int(formats.count) &+ 16)
        guard !overflows, size <= ByteWriter.maximumMessageLength else {
            throw .messageTooLong(bytes: parameters.cells.count)
        }
        // Room for Execute and Sync, too.
        reserve(size &+ 32)
        try message(UInt8(ascii: "B")) { writer throws(EncodingError) in
            writer.write(UInt8(0))  // portal: unnamed
            writer.write(statement)
            writer.write(UInt8(0))
            writer.write(parameters.formatCodes)
            writer.write(parameterCount)
            writer.write(parameters.cells)
            if formats.count == 0 {
                writer.write(UInt16(1))
                writer.write(UInt16(formats.binary == 0 ? 0 : 1))
            } else {
                writer.write(formats.count)
                for column in 0..<formats.count {
                    writer.write(column < 64 ? UInt16(truncatingIfNeeded: formats.binary >> UInt64(column) & 1) : 0)
                }
            }
        }
    }

    /// Execute of the unnamed portal, all rows: tag, length 9, empty name, limit 0.
    @inline(__always)
    fileprivate mutating func executeUnnamed() {
        write(UInt8(ascii: "E"))
        write(Int32(9))
        write(UInt8(0))
        write(Int32(0))
    }

    @inline(__always)
    fileprivate mutating func synchronize() {
        write(UInt8(ascii: "S"))
        write(Int32(4))
    }
}
