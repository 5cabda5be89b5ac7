import Foundation
import Postgres
import Testing

struct BytesTests {
    @Test(arguments: [[], [0], [0x0A, 0xFF], [0x5C, 0x78], [UInt8](0...255)] as [[UInt8]])
    func bytesTravelAsTheyAre(bytes: [UInt8]) throws {
        #expect(try encoded(PostgresBytes(bytes)) == bytes)
        #expect(try encoded(Data(bytes)) == bytes)
        #expect(try decoded(bytes, .bytea, .binary, as: PostgresBytes.self).bytes == bytes)
        #expect(try decoded(bytes, .bytea, .binary, as: Data.self) == Data(bytes))
        let hexadecimal = PostgresBytes(bytes).description
        #expect(try decoded(hexadecimal, .bytea, as: PostgresBytes.self).bytes == bytes)
        #expect(
            try decoded(hexadecimal.uppercased().replacing("\\X", with: "\\x"), .bytea, as: Data.self) == Data(bytes))
    }

    @Test(
        arguments: [
            ("\\x", []), ("\\x00ff", [0, 255]), ("", []), ("abc", [0x61, 0x62, 0x63]), ("a\\\\b", [0x61, 0x5C, 0x62]),
            ("\\000\\377\\012", [0, 255, 10]), ("x\\\\", [0x78, 0x5C]), ("\\\\x41", [0x5C, 0x78, 0x34, 0x31]),
        ] as [(String, [UInt8])])
    func bothTextFormsAreRead(text: String, bytes: [UInt8]) throws {
        #expect(try decoded(text, .bytea, as: PostgresBytes.self).bytes == bytes)
        #expect(try decoded(text, .bytea, as: Data.self) == Data(bytes))
    }

    @Test(arguments: [
        "\\x0", "\\xg0", "\\x0 ", "\\x 00", "\\", "a\\", "\\0", "\\00", "\\400", "\\080", "\\008", "\\n12", "\\X00",
    ])
    func malformedTextIsRefused(text: String) {
        #expect(refusal(text, .bytea, as: PostgresBytes.self) == .cannotDecode)
        #expect(refusal(text, .bytea, as: Data.self) == .cannotDecode)
    }

    @Test func otherTypesAreAMismatch() {
        for format in [PostgresFormat.text, .binary] {
            #expect(refusal([0x61], .text, format, as: PostgresBytes.self) == .typeMismatch)
            #expect(refusal([0x61], .text, format, as: Data.self) == .typeMismatch)
        }
    }

    @Test func aSliceOfDataIsWrittenWhole() throws {
        let data = Data([1, 2, 3, 4, 5])[1..<4]
        #expect(try encoded(data) == [2, 3, 4])
    }

    @Test func asJSONBytesAreHexadecimal() throws {
        let bytes: PostgresBytes = [0x0A, 0xFF]
        let json = try JSONEncoder().encode([bytes])
        #expect(String(decoding: json, as: UTF8.self) == #"["\\x0aff"]"#)
        #expect(try JSONDecoder().decode([PostgresBytes].self, from: json) == [bytes])
    }
}
