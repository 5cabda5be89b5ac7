// RFC 4013 (SASLprep), a profile of RFC 3454 (stringprep), as PostgreSQL does it on both sides of the wire.

/// Makes passwords that look alike be alike, whatever keyboard they were typed on.
enum SASLprep {
    /// The bytes that go into the key derivation: prepared, or, if the password cannot be, as they are. The server did
    /// the same when the password was set.
    static func prepare(_ password: Password) -> [UInt8] {
        Array((prepared(password.text) ?? password.text).utf8)
    }

    /// Nil if a character is prohibited or unassigned, or directions of writing are mixed.
    static func prepared(_ text: String) -> String? {
        if text.utf8.allSatisfy({ $0 < 0x80 }) { return text }
        let tables = Tables.shared
        var mapped: [UInt32] = []
        for scalar in text.unicodeScalars {
            // U+200B is in both tables; PostgreSQL makes it a space.
            if tables.mappedToSpace.contains(scalar.value) {
                mapped.append(0x20)
            } else if !tables.mappedToNothing.contains(scalar.value) {
                mapped.append(scalar.value)
            }
        }
        // The RFC looks at the normalized characters here. PostgreSQL looks at those before, and a password is only right
        // if both ends prepare it in the same way.
        guard let first = mapped.first, let last = mapped.last, !mapped.contains(where: tables.prohibited.contains)
        else {
            return nil
        }
        if mapped.contains(where: tables.rightToLeft.contains) {
            guard !mapped.contains(where: tables.leftToRight.contains), tables.rightToLeft.contains(first),
                tables.rightToLeft.contains(last)
            else { return nil }
        }
        var prepared = ""
        for value in tables.compose(tables.decompose(mapped)) {
            guard let scalar = Unicode.Scalar(value) else { return nil }
            prepared.unicodeScalars.append(scalar)
        }
        return prepared
    }
}

/// ``SASLprepTables`` in a form that can be searched; read once, for the first password that is not ASCII.
private struct Tables: Sendable {
    static let shared = Tables()

    let mappedToNothing = CodeRanges(SASLprepTables.mappedToNothing)
    let mappedToSpace = CodeRanges(SASLprepTables.mappedToSpace)
    let prohibited = CodeRanges(SASLprepTables.prohibited)
    let rightToLeft = CodeRanges(SASLprepTables.rightToLeft)
    let leftToRight = CodeRanges(SASLprepTables.leftToRight)
    private let combiningClasses = CodeRanges(SASLprepTables.combiningClasses)
    private let decompositions = CodeRanges(SASLprepTables.decompositions)
    private let compositions: [UInt64: UInt32]

    private init() {
        var compositions: [UInt64: UInt32] = [:]
        forEachEntry(of: SASLprepTables.compositions) { first, second, value in
            compositions[UInt64(first) << 32 | UInt64(second)] = value.first
        }
        self.compositions = compositions
    }

    private func combiningClass(_ code: UInt32) -> UInt32 { combiningClasses.value(code) ?? 0 }

    /// Full compatibility decomposition, combining characters in canonical order (Unicode, chapter 3.11).
    func decompose(_ codes: [UInt32]) -> [UInt32] {
        var result: [UInt32] = []
        for code in codes {
            if let syllable = Hangul.decompose(code) {
                result += syllable
            } else {
                result += decompositions.mapped(code)
            }
        }
        // An insertion sort that moves a combining character only past those of a higher class.
        for index in result.indices {
            let own = combiningClass(result[index])
            var position = index
            while own != 0, position > 0, combiningClass(result[position - 1]) > own {
                result.swapAt(position, position - 1)
                position -= 1
            }
        }
        return result
    }

    /// Canonical composition: each character joins the last starter if nothing between them blocks it.
    func compose(_ codes: [UInt32]) -> [UInt32] {
        var result: [UInt32] = []
        var starter: Int?
        var lastClass: UInt32 = 0
        for code in codes {
            let own = combiningClass(code)
            if let starter {
                let isAdjacent = starter == result.count - 1
                if isAdjacent || (lastClass != 0 && lastClass < own),
                    let composite = Hangul.compose(result[starter], code)
                        ?? compositions[UInt64(result[starter]) << 32 | UInt64(code)]
                {
                    result[starter] = composite
                    continue
                }
            }
            result.append(code)
            lastClass = own
            if own == 0 { starter = result.count - 1 }
        }
        return result
    }
}

/// Sorted ranges of code points, some with a value.
private struct CodeRanges: Sendable {
    private var firsts: [UInt32] = []
    private var lasts: [UInt32] = []
    private var values: [[UInt32]] = []

    init(_ table: StaticString) {
        forEachEntry(of: table) { first, last, value in
            firsts.append(first)
            lasts.append(last)
            values.append(value)
        }
    }

    private func index(_ code: UInt32) -> Int? {
        var (low, high) = (0, firsts.count)
        while low < high {
            let middle = (low + high) / 2
            if firsts[middle] <= code { low = middle + 1 } else { high = middle }
        }
        return low > 0 && code <= lasts[low - 1] ? low - 1 : nil
    }

    func contains(_ code: UInt32) -> Bool { index(code) != nil }

    /// What the code point becomes: itself if it is not listed. In a range of several, one value counts up.
    func mapped(_ code: UInt32) -> [UInt32] {
        guard let index = index(code) else { return [code] }
        let value = values[index]
        guard value.count == 1, let start = value.first else { return value }
        return [start + (code - firsts[index])]
    }

    func value(_ code: UInt32) -> UInt32? {
        guard let index = index(code) else { return nil }
        return values[index].first
    }
}

/// Reads `first-last=value,value` and `first,second=value` in hexadecimal, separated by white space.
private func forEachEntry(of table: StaticString, _ body: (UInt32, UInt32, [UInt32]) -> Void) {
    table.withUTF8Buffer { bytes in
        for entry in bytes.split(whereSeparator: { $0 == 0x20 || $0 == 0x0A }) {
            let numbers = entry.split(whereSeparator: { !isHexadecimal($0) }).map { digits in
                digits.reduce(UInt32(0)) { $0 << 4 | UInt32($1 < 0x3A ? $1 - 0x30 : $1 - 0x37) }
            }
            guard let first = numbers.first else { continue }
            let hasSecond = entry.first { !isHexadecimal($0) }.map { $0 != UInt8(ascii: "=") } ?? false
            let second = hasSecond ? numbers[1] : first
            body(first, second, Array(numbers.dropFirst(hasSecond ? 2 : 1)))
        }
    }
}

private func isHexadecimal(_ byte: UInt8) -> Bool { 0x30...0x39 ~= byte || 0x41...0x46 ~= byte }

/// Syllables are computed, not listed (Unicode, chapter 3.12).
private enum Hangul {
    private static let syllables: ClosedRange<UInt32> = 0xAC00...0xD7A3
    private static let leading: ClosedRange<UInt32> = 0x1100...0x1112
    private static let vowels: ClosedRange<UInt32> = 0x1161...0x1175
    private static let trailing: ClosedRange<UInt32> = 0x11A8...0x11C2

    static func decompose(_ code: UInt32) -> [UInt32]? {
        guard syllables.contains(code) else { return nil }
        let index = code - syllables.lowerBound
        let pair = [leading.lowerBound + index / 588, vowels.lowerBound + index % 588 / 28]
        return index % 28 == 0 ? pair : pair + [trailing.lowerBound - 1 + index % 28]
    }

    static func compose(_ first: UInt32, _ second: UInt32) -> UInt32? {
        if leading.contains(first), vowels.contains(second) {
            return syllables.lowerBound + (first - leading.lowerBound) * 588 + (second - vowels.lowerBound) * 28
        }
        guard syllables.contains(first), (first - syllables.lowerBound) % 28 == 0, trailing.contains(second) else {
            return nil
        }
        return first + second - (trailing.lowerBound - 1)
    }
}
