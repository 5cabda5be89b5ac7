import Postgres
import Testing

/// A length and the bytes behind it, as values write them at once, against the general way around `encode`.
struct CellTests {
    private func cell(_ write: (inout PostgresEncoder) throws(PostgresError) -> Void) throws -> [UInt8] {
        var encoder = PostgresEncoder(capacity: 16)
        try write(&encoder)
        return encoder.withUnsafeBytes { Array($0) }
    }

    private func measured<Value: PostgresEncodable>(_ value: Value) throws -> [UInt8] {
        var encoder = PostgresEncoder(capacity: 16)
        try value.encode(into: &encoder)
        let bytes = encoder.withUnsafeBytes { Array($0) }
        return withUnsafeBytes(of: UInt32(truncatingIfNeeded: bytes.count).bigEndian) { Array($0) } + bytes
    }

    private func expectSame<Value: PostgresEncodable>(_ value: Value) throws {
        let expected = try measured(value)
        #expect(try cell { (encoder) throws(PostgresError) in try encoder.writeCell(value) } == expected)
        #expect(try cell { (encoder) throws(PostgresError) in try encoder.writeCell(Optional(value)) } == expected)
    }

    @Test func aCellIsALengthAndWhatEncodeWrites() throws {
        try expectSame(Int.min)
        try expectSame(Int64.max)
        try expectSame(Int32(-2))
        try expectSame(Int16(300))
        try expectSame(UInt32.max)
        try expectSame(true)
        try expectSame(1.5)
        try expectSame(Float(-0.25))
        try expectSame(PostgresTimestamp(microseconds: 123_456_789))
        try expectSame(PostgresTimestamp.infinity)
        try expectSame([UInt8]([1, 0, 2]).map { Int32($0) })
    }

    @Test func nullIsALengthOfMinusOne() throws {
        #expect(
            try cell { (encoder) throws(PostgresError) in try encoder.writeCell(Int32?.none) } == [255, 255, 255, 255])
        #expect(
            try cell { (encoder) throws(PostgresError) in
                try encoder.writeCell(String?.none)
                try encoder.writeCell("a")
            } == [255, 255, 255, 255, 0, 0, 0, 1, 0x61])
    }

    /// Around the lengths at which a text is copied in another way, and at which String keeps it elsewhere.
    @Test(arguments: [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 5000])
    func textOfAnyLength(length: Int) throws {
        for character in ["x", "é", "漢", "\u{80}"] {
            let text = String(String(repeating: character, count: length).utf8.prefix(length)) ?? ""
            try expectSame(text)
            try expectSame(PostgresJSONText(text))
        }
    }

    @Test(arguments: [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 15, 16, 17, 31, 32, 33, 64, 65, 97])
    func aNULIsFoundWhereverItIs(length: Int) throws {
        for place in 0..<length {
            var bytes = [UInt8](repeating: 0x7F, count: length)
            bytes[place] = 0
            let text = String(decoding: bytes, as: UTF8.self)
            var encoder = PostgresEncoder(capacity: 16)
            try encoder.writeCell(Int16(1))
            #expect(
                performing: { try encoder.writeCell(text) },
                throws: { ($0 as? PostgresError)?.code == .invalidArgument })
            #expect(
                performing: { try encoder.writeCell(PostgresJSONText(text)) },
                throws: { ($0 as? PostgresError)?.code == .invalidArgument })
            // What was refused leaves nothing behind.
            #expect(encoder.withUnsafeBytes { Array($0) } == [0, 0, 0, 2, 0, 1])
        }
    }

    @Test func aTimeOutsideTheServersRangeIsRefused() {
        var encoder = PostgresEncoder(capacity: 16)
        #expect(
            performing: { try encoder.writeCell(PostgresTimestamp(microseconds: .max - 1)) },
            throws: { ($0 as? PostgresError)?.code == .invalidArgument })
    }
}
