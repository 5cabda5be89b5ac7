#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

// Manual, "Message Formats": every message a client sends, except replication's own, in the manual's order.
//
// Each method appends one whole message, or throws and leaves the writer as it was. A zero byte inside a string that a
// zero byte ends is refused, and lengths are checked before anything is copied: either would let the tail of a value be
// read as the next message.

/// A version of the protocol.
package struct ProtocolVersion: RawRepresentable, Sendable, Equatable, Comparable, CustomStringConvertible {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let v30 = ProtocolVersion(rawValue: 3 << 16)
    package static let v32 = ProtocolVersion(rawValue: 3 << 16 | 2)

    package var major: UInt32 { rawValue >> 16 }
    package var minor: UInt32 { rawValue & 0xFFFF }
    package var description: String { "\(major).\(minor)" }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

extension ByteWriter {
    /// The longest startup message a server reads (its `MAX_STARTUP_PACKET_LENGTH`), length word aside.
    private static var maximumStartupLength: Int { 10_000 }

    package mutating func cancelRequest(processID: UInt32, secretKey: [UInt8]) throws(EncodingError) {
        guard BackendKeyData.keyLengths.contains(secretKey.count) else {
            throw .invalidKeyLength(secretKey.count)
        }
        try message(nil) { writer throws(EncodingError) in
            writer.write(UInt32(80_877_102))
            writer.write(processID)
            writer.write(secretKey)
        }
    }

    /// Closes the portal or statement of this name; it is no error if there is none.
    package mutating func close(statement name: String) throws(EncodingError) {
        try named(UInt8(ascii: "C"), kind: UInt8(ascii: "S"), name, "statement name")
    }

    package mutating func close(portal name: String) throws(EncodingError) {
        try named(UInt8(ascii: "C"), kind: UInt8(ascii: "P"), name, "portal name")
    }

    package mutating func copyData(_ bytes: UnsafeRawBufferPointer) throws(EncodingError) {
        try ByteWriter.check(length: bytes.count)
        try message(UInt8(ascii: "d")) { writer throws(EncodingError) in writer.write(bytes) }
    }

    /// The beginning of a CopyData whose bytes follow from elsewhere.
    package mutating func copyDataHeader(of count: Int) throws(EncodingError) {
        try ByteWriter.check(length: count)
        write(UInt8(ascii: "d"))
        // Fits, by what was checked.
        write(Int32(truncatingIfNeeded: count &+ 4))
    }

    package mutating func copyDone() { empty(UInt8(ascii: "c")) }

    package mutating func copyFail(reason: String) throws(EncodingError) {
        try text(UInt8(ascii: "f"), reason, "reason")
    }

    package mutating func describe(statement name: String) throws(EncodingError) {
        try named(UInt8(ascii: "D"), kind: UInt8(ascii: "S"), name, "statement name")
    }

    package mutating func describe(portal name: String) throws(EncodingError) {
        try named(UInt8(ascii: "D"), kind: UInt8(ascii: "P"), name, "portal name")
    }

    /// - Parameter maximumRows: 0 for all.
    package mutating func execute(portal: String, maximumRows: Int32 = 0) throws(EncodingError) {
        try message(UInt8(ascii: "E")) { writer throws(EncodingError) in
            try writer.write(zeroTerminated: portal, "portal name")
            writer.write(maximumRows)
        }
    }

    package mutating func flush() { empty(UInt8(ascii: "H")) }

    package mutating func functionCall(
        function: UInt32, argumentFormats: FormatCodes, arguments: [[UInt8]?], resultFormat: Format
    ) throws(EncodingError) {
        guard let count = UInt16(exactly: arguments.count) else { throw .tooMany("arguments", count: arguments.count) }
        guard argumentFormats.fits(arguments.count) else {
            throw .formatCount(argumentFormats.count, values: arguments.count)
        }
        try message(UInt8(ascii: "F")) { writer throws(EncodingError) in
            writer.write(function)
            writer.append(2 &+ 2 &* argumentFormats.count) { argumentFormats.store(to: &$0) }
            writer.write(count)
            for argument in arguments {
                guard let argument else {
                    writer.write(Int32(-1))
                    continue
                }
                guard let length = Int32(exactly: argument.count) else {
                    throw .messageTooLong(bytes: argument.count)
                }
                writer.write(length)
                writer.write(argument)
            }
            writer.write(resultFormat.rawValue)
        }
    }

    package mutating func gssEncRequest() { request(80_877_104) }

    package mutating func gssResponse(_ data: [UInt8]) throws(EncodingError) {
        try message(UInt8(ascii: "p")) { writer throws(EncodingError) in writer.write(data) }
    }

    package mutating func parse(
        statement name: String, sql: String, parameterTypes: some Collection<UInt32>
    ) throws(EncodingError) {
        var (name, sql) = (name, sql)
        // The bytes go through a Result: `withUTF8` rethrows only untyped errors.
        let result = name.withUTF8 { name in
            sql.withUTF8 { sql in
                Result { () throws(EncodingError) in
                    try parse(
                        statement: UnsafeRawBufferPointer(name), sql: UnsafeRawBufferPointer(sql),
                        parameterTypes: parameterTypes)
                }
            }
        }
        try result.get()
    }

    /// - Parameters:
    ///   - name: Empty for the unnamed statement.
    ///   - parameterTypes: Type OIDs; 0, or none at all, lets the server infer them.
    package mutating func parse(
        statement name: UnsafeRawBufferPointer, sql: UnsafeRawBufferPointer, parameterTypes: some Collection<UInt32>
    ) throws(EncodingError) {
        guard let count = UInt16(exactly: parameterTypes.count) else {
            throw .tooMany("parameters", count: parameterTypes.count)
        }
        try ByteWriter.check(length: name.count, sql.count)
        if name.containsZero { throw .zeroByte("statement name") }
        if sql.containsZero { throw .zeroByte("SQL text") }
        try message(UInt8(ascii: "P")) { writer throws(EncodingError) in
            writer.reserve(name.count &+ sql.count &+ 4 &+ 4 &* Int(count))
            writer.write(name)
            writer.write(UInt8(0))
            writer.write(sql)
            writer.write(UInt8(0))
            writer.write(count)
            for type in parameterTypes { writer.write(type) }
        }
    }

    package mutating func password(_ password: String) throws(EncodingError) {
        try text(UInt8(ascii: "p"), password, "password")
    }

    package mutating func query(_ sql: String) throws(EncodingError) {
        try text(UInt8(ascii: "Q"), sql, "SQL text")
    }

    /// - Parameter data: The mechanism's first message, nil if it has none.
    package mutating func saslInitialResponse(mechanism: String, data: [UInt8]?) throws(EncodingError) {
        try message(UInt8(ascii: "p")) { writer throws(EncodingError) in
            try writer.write(zeroTerminated: mechanism, "mechanism")
            guard let data else { return writer.write(Int32(-1)) }
            guard let length = Int32(exactly: data.count) else { throw .messageTooLong(bytes: data.count) }
            writer.write(length)
            writer.write(data)
        }
    }

    package mutating func saslResponse(_ data: [UInt8]) throws(EncodingError) {
        try message(UInt8(ascii: "p")) { writer throws(EncodingError) in writer.write(data) }
    }

    package mutating func sslRequest() { request(80_877_103) }

    /// - Parameter parameters: Written in this order; `user` is required by the server.
    package mutating func startup(
        version: ProtocolVersion, parameters: [(name: String, value: String)]
    ) throws(EncodingError) {
        try message(nil) { writer throws(EncodingError) in
            let start = writer.count
            writer.write(version.rawValue)
            for parameter in parameters {
                // An empty name is the end of the list: the rest would be cut off.
                if parameter.name.isEmpty { throw .emptyName("startup parameter") }
                try writer.write(zeroTerminated: parameter.name, "startup parameter name")
                try writer.write(zeroTerminated: parameter.value, "startup parameter value")
            }
            writer.write(UInt8(0))
            let length = writer.count &- start
            if length > ByteWriter.maximumStartupLength { throw .messageTooLong(bytes: length &+ 4) }
        }
    }

    package mutating func sync() { empty(UInt8(ascii: "S")) }

    package static let syncLength = 5

    /// Whether the last message in this range is a Sync.
    package func endsWithSync(_ range: Range<Int>) -> Bool {
        guard range.lowerBound >= 0, range.upperBound <= count, range.count >= ByteWriter.syncLength else {
            return false
        }
        return bytes[range.suffix(ByteWriter.syncLength)].elementsEqual([UInt8(ascii: "S"), 0, 0, 0, 4])
    }

    package mutating func terminate() { empty(UInt8(ascii: "X")) }
}

extension ByteWriter {
    /// A message without a body.
    @inline(__always)
    private mutating func empty(_ tag: UInt8) {
        append(5) { address in
            address.put(tag)
            address.put(Int32(4))
        }
    }

    /// A message of the startup family that is only its code.
    private mutating func request(_ code: UInt32) {
        append(8) { address in
            address.put(Int32(8))
            address.put(code)
        }
    }

    private mutating func text(_ tag: UInt8, _ text: String, _ field: StaticString) throws(EncodingError) {
        try ByteWriter.check(length: text.utf8.count)
        try message(tag) { writer throws(EncodingError) in try writer.write(zeroTerminated: text, field) }
    }

    private mutating func named(
        _ tag: UInt8, kind: UInt8, _ name: String, _ field: StaticString
    ) throws(EncodingError) {
        try message(tag) { writer throws(EncodingError) in
            writer.write(kind)
            try writer.write(zeroTerminated: name, field)
        }
    }

    /// Throws before a byte is copied if two parts of these lengths cannot make one message, whatever stands between.
    @inline(__always)
    static func check(length first: Int, _ second: Int = 0) throws(EncodingError) {
        let longest = max(first, second)
        // Two lengths under the limit cannot overflow their sum.
        guard longest <= maximumMessageLength, first &+ second &+ 4 <= maximumMessageLength else {
            throw .messageTooLong(bytes: longest)
        }
    }
}

extension UnsafeRawBufferPointer {
    @inline(__always)
    var containsZero: Bool {
        guard let baseAddress else { return false }
        return memchr(baseAddress, 0, count) != nil
    }
}
