#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// An output buffer that grows: messages are appended to it whole, or not at all.
///
/// Integers are written in network byte order (manual, "Message Data Types"). `message(_:_:)` leaves room for the length
/// word, and fills it in from the bytes that were really written; if the body throws or the message is too long, the buffer
/// is cut back to where the message began, so that a failed message leaves no trace.
package struct ByteWriter: ~Copyable {
    /// The longest message PostgreSQL accepts is a little under 1 GiB (its `MaxAllocSize`), length word included.
    package static let maximumMessageLength = 0x3FFF_FFFE

    // Owned by this value, and freed in `deinit`; never handed out except to a closure.
    @usableFromInline package private(set) var base: UnsafeMutableRawPointer
    @usableFromInline package private(set) var capacity: Int
    /// Bytes written so far.
    @usableFromInline package private(set) var count = 0

    /// How often in a row it was used for little since it grew large.
    private var smallUses = 0

    package init(capacity: Int = 4096) {
        let size = max(capacity, 64)
        base = .allocate(byteCount: size, alignment: 16)
        self.capacity = size
    }

    deinit { base.deallocate() }

    @inline(never)
    private mutating func grow(by additional: Int) {
        var size = capacity
        repeat { size &*= 2 } while size &- count < additional
        let larger = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
        larger.copyMemory(from: base, byteCount: count)
        base.deallocate()
        base = larger
        capacity = size
    }

    /// Makes room for `additional` more bytes.
    @inline(__always)
    package mutating func reserve(_ additional: Int) {
        if capacity &- count < additional { grow(by: additional) }
    }

    @inline(__always)
    package mutating func write<Integer: FixedWidthInteger>(_ value: Integer) {
        let size = MemoryLayout<Integer>.size
        reserve(size)
        (base + count).storeBytes(of: value.bigEndian, as: Integer.self)
        count &+= size
    }

    @inline(__always)
    package mutating func write(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        reserve(bytes.count)
        (base + count).copyMemory(from: source, byteCount: bytes.count)
        count &+= bytes.count
    }

    /// Appends `size` bytes that `store` puts at the address it is lent: exactly so many, as it moves the address past them.
    ///
    /// For messages whose size is known beforehand: one reservation, no further check.
    @inline(__always)
    mutating func append(_ size: Int, _ store: (inout UnsafeMutableRawPointer) -> Void) {
        reserve(size)
        var address = base + count
        store(&address)
        count = address - base
    }

    package mutating func write(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { write($0) }
    }

    package mutating func write(utf8 text: String) {
        var text = text
        text.withUTF8 { write(UnsafeRawBufferPointer($0)) }
    }

    /// A string and the zero byte that ends it.
    ///
    /// - Throws: ``EncodingError/zeroByte(_:)`` if the text holds a zero byte itself: the server would read what follows
    ///   as the next field.
    package mutating func write(zeroTerminated text: String, _ field: StaticString) throws(EncodingError) {
        var text = text
        let holdsZero = text.withUTF8 { bytes in
            if let start = bytes.baseAddress, memchr(start, 0, bytes.count) != nil { return true }
            write(UnsafeRawBufferPointer(bytes))
            return false
        }
        if holdsZero { throw .zeroByte("\(field)") }
        write(UInt8(0))
    }

    /// Overwrites four bytes that were written before.
    @inline(__always)
    package mutating func patch(_ value: Int32, at offset: Int) {
        guard offset >= 0, offset <= count &- 4 else { return }
        (base + offset).storeBytes(of: value.bigEndian, as: Int32.self)
    }

    /// Forgets what was written after `position`.
    package mutating func truncate(to position: Int) {
        if position >= 0, position < count { count = position }
    }

    /// Puts bytes into the middle of what was written; what stands behind the place moves.
    package mutating func insert(_ bytes: UnsafeRawBufferPointer, at place: Int) {
        guard let source = bytes.baseAddress, place >= 0, place <= count else { return }
        reserve(bytes.count)
        (base + place + bytes.count).copyMemory(from: base + place, byteCount: count &- place)
        (base + place).copyMemory(from: source, byteCount: bytes.count)
        count &+= bytes.count
    }

    /// Takes out what was written in the middle; what stands behind it moves up.
    package mutating func remove(_ range: Range<Int>) {
        guard range.lowerBound >= 0, range.upperBound <= count, !range.isEmpty else { return }
        (base + range.lowerBound).copyMemory(from: base + range.upperBound, byteCount: count &- range.upperBound)
        count &-= range.count
    }

    package mutating func removeAll() { count = 0 }

    /// Empties it after use. Memory that a large message needed is given up only when many small ones came after it: whoever sends
    /// large messages sends more of them, and new pages cost more than the copying.
    package mutating func recycle() {
        if capacity > ByteWriter.keptCapacity {
            smallUses = count < capacity / 8 ? smallUses &+ 1 : 0
            if smallUses > 64 || capacity > ByteWriter.largestKeptCapacity {
                base.deallocate()
                base = .allocate(byteCount: ByteWriter.keptCapacity, alignment: 16)
                capacity = ByteWriter.keptCapacity
                smallUses = 0
            }
        }
        count = 0
    }

    private static let keptCapacity = 65_536
    private static let largestKeptCapacity = 16 << 20

    /// One message: type byte (absent in the startup family), length word, body.
    @inline(__always)
    package mutating func message(
        _ tag: UInt8?, _ body: (inout ByteWriter) throws(EncodingError) -> Void
    ) throws(EncodingError) {
        let start = count
        if let tag { write(tag) }
        let lengthAt = count
        write(Int32(0))
        do {
            try body(&self)
        } catch {
            truncate(to: start)
            throw error
        }
        let length = count &- lengthAt
        guard length <= ByteWriter.maximumMessageLength, let word = Int32(exactly: length) else {
            truncate(to: start)
            throw .messageTooLong(bytes: length)
        }
        patch(word, at: lengthAt)
    }

    /// The bytes written so far; valid until more are.
    @inline(__always)
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    package func withBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: base, count: count))
    }
}

// The memory is owned by one value that cannot be copied, so moving it to another thread is safe.
extension ByteWriter: @unchecked Sendable {}

/// Why a message could not be written. Nothing of it was.
package enum EncodingError: Error, Equatable {
    /// A zero byte inside a string that the protocol ends with one.
    case zeroByte(String)
    case messageTooLong(bytes: Int)
    /// More than 65,535 parameters, or result columns.
    case tooMany(String, count: Int)
    /// Neither no format code, nor one, nor one for each value.
    case formatCount(Int, values: Int)
    /// A name that may not be empty is.
    case emptyName(String)
    /// A cancellation key is 4 to 256 bytes long.
    case invalidKeyLength(Int)
}

extension UnsafeMutableRawPointer {
    /// Stores an integer in network byte order and moves past it. Only inside ``ByteWriter/append(_:_:)``.
    @inline(__always)
    mutating func put<Integer: FixedWidthInteger>(_ value: Integer) {
        storeBytes(of: value.bigEndian, as: Integer.self)
        self += MemoryLayout<Integer>.size
    }

    /// Copies bytes and moves past them. Only inside ``ByteWriter/append(_:_:)``.
    @inline(__always)
    mutating func put(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        copyMemory(from: source, byteCount: bytes.count)
        self += bytes.count
    }
}
