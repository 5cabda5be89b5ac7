// Manual, "Message Formats": Bind, Execute and Sync, the messages of every prepared execution. Their sizes are known
// before they are written, so one reservation serves all of it.

extension ByteWriter {
    /// Binds parameters to a prepared statement.
    ///
    /// - Parameters:
    ///   - portal: The bytes of the portal's name, empty for the unnamed one.
    ///   - statement: The bytes of the statement's name, empty for the unnamed one.
    ///   - cells: For each parameter its length word (-1 for NULL) and its bytes, `parameterCount` of them, ready made.
    @inline(__always)
    package mutating func bind(
        portal: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        statement: UnsafeRawBufferPointer, parameterFormats: FormatCodes, parameterCount: Int,
        cells: UnsafeRawBufferPointer, resultFormats: FormatCodes
    ) throws(EncodingError) {
        let length = try ByteWriter.bindLength(
            portal: portal, statement: statement, parameterFormats: parameterFormats, parameterCount: parameterCount,
            cells: cells, resultFormats: resultFormats)
        append(1 &+ length) { address in
            ByteWriter.storeBind(
                to: &address, length: length, portal: portal, statement: statement,
                parameterFormats: parameterFormats, parameterCount: parameterCount, cells: cells,
                resultFormats: resultFormats)
        }
    }

    /// Bind, Execute and Sync on the unnamed portal, all rows.
    @inline(__always)
    package mutating func bindExecuteSync(
        statement: UnsafeRawBufferPointer, parameterFormats: FormatCodes, parameterCount: Int,
        cells: UnsafeRawBufferPointer, resultFormats: FormatCodes
    ) throws(EncodingError) {
        let portal = UnsafeRawBufferPointer(start: nil, count: 0)
        let length = try ByteWriter.bindLength(
            portal: portal, statement: statement, parameterFormats: parameterFormats, parameterCount: parameterCount,
            cells: cells, resultFormats: resultFormats)
        append(1 &+ length &+ 15) { address in
            ByteWriter.storeBind(
                to: &address, length: length, portal: portal, statement: statement,
                parameterFormats: parameterFormats, parameterCount: parameterCount, cells: cells,
                resultFormats: resultFormats)
            ByteWriter.storeExecute(to: &address)
            ByteWriter.storeSync(to: &address)
        }
    }

    /// Bind, Execute and Sync on the unnamed portal, all rows, but without the cells: those are sent from where they lie.
    ///
    /// - Returns: where they belong.
    package mutating func bindExecuteSync(
        around cells: UnsafeRawBufferPointer, statement: UnsafeRawBufferPointer, parameterFormats: FormatCodes,
        parameterCount: Int, resultFormats: FormatCodes
    ) throws(EncodingError) -> Int {
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        let length = try ByteWriter.bindLength(
            portal: nothing, statement: statement, parameterFormats: parameterFormats, parameterCount: parameterCount,
            cells: cells, resultFormats: resultFormats)
        append(1 &+ length &- cells.count &+ 15) { address in
            ByteWriter.storeBind(
                to: &address, length: length, portal: nothing, statement: statement,
                parameterFormats: parameterFormats, parameterCount: parameterCount, cells: nothing,
                resultFormats: resultFormats)
            ByteWriter.storeExecute(to: &address)
            ByteWriter.storeSync(to: &address)
        }
        return count &- 15 &- 2 &- 2 &* resultFormats.count
    }

    /// Execute on the unnamed portal, all rows.
    @inline(__always)
    package mutating func execute() { append(10) { ByteWriter.storeExecute(to: &$0) } }

    /// Execute on the unnamed portal, all rows, and Sync.
    @inline(__always)
    package mutating func executeSync() {
        append(15) { address in
            ByteWriter.storeExecute(to: &address)
            ByteWriter.storeSync(to: &address)
        }
    }

    /// The value of Bind's length word, once everything that could be wrong with the message has been looked at.
    @inline(__always)
    private static func bindLength(
        portal: UnsafeRawBufferPointer, statement: UnsafeRawBufferPointer, parameterFormats: FormatCodes,
        parameterCount: Int, cells: UnsafeRawBufferPointer, resultFormats: FormatCodes
    ) throws(EncodingError) -> Int {
        guard UInt16(exactly: parameterCount) != nil else { throw .tooMany("parameters", count: parameterCount) }
        guard parameterFormats.fits(parameterCount) else {
            throw .formatCount(parameterFormats.count, values: parameterCount)
        }
        guard UInt16(exactly: resultFormats.count) != nil else {
            throw .tooMany("result columns", count: resultFormats.count)
        }
        guard resultFormats.fits(resultFormats.count) else {
            throw .formatCount(resultFormats.count, values: 64)
        }
        // What is longer than the limit by itself must not reach the sum below.
        guard portal.count <= maximumMessageLength, statement.count <= maximumMessageLength,
            cells.count <= maximumMessageLength
        else { throw .messageTooLong(bytes: max(portal.count, statement.count, cells.count)) }
        if portal.containsZero { throw .zeroByte("portal name") }
        if statement.containsZero { throw .zeroByte("statement name") }
        let names = portal.count &+ 1 &+ statement.count &+ 1
        let codes = 2 &+ 2 &* parameterFormats.count &+ 2 &+ 2 &* resultFormats.count
        let length = 4 &+ names &+ codes &+ 2 &+ cells.count
        guard length <= maximumMessageLength else { throw .messageTooLong(bytes: length) }
        return length
    }

    @inline(__always)
    private static func storeBind(
        to address: inout UnsafeMutableRawPointer, length: Int, portal: UnsafeRawBufferPointer,
        statement: UnsafeRawBufferPointer, parameterFormats: FormatCodes, parameterCount: Int,
        cells: UnsafeRawBufferPointer, resultFormats: FormatCodes
    ) {
        address.put(UInt8(ascii: "B"))
        address.put(Int32(truncatingIfNeeded: length))
        address.put(portal)
        address.put(UInt8(0))
        address.put(statement)
        address.put(UInt8(0))
        parameterFormats.store(to: &address)
        address.put(UInt16(truncatingIfNeeded: parameterCount))
        address.put(cells)
        resultFormats.store(to: &address)
    }

    @inline(__always)
    private static func storeExecute(to address: inout UnsafeMutableRawPointer) {
        address.put(UInt8(ascii: "E"))
        address.put(Int32(9))
        address.put(UInt8(0))
        address.put(Int32(0))
    }

    @inline(__always)
    private static func storeSync(to address: inout UnsafeMutableRawPointer) {
        address.put(UInt8(ascii: "S"))
        address.put(Int32(4))
    }
}
