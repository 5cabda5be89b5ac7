/// Takes the text form of a one-dimensional array apart (manual, "Array Input and Output Syntax"):
/// `{1,NULL,"a \"quoted\" word"}`, or with bounds before it, `[2:4]={1,2,3}`.
///
/// It reads what the server writes, which has no spaces outside quotes, and refuses the rest. The text is given to every
/// call instead of kept, so that this can be a plain value.
struct ArrayText {
    enum Failure: Error {
        case malformed
        case dimensions
        case element(PostgresError)
    }

    enum Item {
        case null
        /// Bytes to be used as they stand.
        case plain(Range<Int>)
        /// Bytes that had backslashes among them.
        case unescaped([UInt8])
    }

    private let delimiter: UInt8
    private var position = 0
    /// The number of elements by the bounds, if there were any.
    private var expected: Int64?
    private var count: Int64 = 0
    private var isDone = false

    init(delimiter: UInt8) { self.delimiter = delimiter }

    private func peek(_ text: RawSpan) -> UInt8? { text.integer(UInt8.self, at: position) }

    private mutating func skip(_ character: Unicode.Scalar, _ text: RawSpan) -> Bool {
        guard peek(text) == UInt8(ascii: character) else { return false }
        position &+= 1
        return true
    }

    /// Reads the bounds and the opening brace.
    mutating func begin(_ text: RawSpan) throws(Failure) {
        if skip("[", text) {
            guard let lower = bound(text), skip(":", text), let upper = bound(text), skip("]", text) else {
                throw .malformed
            }
            if peek(text) == UInt8(ascii: "[") { throw .dimensions }
            guard skip("=", text), lower <= upper else { throw .malformed }
            expected = Int64(upper) - Int64(lower) + 1
        }
        guard skip("{", text) else { throw .malformed }
        if skip("}", text) { try end(text) }
    }

    private mutating func bound(_ text: RawSpan) -> Int32? {
        let start = position
        while let byte = peek(text), byte == UInt8(ascii: "-") || byte &- UInt8(ascii: "0") <= 9 { position &+= 1 }
        return IntegerCell.parse(text.extracting(start..<position)).flatMap { Int32(exactly: $0) }
    }

    /// The next element; nil behind the last.
    mutating func next(_ text: RawSpan) throws(Failure) -> Item? {
        if isDone { return nil }
        guard let first = peek(text) else { throw .malformed }
        if first == UInt8(ascii: "{") { throw .dimensions }
        let item = first == UInt8(ascii: "\"") ? try quoted(text) : try unquoted(text)
        count &+= 1
        guard let byte = peek(text) else { throw .malformed }
        position &+= 1
        if byte == UInt8(ascii: "}") {
            try end(text)
        } else if byte != delimiter {
            throw .malformed
        }
        return item
    }

    private mutating func end(_ text: RawSpan) throws(Failure) {
        guard position == text.byteCount, expected ?? count == count else { throw .malformed }
        isDone = true
    }

    private mutating func unquoted(_ text: RawSpan) throws(Failure) -> Item {
        let start = position
        scan: while let byte = peek(text) {
            switch byte {
            case delimiter, UInt8(ascii: "}"): break scan
            case UInt8(ascii: "{"), UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: " "), 9...13: throw .malformed
            default: position &+= 1
            }
        }
        guard position > start else { throw .malformed }
        // Text that happens to be NULL is quoted.
        if text.extracting(start..<position).equals("NULL") { return .null }
        return .plain(start..<position)
    }

    private mutating func quoted(_ text: RawSpan) throws(Failure) -> Item {
        position &+= 1
        let start = position
        while let byte = peek(text), byte != UInt8(ascii: "\\") {
            position &+= 1
            if byte == UInt8(ascii: "\"") { return .plain(start..<position &- 1) }
        }
        // A backslash, or the end of the text.
        var bytes = text.extracting(start..<position).withUnsafeBytes { [UInt8]($0) }
        while let byte = peek(text) {
            position &+= 1
            switch byte {
            case UInt8(ascii: "\""): return .unescaped(bytes)
            case UInt8(ascii: "\\"):
                guard let escaped = peek(text) else { throw .malformed }
                position &+= 1
                bytes.append(escaped)
            default: bytes.append(byte)
            }
        }
        throw .malformed
    }
}
