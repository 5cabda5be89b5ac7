/// Copying a text and looking for a NUL in it, in one pass: on its own each of the two reads the text from memory once more.
///
/// All loads and stores lie inside the `count` bytes of text and target. Parts may overlap, so that no length needs a loop of bytes.
extension PostgresText {
    /// - Returns: false if there is a NUL; then what was copied counts for nothing.
    @inlinable @inline(__always)
    static func copy(_ text: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ count: Int) -> Bool {
        if count > 16 { return copyLong(text, to: target, count) }
        // Keys and names are mostly of such lengths.
        guard count > 8 else { return copyWord(text, to: target, count) == 0 }
        let first = text.loadUnaligned(as: UInt64.self)
        target.storeBytes(of: first, as: UInt64.self)
        return (zeroBytes(first) | copyWord(text + 8, to: target + 8, count &- 8)) == 0
    }

    /// Up to eight bytes.
    ///
    /// A short string's text is two words that were stored a moment ago: a load that spans both would wait until they have
    /// arrived in the cache, some five nanoseconds. So none does.
    ///
    /// - Returns: not 0 if one of them is.
    @inlinable @inline(__always)
    static func copyWord(_ text: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ count: Int) -> UInt64 {
        if count >= 4 {
            let first = text.loadUnaligned(as: UInt32.self)
            let last = text.loadUnaligned(fromByteOffset: count &- 4, as: UInt32.self)
            target.storeBytes(of: first, as: UInt32.self)
            target.storeBytes(of: last, toByteOffset: count &- 4, as: UInt32.self)
            return zeroBytes(UInt64(first) | UInt64(last) << 32)
        }
        if count >= 2 {
            let first = text.loadUnaligned(as: UInt16.self)
            let last = text.loadUnaligned(fromByteOffset: count &- 2, as: UInt16.self)
            target.storeBytes(of: first, as: UInt16.self)
            target.storeBytes(of: last, toByteOffset: count &- 2, as: UInt16.self)
            return zeroBytes(UInt64(first) | UInt64(last) << 16 | 0xFFFF_FFFF_0000_0000)
        }
        if count == 1 {
            let byte = text.load(as: UInt8.self)
            target.storeBytes(of: byte, as: UInt8.self)
            return byte == 0 ? 1 : 0
        }
        return 0
    }

    /// More than 16 bytes.
    @usableFromInline @inline(never)
    static func copyLong(_ text: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ count: Int) -> Bool {
        var offset = 0
        var zeros = SIMD2<UInt64>()
        while offset < count &- 32 {
            zeros |= copyPair(text + offset, to: target + offset)
            zeros |= copyPair(text + (offset &+ 16), to: target + (offset &+ 16))
            offset &+= 32
        }
        // At most 32 are left: two pairs, from the end.
        let next = max(0, count &- 32)
        zeros |= copyPair(text + next, to: target + next)
        zeros |= copyPair(text + (count &- 16), to: target + (count &- 16))
        return (zeros.x | zeros.y) & 0x8080_8080_8080_8080 == 0
    }

    /// Two words. As in ``zeroBytes(_:)``, but only the highest bit of each byte counts.
    @inline(__always)
    private static func copyPair(
        _ text: UnsafeRawPointer, to target: UnsafeMutableRawPointer
    ) -> SIMD2<UInt64> {
        let words = text.loadUnaligned(as: SIMD2<UInt64>.self)
        target.storeBytes(of: words, as: SIMD2<UInt64>.self)
        return (words &- SIMD2(repeating: 0x0101_0101_0101_0101)) & ~words
    }

    /// Not 0 if one of the eight bytes is.
    @inlinable @inline(__always)
    static func zeroBytes(_ word: UInt64) -> UInt64 {
        (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080
    }
}
