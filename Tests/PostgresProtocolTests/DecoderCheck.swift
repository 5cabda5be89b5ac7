import PostgresProtocol
import Testing

/// One body of a backend message, and what must come of it.
struct DecoderCheck: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let tag: UInt8
    let body: [UInt8]
    /// Whether a prefix of the body, or the body and a byte more, is a message too: their bytes are opaque.
    let isOpaque: Bool
    private let verify: @Sendable (BackendMessage) -> Void

    init(
        _ name: String, _ tag: Character, _ body: [UInt8], isOpaque: Bool = false,
        verify: @escaping @Sendable (BackendMessage) -> Void
    ) {
        testDescription = name
        self.tag = tag.asciiValue ?? 0
        self.body = body
        self.isOpaque = isOpaque
        self.verify = verify
    }

    static func decode(_ tag: UInt8, _ body: [UInt8], _ use: (BackendMessage) -> Void = { _ in }) throws {
        // A buffer of exactly this size: reading past it is an error under the address sanitizer.
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: body.count, alignment: 1)
        defer { bytes.deallocate() }
        bytes.copyBytes(from: body)
        use(try BackendMessage(tag: tag, body: UnsafeRawBufferPointer(bytes)))
    }

    /// Whole; cut at every length; with a byte too many.
    func run() {
        #expect(throws: Never.self) { try DecoderCheck.decode(tag, body, verify) }
        if isOpaque { return }
        for length in 0..<body.count {
            #expect(throws: ProtocolError.self, "cut to \(length) bytes") {
                try DecoderCheck.decode(tag, Array(body[..<length]))
            }
        }
        #expect(throws: ProtocolError.trailingBytes(message: tag, count: 1)) {
            try DecoderCheck.decode(tag, body + [0])
        }
    }
}
