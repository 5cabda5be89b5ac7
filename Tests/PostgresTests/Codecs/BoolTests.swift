import Postgres
import Testing

struct BoolTests {
    @Test func aBooleanIsOneByte() throws {
        #expect(try encoded(true) == [1])
        #expect(try encoded(false) == [0])
        #expect(try decoded([1], .bool, .binary, as: Bool.self))
        #expect(try !decoded([0], .bool, .binary, as: Bool.self))
        #expect(try decoded("t", .bool, as: Bool.self))
        #expect(try !decoded("f", .bool, as: Bool.self))
    }

    @Test(
        arguments: [
            ([], .binary), ([2], .binary), ([255], .binary), ([0, 1], .binary), ([], .text), ([1], .text),
            ([0x74, 0x72], .text), ([0x54], .text),
        ] as [([UInt8], PostgresFormat)])
    func otherBytesAreRefused(bytes: [UInt8], format: PostgresFormat) {
        #expect(refusal(bytes, .bool, format, as: Bool.self) == .cannotDecode)
    }

    @Test func otherTypesAreAMismatch() {
        #expect(refusal([1], .int2, .binary, as: Bool.self) == .typeMismatch)
        #expect(refusal("t", .text, as: Bool.self) == .typeMismatch)
    }

    @Test func nullIsRefusedUnlessTheTypeIsOptional() throws {
        #expect(code { () throws(PostgresError) in _ = try Bool.decodeNull() } == .unexpectedNull)
        #expect(try Bool?.decodeNull() == nil)
        #expect(try decoded([1], .bool, .binary, as: Bool?.self) == true)
    }
}
