import PostgresProtocol
import Testing

@Suite struct MessageFramerTests {
    private static func judge(_ tag: UInt8, _ length: Int32, isAuthenticated: Bool = true) throws(ProtocolError) -> Int
    {
        try MessageFramer.judge(
            tag: tag, length: length, limits: MessageFramer.Limits(isAuthenticated: isAuthenticated))
    }

    @Test func exactlyTheManualsTypesAreKnown() {
        let known = (0...255).map { UInt8($0) }.filter { MessageFramer.isKnown($0) }
        #expect(String(decoding: known, as: UTF8.self) == "123ACDEGHIKNRSTVWZcdnstv")
    }

    @Test(arguments: [Int32.min, -1, 0, 3])
    func noTypeHasALengthUnderFour(length: Int32) {
        for tag in UInt8.min...UInt8.max {
            let error: ProtocolError =
                MessageFramer.isKnown(tag)
                ? .lengthOutOfRange(message: tag, length: length) : .unknownMessageType(tag)
            #expect(throws: error) { try MessageFramerTests.judge(tag, length) }
        }
    }

    @Test func anUnknownTypeIsRefusedWhateverItsLength() {
        for length in [Int32(4), 30_000, .max] {
            #expect(throws: ProtocolError.unknownMessageType(0x3F)) { try MessageFramerTests.judge(0x3F, length) }
        }
    }

    @Test(arguments: [("TDdVENA", 0x3FFF_FFFF), ("123CGHIKRSWZcnsv", 30_000), ("t", 262_146)])
    func aTypeIsAsLongAsItCanBe(tags: String, limit: Int32) throws {
        for tag in tags.utf8 {
            #expect(try MessageFramerTests.judge(tag, 4) == 5)
            #expect(try MessageFramerTests.judge(tag, limit) == Int(limit) + 1)
            for length in [limit + 1, .max] {
                #expect(throws: ProtocolError.messageTooLarge(message: tag, length: Int(length), limit: Int(limit))) {
                    try MessageFramerTests.judge(tag, length)
                }
            }
        }
    }

    @Test func nothingIsLongBeforeAuthentication() throws {
        for tag in "TDdVENAtRS".utf8 {
            #expect(try MessageFramerTests.judge(tag, 30_000, isAuthenticated: false) == 30_001)
            #expect(throws: ProtocolError.messageTooLarge(message: tag, length: 30_001, limit: 30_000)) {
                try MessageFramerTests.judge(tag, 30_001, isAuthenticated: false)
            }
        }
    }

    @Test func theCapIsSettable() throws {
        let limits = MessageFramer.Limits(maximumLength: 1000, isAuthenticated: true)
        for tag in "DZ".utf8 {
            #expect(try MessageFramer.judge(tag: tag, length: 1000, limits: limits) == 1001)
            #expect(throws: ProtocolError.messageTooLarge(message: tag, length: 1001, limit: 1000)) {
                try MessageFramer.judge(tag: tag, length: 1001, limits: limits)
            }
        }
    }
}
