import PostgresProtocol

/// Bytes written as hexadecimal, one string a field, so that each can have its comment.
func hex(_ fields: String...) -> [UInt8] { hex(fields) }

func hex(_ fields: [String]) -> [UInt8] {
    var bytes: [UInt8] = []
    for field in fields {
        var high: UInt8?
        for character in field where character != " " {
            let digit = UInt8(character.hexDigitValue ?? 0)
            if let first = high {
                bytes.append(first << 4 | digit)
                high = nil
            } else {
                high = digit
            }
        }
    }
    return bytes
}

extension ByteWriter {
    var written: [UInt8] { withBytes { Array($0) } }
}

/// A generator whose runs repeat: the seed is part of the test.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    // SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
