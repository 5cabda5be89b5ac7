// RFC 4648, section 4. Strict, as SCRAM wants it: no line breaks, no missing or surplus padding, and only the one spelling
// of each value.

enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let padding = UInt8(ascii: "=")

    static func encode(_ bytes: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count / 3 + 1) * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            var bits: UInt32 = 0
            for byte in group { bits = bits << 8 | UInt32(byte) }
            bits <<= UInt32(8 * (3 - group.count))
            for position in 0..<4 {
                let index = Int(bits >> UInt32(18 - 6 * position) & 63)
                text.append(position <= group.count ? alphabet[index] : padding)
            }
        }
        return text
    }

    /// Nil unless the text is exactly what `encode` makes of some bytes.
    static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        guard text.count % 4 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 4 * 3)
        var bits: UInt32 = 0
        var digits = 0
        var padded = 0
        for character in text {
            if character == padding {
                padded += 1
                bits <<= 6
            } else {
                guard padded == 0, let value = value(of: character) else { return nil }
                bits = bits << 6 | value
            }
            digits += 1
            if digits == 4 {
                guard padded <= 2, bits & (padded == 0 ? 0 : padded == 1 ? 0xFF : 0xFFFF) == 0 else { return nil }
                for position in 0..<(3 - padded) {
                    bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(16 - 8 * position)))
                }
                (bits, digits) = (0, 0)
            }
        }
        return bytes
    }

    private static func value(of character: UInt8) -> UInt32? {
        switch UnicodeScalar(character) {
        case "A"..."Z": UInt32(character) - 65
        case "a"..."z": UInt32(character) - 71
        case "0"..."9": UInt32(character) + 4
        case "+": 62
        case "/": 63
        default: nil
        }
    }
}
