/// Where parameters write themselves. What is appended becomes part of one query, or of one array.
///
/// Counters are stored properties of a value, so that they stay in registers while a query literal is built; `seal` stores
/// them once.
public struct PostgresEncoder {
    // Only this value refers to `storage` until it is sealed, and the two pointers lie inside it.
    @usableFromInline var storage: QueryStorage
    @usableFromInline var segmentBase: UnsafeMutablePointer<QuerySegment>
    @usableFromInline var byteBase: UnsafeMutableRawPointer
    @usableFromInline var segments = 0
    @usableFromInline var segmentCapacity: Int
    @usableFromInline var bytes = 0
    @usableFromInline var byteCapacity: Int
    @usableFromInline var parameters = 0
    /// How many parameters were written as text.
    @usableFromInline var textParameters = 0
    @usableFromInline var identity: UInt64 = 0x9E37_79B9_7F4A_7C15
    @usableFromInline var isNull = false
    /// Texts, and the first failure of a value that had no way to throw: that is thrown when the query is run, before anything is
    /// sent.
    @usableFromInline var extras: QueryExtras?

    @inlinable
    init(segments: Int, bytes: Int) {
        storage = .make(segments: segments, bytes: bytes)
        segmentBase = storage.segmentBase
        byteBase = storage.byteBase(segments: segments)
        segmentCapacity = segments
        byteCapacity = bytes
    }

    /// An encoder to collect bytes in, outside of any query.
    public init(capacity: Int = 256) { self.init(segments: 1, bytes: max(capacity, 16)) }

    /// Bytes written so far.
    public var byteCount: Int { bytes }

    /// Forgets everything written, errors included, and keeps the memory.
    public mutating func removeAll() {
        bytes = 0
        segments = 0
        parameters = 0
        textParameters = 0
        extras = nil
        isNull = false
    }

    /// Appends an integer in network byte order.
    @inlinable @inline(__always)
    public mutating func write<Integer: FixedWidthInteger>(_ value: Integer) {
        let size = MemoryLayout<Integer>.size
        reserve(size)
        (byteBase + bytes).storeBytes(of: value.bigEndian, as: Integer.self)
        bytes &+= size
    }

    /// Appends bytes as they are.
    @inlinable
    public mutating func write(_ source: UnsafeRawBufferPointer) {
        guard let start = source.baseAddress else { return }
        reserve(source.count)
        (byteBase + bytes).copyMemory(from: start, byteCount: source.count)
        bytes &+= source.count
    }

    /// Appends bytes as they are.
    @inlinable
    public mutating func write(_ source: [UInt8]) {
        source.withUnsafeBytes { write($0) }
    }

    /// Appends the UTF-8 of a text, without a zero byte behind it. A NUL inside is not looked for.
    @inlinable
    public mutating func write(utf8 text: String) {
        var text = text
        text.withUTF8 { write(UnsafeRawBufferPointer($0)) }
    }

    /// Appends text; false, and nothing is written, if there is a NUL in it.
    @usableFromInline
    mutating func write(text source: UnsafeRawBufferPointer) -> Bool {
        guard let start = source.baseAddress else { return true }
        reserve(source.count)
        guard PostgresText.copy(start, to: byteBase + bytes, source.count) else { return false }
        bytes &+= source.count
        return true
    }

    /// Makes the value that is being written NULL.
    @inlinable public mutating func writeNull() { isNull = true }

    /// A length and the value's bytes, or length -1 for NULL: the form of a value in Bind, in arrays and in binary COPY.
    @inlinable @inline(__always)
    public mutating func writeCell<Value: PostgresEncodable>(_ value: borrowing Value) throws(PostgresError) {
        try value.encodeCell(into: &self)
    }

    /// A cell whose length is known only when it was written.
    @inlinable
    mutating func writeMeasuredCell<Value: PostgresEncodable>(_ value: borrowing Value) throws(PostgresError) {
        let start = bytes
        write(Int32(0))
        do {
            try value.encode(into: &self)
        } catch {
            bytes = start
            isNull = false
            throw error
        }
        if isNull {
            isNull = false
            bytes = start &+ 4
            (byteBase + start).storeBytes(of: Int32(-1).bigEndian, as: Int32.self)
        } else {
            let length = bytes &- start &- 4
            // 1 GiB is the server's limit for a value; the message's own limit is judged when it is sent.
            guard length <= 0x3FFF_FFFF else {
                bytes = start
                throw Self.tooLong(length)
            }
            (byteBase + start).storeBytes(of: Int32(truncatingIfNeeded: length).bigEndian, as: Int32.self)
        }
    }

    // The stores below stay in bounds: `reserve(n)` leaves room for n bytes behind the `bytes` first ones, n is the sum of what is
    // stored, and `bytes` grows by that. Memory is raw, so a store may have any type, and `storeBytes` asks for no alignment.
    @inlinable @inline(__always)
    mutating func writeCell<Integer: FixedWidthInteger>(ofInteger value: Integer) {
        let size = MemoryLayout<Integer>.size
        reserve(4 &+ size)
        let cell = byteBase + bytes
        cell.storeBytes(of: Int32(truncatingIfNeeded: size).bigEndian, as: Int32.self)
        (cell + 4).storeBytes(of: value.bigEndian, as: Integer.self)
        bytes &+= 4 &+ size
    }

    /// A cell of a text, behind a byte that says in which form it is.
    ///
    /// - Returns: false, and nothing is written, if there is a NUL in it or it is too long.
    @inlinable @inline(__always)
    mutating func writeCell(ofText text: UnsafeBufferPointer<UInt8>, version: UInt8? = nil) -> Bool {
        guard let start = text.baseAddress else {
            writeCell(ofEmptyText: version)
            return true
        }
        let count = text.count
        if count > 0x3FFF_FFF0 { return false }
        let head = version == nil ? 4 : 5
        reserve(head &+ count)
        let cell = byteBase + bytes
        guard PostgresText.copy(UnsafeRawPointer(start), to: cell + head, count) else { return false }
        cell.storeBytes(of: Int32(truncatingIfNeeded: head &- 4 &+ count).bigEndian, as: Int32.self)
        if let version { (cell + 4).storeBytes(of: version, as: UInt8.self) }
        bytes &+= head &+ count
        return true
    }

    @usableFromInline @inline(never)
    mutating func writeCell(ofEmptyText version: UInt8?) {
        write(Int32(version == nil ? 0 : 1))
        if let version { write(version) }
    }

    @usableFromInline @inline(never)
    static func tooLong(_ length: Int) -> PostgresError {
        PostgresError(
            code: .invalidArgument, message: "a value of \(length) bytes is longer than the server's limit of 1 GiB")
    }

    /// The bytes written so far.
    public func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        defer { withExtendedLifetime(storage) {} }
        return try body(UnsafeRawBufferPointer(start: byteBase, count: bytes))
    }

    /// What was written behind `offset`; valid while the storage is held and nothing is written.
    func rest(from offset: Int) -> UnsafeRawBufferPointer {
        let start = min(max(offset, 0), bytes)
        return UnsafeRawBufferPointer(start: byteBase + start, count: bytes &- start)
    }

    /// Appends what another encoder holds.
    public mutating func append(_ other: borrowing PostgresEncoder) {
        write(UnsafeRawBufferPointer(start: other.byteBase, count: other.bytes))
        withExtendedLifetime(other.storage) {}
    }

    /// Makes room for `count` more bytes at once, instead of by doubling.
    public mutating func reserveCapacity(_ count: Int) {
        let (needed, overflows) = bytes.addingReportingOverflow(max(0, count))
        // A guess that is out of all proportion is not followed; what is really written decides.
        guard !overflows, needed <= 1 << 30, needed > byteCapacity else { return }
        grow(segments: segmentCapacity, bytes: needed)
    }

    /// Of `total` values of one kind the first `done` were written, from `start` on: makes room for the others, on the assumption
    /// that they are of about the same length. Growing by doubling would copy them all once more, and touch twice the memory.
    @inline(never)
    public mutating func reserveCapacity(writtenSince start: Int, values done: Int, of total: Int) {
        guard done > 0, total > done, bytes >= start else { return }
        let (others, overflows) = ((bytes &- start) / done &+ 1).multipliedReportingOverflow(by: total &- done)
        if !overflows, others < 1 << 30 { reserveCapacity(others &+ others / 16) }
    }

    /// Overwrites four bytes written before, such as a count that is known only at the end.
    public mutating func patch(_ value: Int32, at offset: Int) {
        guard offset >= 0, offset <= bytes &- 4 else { return }
        (byteBase + offset).storeBytes(of: value.bigEndian, as: Int32.self)
    }
}

extension PostgresEncoder {
    @inlinable @inline(__always)
    mutating func reserve(_ count: Int) {
        if bytes &+ count > byteCapacity {
            grow(segments: segmentCapacity, bytes: max(byteCapacity &* 2, bytes &+ count))
        }
    }

    @usableFromInline @inline(never)
    mutating func grow(segments newSegments: Int, bytes newBytes: Int) {
        let larger = QueryStorage.make(segments: newSegments, bytes: newBytes)
        larger.segmentBase.update(from: segmentBase, count: segments)
        let target = larger.byteBase(segments: newSegments)
        target.copyMemory(from: byteBase, byteCount: bytes)
        storage = larger
        segmentBase = larger.segmentBase
        byteBase = target
        segmentCapacity = newSegments
        byteCapacity = newBytes
    }

    @inlinable @inline(__always)
    mutating func appendSegment(_ kind: QuerySegment.Kind, _ address: UInt, _ word: UInt32) {
        if segments == segmentCapacity { grow(segments: segmentCapacity &* 2 &+ 4, bytes: byteCapacity) }
        segmentBase[segments] = QuerySegment(kind, address, word)
        segments &+= 1
        mix(UInt64(address) ^ UInt64(word) << 32 ^ UInt64(kind.rawValue) << 61)
    }

    @inlinable @inline(__always)
    mutating func mix(_ value: UInt64) {
        let hash = (identity ^ value) &* 0xff51_afd7_ed55_8ccd
        identity = hash ^ (hash >> 32)
    }

    /// Appends a parameter of the query that is being built.
    ///
    /// A value that cannot be encoded is reported when the query is run, before anything is sent.
    @inlinable @inline(__always)
    public mutating func appendParameter<Value: PostgresEncodable>(_ value: borrowing Value) {
        beginParameter(Value.postgresType, Value.postgresFormat)
        do { try writeCell(value) } catch { fail(error) }
    }

    @inlinable @inline(__always)
    mutating func beginParameter(_ type: PostgresType, _ format: PostgresFormat) {
        appendSegment(.parameter, UInt(format.rawValue), type.oid)
        parameters &+= 1
        if format == .text { textParameters &+= 1 }
    }

    /// Appends a parameter whose bytes are written by `body`, such as an array that is never made as a Swift array.
    @inlinable
    public mutating func appendParameter(
        of type: PostgresType, format: PostgresFormat = .binary,
        _ body: (inout PostgresEncoder) throws(PostgresError) -> Void
    ) {
        beginParameter(type, format)
        let start = bytes
        write(Int32(0))
        do { try body(&self) } catch {
            bytes = start &+ 4
            fail(error)
        }
        let length = bytes &- start &- 4
        if length > 0x3FFF_FFFF { fail(Self.tooLong(length)) }
        patch(isNull ? -1 : Int32(truncatingIfNeeded: length), at: start)
        if isNull {
            bytes = start &+ 4
            isNull = false
        }
    }

    mutating func appendText(_ kind: QuerySegment.Kind, _ sql: String) {
        let texts = extras?.texts ?? []
        appendSegment(kind, UInt(bitPattern: texts.count), UInt32(truncatingIfNeeded: sql.utf8.count))
        extras = QueryExtras(texts: texts + [sql], finishedSQL: extras?.finishedSQL, failure: extras?.failure)
        for byte in sql.utf8 { mix(UInt64(byte)) }
    }

    @usableFromInline @inline(never)
    mutating func fail(_ error: PostgresError) {
        guard extras?.failure == nil else { return }
        extras = QueryExtras(texts: extras?.texts ?? [], finishedSQL: extras?.finishedSQL, failure: error)
    }

    @inlinable
    func seal() -> QueryStorage {
        storage.withUnsafeMutablePointerToHeader { header in
            header.pointee.segments = segments
            header.pointee.segmentCapacity = segmentCapacity
            header.pointee.bytes = bytes
            header.pointee.parameters = parameters
            header.pointee.textParameters = textParameters
            header.pointee.identity = identity
            header.pointee.extras = extras
        }
        return storage
    }
}
