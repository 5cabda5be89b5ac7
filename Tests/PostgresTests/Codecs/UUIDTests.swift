import Foundation
import Postgres
import Testing

struct UUIDTests {
    static let bytes: [UInt8] = [
        0xA0, 0xEE, 0xBC, 0x99, 0x9C, 0x0B, 0x4E, 0xF8, 0xBB, 0x6D, 0x6B, 0xB9, 0xBD, 0x38, 0x0A, 0x11,
    ]
    static let text = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

    @Test func aUUIDIs16Bytes() throws {
        let uuid = try #require(UUID(uuidString: Self.text))
        #expect(try encoded(uuid) == Self.bytes)
        #expect(try decoded(Self.bytes, .uuid, .binary, as: UUID.self) == uuid)
        #expect(try decoded(Self.text, .uuid, as: UUID.self) == uuid)
        #expect(try roundTrip([uuid, nil]) == [uuid, nil])
    }

    @Test(arguments: [
        "", "a0eebc99", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", text + "0",
    ])
    func malformedTextIsRefused(text: String) {
        #expect(refusal(text, .uuid, as: UUID.self) == .cannotDecode)
    }

    @Test func aWrongTypeOrLengthIsRefused() {
        for count in [0, 15, 17, 36] {
            #expect(refusal([UInt8](repeating: 0x30, count: count), .uuid, .binary, as: UUID.self) == .cannotDecode)
        }
        #expect(refusal([0xFF, 0xFE], .uuid, .text, as: UUID.self) == .cannotDecode)
        #expect(refusal(Self.bytes, .bytea, .binary, as: UUID.self) == .typeMismatch)
        #expect(refusal(Self.text, .text, as: UUID.self) == .typeMismatch)
    }
}
