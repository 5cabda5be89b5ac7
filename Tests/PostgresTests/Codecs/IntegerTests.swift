import Postgres
import Testing

struct IntegerTests {
    @Test(
        arguments: [
            (Int64(0), [0, 0, 0, 0, 0, 0, 0, 0]), (1, [0, 0, 0, 0, 0, 0, 0, 1]),
            (-1, [255, 255, 255, 255, 255, 255, 255, 255]), (Int64.max, [127, 255, 255, 255, 255, 255, 255, 255]),
            (Int64.min, [128, 0, 0, 0, 0, 0, 0, 0]), (0x0102_0304_0506_0708, [1, 2, 3, 4, 5, 6, 7, 8]),
        ] as [(Int64, [UInt8])])
    func int8HasItsBytesInNetworkOrder(number: Int64, bytes: [UInt8]) throws {
        #expect(try encoded(number) == bytes)
        #expect(try encoded(Int(number)) == bytes)
        #expect(try decoded(bytes, .int8, .binary, as: Int64.self) == number)
        #expect(try decoded(bytes, .int8, .binary, as: Int.self) == Int(number))
        #expect(try decoded("\(number)", .int8, as: Int64.self) == number)
        #expect(try decoded("\(number)", .int8, as: Int.self) == Int(number))
    }

    @Test func smallerIntegersHaveTheirOwnWidth() throws {
        #expect(try encoded(Int16(-2)) == [255, 254])
        #expect(try encoded(Int32(-2)) == [255, 255, 255, 254])
        #expect(try encoded(UInt32.max - 1) == [255, 255, 255, 254])
        #expect(Int16.postgresType == .int2)
        #expect(Int32.postgresType == .int4)
        #expect(UInt32.postgresType == .oid)
        #expect(Int.postgresType == .int8)
    }

    @Test func anIntegerReadsEveryIntegerTypeInBothForms() throws {
        let sources: [(PostgresType, [UInt8], String)] = [
            (.int2, [1, 2], "258"), (.int4, [0, 0, 1, 2], "258"), (.int8, [0, 0, 0, 0, 0, 0, 1, 2], "258"),
            (.oid, [0, 0, 1, 2], "258"),
        ]
        for (type, bytes, text) in sources {
            #expect(try decoded(bytes, type, .binary, as: Int16.self) == 258)
            #expect(try decoded(bytes, type, .binary, as: Int32.self) == 258)
            #expect(try decoded(bytes, type, .binary, as: Int64.self) == 258)
            #expect(try decoded(bytes, type, .binary, as: Int.self) == 258)
            #expect(try decoded(bytes, type, .binary, as: UInt32.self) == 258)
            #expect(try decoded(text, type, as: Int16.self) == 258)
            #expect(try decoded(text, type, as: Int32.self) == 258)
            #expect(try decoded(text, type, as: Int64.self) == 258)
            #expect(try decoded(text, type, as: Int.self) == 258)
            #expect(try decoded(text, type, as: UInt32.self) == 258)
        }
    }

    @Test func narrowingIsCheckedAtTheBoundaries() throws {
        func reads<Value: PostgresDecodable & FixedWidthInteger>(_ number: Int64, _: Value.Type) -> Bool {
            let bytes = withUnsafeBytes(of: number.bigEndian) { [UInt8]($0) }
            let binary = refusal(bytes, .int8, .binary, as: Value.self)
            let text = refusal("\(number)", .int8, as: Value.self)
            #expect(binary == text)
            #expect(binary == nil || binary == .cannotDecode)
            return binary == nil
        }
        #expect(reads(32_767, Int16.self) && !reads(32_768, Int16.self))
        #expect(reads(-32_768, Int16.self) && !reads(-32_769, Int16.self))
        #expect(reads(2_147_483_647, Int32.self) && !reads(2_147_483_648, Int32.self))
        #expect(reads(-2_147_483_648, Int32.self) && !reads(-2_147_483_649, Int32.self))
        #expect(reads(4_294_967_295, UInt32.self) && !reads(4_294_967_296, UInt32.self))
        #expect(reads(0, UInt32.self) && !reads(-1, UInt32.self))
    }

    @Test func anOIDAbove2To31IsPositive() throws {
        #expect(try decoded([255, 255, 255, 255], .oid, .binary, as: Int.self) == 4_294_967_295)
        #expect(try decoded("4294967295", .oid, as: UInt32.self) == .max)
        #expect(refusal([128, 0, 0, 0], .oid, .binary, as: Int32.self) == .cannotDecode)
    }

    @Test(arguments: [
        "", "-", "+1", " 1", "1 ", "1.0", "0x10", "1e3", "--1", "9223372036854775808", "-9223372036854775809",
        "99999999999999999999", "18446744073709551616", "٣", "1\0",
    ])
    func textThatIsNoIntegerIsRefused(text: String) {
        #expect(refusal(text, .int8, as: Int.self) == .cannotDecode)
    }

    @Test(arguments: [PostgresType.int2, .int4, .int8, .oid])
    func aWrongLengthIsRefused(type: PostgresType) {
        for count in [0, 1, 3, 5, 6, 7, 9, 16] {
            let bytes = [UInt8](repeating: 0, count: count)
            #expect(refusal(bytes, type, .binary, as: Int.self) == .cannotDecode)
            #expect(refusal(bytes, type, .binary, as: Int16.self) == .cannotDecode)
        }
    }

    @Test(arguments: [PostgresType.text, .bool, .float8, .numeric, .timestamptz, PostgresType(oid: 0)])
    func otherTypesAreAMismatch(type: PostgresType) {
        for format in [PostgresFormat.text, .binary] {
            #expect(refusal([0, 0, 0, 1], type, format, as: Int32.self) == .typeMismatch)
        }
    }

    @Test func whatIsEncodedIsDecoded() throws {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<2000 {
            // Shifted, so that small and large numbers are equally frequent.
            let number = Int64(bitPattern: generator.next()) >> Int64.random(in: 0..<64, using: &generator)
            #expect(try roundTrip(number) == number)
            #expect(try roundTrip(Int(number)) == Int(number))
            #expect(try decoded("\(number)", .int8, as: Int64.self) == number)
            let half = Int32(truncatingIfNeeded: number)
            #expect(try roundTrip(half) == half)
            let quarter = Int16(truncatingIfNeeded: number)
            #expect(try roundTrip(quarter) == quarter)
            let oid = UInt32(truncatingIfNeeded: number)
            #expect(try roundTrip(oid) == oid)
        }
    }
}
