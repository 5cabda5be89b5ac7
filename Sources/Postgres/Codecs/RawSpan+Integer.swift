extension RawSpan {
    /// All bytes as one integer in network byte order; nil unless there are exactly as many as the integer has.
    @inlinable @inline(__always)
    func integer<Integer: FixedWidthInteger & BitwiseCopyable>(_: Integer.Type) -> Integer? {
        guard byteCount == MemoryLayout<Integer>.size else { return nil }
        // Safe: the span holds as many bytes as are read, and every pattern of bits is an integer.
        return Integer(bigEndian: unsafeLoadUnaligned(as: Integer.self))
    }

    /// The bytes at `offset` as an integer in network byte order; nil if they are not all there.
    @inlinable @inline(__always)
    func integer<Integer: FixedWidthInteger & BitwiseCopyable>(_: Integer.Type, at offset: Int) -> Integer? {
        guard offset >= 0, byteCount &- offset >= MemoryLayout<Integer>.size else { return nil }
        // Safe: as above; `byteCount - offset` cannot overflow, because neither is negative.
        return Integer(bigEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: Integer.self))
    }

    /// Whether the bytes are exactly those of `text`.
    func equals(_ text: StaticString) -> Bool {
        guard text.hasPointerRepresentation, byteCount == text.utf8CodeUnitCount else { return false }
        return withUnsafeBytes { bytes in
            bytes.elementsEqual(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
        }
    }
}
