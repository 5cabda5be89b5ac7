import Postgres
import Testing

struct StringTests {
    static let samples = [
        "", "a", "fifteen bytes..", "sixteen bytes...", "naïve", "e\u{301}", "日本語", "🇪🇺", "\u{FEFF}x", "\u{10FFFF}",
    ]

    @Test(arguments: samples)
    func aStringIsItsUTF8(text: String) throws {
        #expect(try encoded(text) == [UInt8](text.utf8))
        // As bytes: two spellings of one character are equal as strings.
        for type in [PostgresType.text, .varchar, .bpchar, .name, .char, .unknown, .xml, .json] {
            #expect(try decoded([UInt8](text.utf8), type, .binary, as: String.self).utf8.elementsEqual(text.utf8))
        }
        #expect(try decoded(text, .text, as: String.self).utf8.elementsEqual(text.utf8))
    }

    @Test func aStringIsDeclaredWithoutATypeAndTravelsAsText() {
        #expect(String.postgresType.oid == 0)
        #expect(String.postgresType.arrayOID == PostgresType.text.arrayOID)
        #expect(String.postgresFormat == .text)
        #expect(String.postgresResultFormat == .text)
    }

    @Test(arguments: [PostgresType.int4, .timestamptz, .numeric, .uuid, .bytea, PostgresType(oid: 90_000)])
    func anyTypeIsReadInTextForm(type: PostgresType) throws {
        #expect(try decoded("whatever", type, as: String.self) == "whatever")
        #expect(refusal([65], type, .binary, as: String.self) == .typeMismatch)
    }

    @Test func binaryJSONBIsReadBehindItsVersion() throws {
        #expect(try decoded([1, 0x7B, 0x7D], .jsonb, .binary, as: String.self) == "{}")
        #expect(refusal([2, 0x7B, 0x7D], .jsonb, .binary, as: String.self) == .cannotDecode)
        #expect(refusal([], .jsonb, .binary, as: String.self) == .cannotDecode)
    }

    @Test(arguments: ["\0", "a\0", "\0a", "a string longer than sixteen bytes, \0 inside"])
    func aZeroByteIsNotSent(text: String) {
        #expect(refusal(of: text) == .invalidArgument)
    }

    @Test(
        arguments: [
            [0xFF], [0x61, 0x80], [0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82],
            [UInt8](repeating: 0x61, count: 40) + [0xE9],
        ] as [[UInt8]])
    func bytesThatAreNotUTF8AreRefused(bytes: [UInt8]) {
        for format in [PostgresFormat.text, .binary] {
            #expect(refusal(bytes, .text, format, as: String.self) == .cannotDecode)
        }
    }

    @Test func whatIsEncodedIsDecoded() throws {
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<500 {
            var text = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 0...40, using: &generator) {
                let limit: UInt32 = Bool.random(using: &generator) ? 0x7F : 0x10FFFF
                if let scalar = Unicode.Scalar(UInt32.random(in: 1...limit, using: &generator)) { text.append(scalar) }
            }
            #expect(try roundTrip(String(text), as: .text).utf8.elementsEqual(String(text).utf8))
        }
    }
}
