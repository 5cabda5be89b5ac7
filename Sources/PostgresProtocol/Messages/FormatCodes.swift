/// How one value is spelled on the wire (manual, "Formats and Format Codes").
package enum Format: UInt16, Sendable {
    case text = 0
    case binary = 1
}

/// The format codes of a Bind message's parameters or result columns.
package enum FormatCodes: Sendable, Equatable {
    /// No code: all text.
    case none
    /// One code for all.
    case all(Format)
    /// One code each.
    case each([Format])
    /// One code each for up to 64 values, without an array: bit n is set if value n is binary.
    case mixed(binary: UInt64, count: Int)

    /// How many codes are written.
    @inline(__always)
    var count: Int {
        switch self {
        case .none: 0
        case .all: 1
        case .each(let formats): formats.count
        case .mixed(_, let count): count
        }
    }

    /// Whether these codes may accompany this many values.
    @inline(__always)
    func fits(_ values: Int) -> Bool {
        switch self {
        case .none, .all: true
        case .each(let formats): formats.count == values
        case .mixed(_, let count): count == values && count <= 64
        }
    }

    /// Stores the count and the codes, `2 + 2 * count` bytes.
    @inline(__always)
    func store(to address: inout UnsafeMutableRawPointer) {
        switch self {
        case .none:
            address.put(UInt16(0))
        case .all(let format):
            address.put(UInt32(0x0001_0000) | UInt32(format.rawValue))
        case .each(let formats):
            address.put(UInt16(truncatingIfNeeded: formats.count))
            for format in formats { address.put(format.rawValue) }
        case .mixed(let binary, let count):
            address.put(UInt16(truncatingIfNeeded: count))
            for index in 0..<count { address.put(UInt16(truncatingIfNeeded: (binary &>> UInt64(index)) & 1)) }
        }
    }
}
