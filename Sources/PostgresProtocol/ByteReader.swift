#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A cursor over one message body, or one value: big-endian integers and zero-terminated strings, never past the end.
///
/// The bytes are lent: a reader, and every buffer it returns, is valid only as long as they are.
package struct ByteReader {
    private let bytes: UnsafeRawBufferPointer
    /// Only for errors: the type of the message these bytes are the body of, 0 if they are none.
    private let message: UInt8
    package private(set) var offset = 0

    @inline(__always)
    package init(_ bytes: UnsafeRawBufferPointer, message: UInt8 = 0) {
        self.bytes = bytes
        self.message = message
    }

    @inline(__always)
    package var remaining: Int { bytes.count &- offset }

    @inline(__always)
    package mutating func read<Integer: FixedWidthInteger>(
        _: Integer.Type = Integer.self
    ) throws(ProtocolError) -> Integer {
        let size = MemoryLayout<Integer>.size
        guard remaining >= size else { throw truncated }
        let value = bytes.loadUnaligned(fromByteOffset: offset, as: Integer.self)
        offset &+= size
        return Integer(bigEndian: value)
    }

    @inline(__always)
    package mutating func readBytes(_ count: Int) throws(ProtocolError) -> UnsafeRawBufferPointer {
        guard count >= 0, count <= remaining else { throw truncated }
        let start = offset
        offset &+= count
        return UnsafeRawBufferPointer(rebasing: bytes[start..<offset])
    }

    /// Everything that is left.
    @inline(__always)
    package mutating func readRest() -> UnsafeRawBufferPointer {
        let start = offset
        offset = bytes.count
        return UnsafeRawBufferPointer(rebasing: bytes[start...])
    }

    /// The bytes before the next zero byte, which is skipped.
    package mutating func readZeroTerminatedBytes() throws(ProtocolError) -> UnsafeRawBufferPointer {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
        guard let start = rest.baseAddress, let zero = memchr(start, 0, rest.count) else { throw truncated }
        let count = UnsafeRawPointer(zero) - start
        offset &+= count &+ 1
        return UnsafeRawBufferPointer(rebasing: rest[..<count])
    }

    /// A zero-terminated string that must be valid UTF-8: text is never repaired.
    package mutating func readString(_ field: StaticString) throws(ProtocolError) -> String {
        let text = try readZeroTerminatedBytes()
        guard let string = String(validating: text, as: UTF8.self) else {
            throw .invalidUTF8(message: message, field: "\(field)")
        }
        return string
    }

    /// A 16-bit count of items that take at least `minimumSize` bytes each.
    ///
    /// Nothing is allocated for a count that the bytes at hand cannot back.
    package mutating func readCount(minimumSize: Int) throws(ProtocolError) -> Int {
        let count = Int(try read(UInt16.self))
        guard count &* minimumSize <= remaining else { throw truncated }
        return count
    }

    /// Every message must use up exactly its length.
    @inline(__always)
    package func finish() throws(ProtocolError) {
        if remaining != 0 { throw trailing }
    }

    private var truncated: ProtocolError {
        @inline(never) get { .truncated(message: message, offset: offset) }
    }

    private var trailing: ProtocolError {
        @inline(never) get { .trailingBytes(message: message, count: remaining) }
    }
}
