import PostgresProtocol
import Testing

@Suite struct ByteReaderTests {
    @Test func readsFieldsInOrderAndNothingBeyond() throws {
        let bytes = hex("01", "fffe", "80000000", "0102030405060708", "6100", "c3a4 00", "0908")
        try bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes, message: 0x44)
            #expect(try reader.read(UInt8.self) == 1)
            #expect(try reader.read(Int16.self) == -2)
            #expect(try reader.read(Int32.self) == .min)
            #expect(try reader.read(UInt64.self) == 0x0102_0304_0506_0708)
            #expect(try Array(reader.readZeroTerminatedBytes()) == [0x61])
            #expect(try reader.readString("name") == "ä")
            #expect(throws: ProtocolError.trailingBytes(message: 0x44, count: 2)) { try reader.finish() }
            #expect(throws: ProtocolError.truncated(message: 0x44, offset: 20)) { try reader.read(Int32.self) }
            #expect(throws: ProtocolError.truncated(message: 0x44, offset: 20)) { try reader.readBytes(3) }
            #expect(throws: ProtocolError.truncated(message: 0x44, offset: 20)) { try reader.readBytes(-1) }
            #expect(throws: ProtocolError.truncated(message: 0x44, offset: 20)) { try reader.readString("name") }
            #expect(reader.remaining == 2)
            #expect(Array(reader.readRest()) == [9, 8])
            try reader.finish()
            #expect(reader.readRest().isEmpty)
        }
    }

    @Test func anEmptyBufferHasNothing() throws {
        var reader = ByteReader(UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(throws: ProtocolError.truncated(message: 0, offset: 0)) { try reader.read(UInt8.self) }
        #expect(throws: ProtocolError.truncated(message: 0, offset: 0)) { try reader.readZeroTerminatedBytes() }
        #expect(try reader.readBytes(0).isEmpty)
        #expect(reader.readRest().isEmpty)
        try reader.finish()
    }

    @Test func textIsNeverRepaired() {
        let bytes = hex("61ff00")
        bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes, message: 0x53)
            #expect(throws: ProtocolError.invalidUTF8(message: 0x53, field: "value")) {
                try reader.readString("value")
            }
        }
    }
}

@Suite struct DisplayTextTests {
    @Test(arguments: [
        ("plain ä", "plain ä"), ("a\nb\r\t", "a\\nb\\r\\t"), ("\u{1B}[2J", "\\u{1b}[2J"), ("\u{0}", "\\u{0}"),
        ("\u{202E}x", "\\u{202e}x"), ("back\\slash", "back\\\\slash"), ("\u{85}", "\\u{85}"),
    ])
    func controlsAreEscaped(text: String, shown: String) {
        #expect(escapedForDisplay(text.utf8, limit: 100) == shown)
    }

    @Test func lengthIsBounded() {
        #expect(escapedForDisplay(repeatElement(UInt8(ascii: "x"), count: 9), limit: 8) == "xxxxxxxx...")
        #expect(escapedForDisplay(repeatElement(UInt8(ascii: "x"), count: 8), limit: 8) == "xxxxxxxx")
    }

    @Test func brokenTextIsShownAsReplacement() {
        #expect(escapedForDisplay([0x61, 0xFF], limit: 8) == "a\u{FFFD}")
    }
}
