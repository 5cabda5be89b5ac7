import Testing

@testable import PostgresProtocol

@Suite struct TLSNegotiationTests {
    private static func answer(_ bytes: [UInt8]) throws(StartupError) -> TLSNegotiation? {
        let outcome = bytes.withUnsafeBytes { bytes in
            Result { () throws(StartupError) in try TLSNegotiation.answer(bytes) }
        }
        return try outcome.get()
    }

    @Test func oneByteDecides() throws {
        #expect(try TLSNegotiationTests.answer([]) == nil)
        #expect(try TLSNegotiationTests.answer(Array("S".utf8)) == .accepted)
        #expect(try TLSNegotiationTests.answer(Array("N".utf8)) == .refused)
    }

    @Test(arguments: ["S", "N"])
    func nothingMayFollowInTheClear(answer: String) {
        for rest in [[0], Server.ok + Server.ready, Array(repeating: 0x41, count: 8192)] {
            #expect(throws: StartupError.bytesAfterTLSAnswer) {
                try TLSNegotiationTests.answer(Array(answer.utf8) + rest)
            }
        }
    }

    @Test func thePlantedTextOfAnErrorIsNotShown() {
        let planted = Server.report("E", "FATAL", "28000", "call this number")
        for bytes in [planted, [planted[0]]] {
            #expect(throws: StartupError.tlsRequestFailed) { try TLSNegotiationTests.answer(bytes) }
        }
        #expect(!"\(StartupError.tlsRequestFailed)".contains("number"))
    }

    @Test(arguments: [("HTTP/1.1 400\r\n", "HTTP/1.1 400\\r\\n"), ("R", "R"), ("\u{15}", "\\u{15}")])
    func anythingElseIsNotPostgreSQL(text: String, shown: String) {
        #expect(throws: StartupError.notPostgreSQL(shown)) { try TLSNegotiationTests.answer(Array(text.utf8)) }
    }
}
