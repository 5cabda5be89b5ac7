import Postgres
import Testing

struct FloatingPointTests {
    @Test(
        arguments: [
            (1.5, [0x3F, 0xF8, 0, 0, 0, 0, 0, 0], "1.5"), (-0.0, [0x80, 0, 0, 0, 0, 0, 0, 0], "-0"),
            (0.1, [0x3F, 0xB9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9A], "0.1"),
            (.leastNonzeroMagnitude, [0, 0, 0, 0, 0, 0, 0, 1], "5e-324"),
            (1.797_693_134_862_315_7e308, [0x7F, 0xEF, 255, 255, 255, 255, 255, 255], "1.7976931348623157e+308"),
            (.infinity, [0x7F, 0xF0, 0, 0, 0, 0, 0, 0], "Infinity"),
            (-.infinity, [0xFF, 0xF0, 0, 0, 0, 0, 0, 0], "-Infinity"),
            (1e20, [0x44, 0x15, 0xAF, 0x1D, 0x78, 0xB5, 0x8C, 0x40], "1e+20"),
        ] as [(Double, [UInt8], String)])
    func float8HasItsBitsInNetworkOrder(number: Double, bytes: [UInt8], text: String) throws {
        #expect(try encoded(number) == bytes)
        // Bits, because -0 == 0.
        #expect(try decoded(bytes, .float8, .binary, as: Double.self).bitPattern == number.bitPattern)
        #expect(try decoded(text, .float8, as: Double.self).bitPattern == number.bitPattern)
    }

    @Test func float4IsReadAsFloatAndAsDouble() throws {
        #expect(try encoded(Float(1.5)) == [0x3F, 0xC0, 0, 0])
        #expect(try decoded([0x3F, 0xC0, 0, 0], .float4, .binary, as: Float.self) == 1.5)
        #expect(try decoded([0x3F, 0xC0, 0, 0], .float4, .binary, as: Double.self) == 1.5)
        #expect(try decoded("3.4028235e+38", .float4, as: Float.self) == .greatestFiniteMagnitude)
        #expect(try decoded("1e-45", .float4, as: Float.self) == .leastNonzeroMagnitude)
        #expect(try decoded("-Infinity", .float4, as: Float.self) == -.infinity)
        #expect(try decoded("0.1", .float4, as: Double.self) == 0.1)
    }

    @Test func notANumberKeepsItsPayloadInBinary() throws {
        let payload = UInt64(0x7FF8_0000_0000_1234)
        #expect(try roundTrip(Double(bitPattern: payload)).bitPattern == payload)
        #expect(try decoded("NaN", .float8, as: Double.self).isNaN)
        #expect(try decoded("NaN", .float4, as: Float.self).isNaN)
    }

    @Test(arguments: [
        "", " 1", "1 ", "inf", "nan", "infinity", "INFINITY", "0x1p3", "1e", "e1", "1.2.3", "--1", "1_0", "1e400",
        "-1e400", "1,5", "١",
    ])
    func textThatIsNoNumberIsRefused(text: String) {
        #expect(refusal(text, .float8, as: Double.self) == .cannotDecode)
        #expect(refusal(text, .float4, as: Float.self) == .cannotDecode)
    }

    @Test func aFloatDoesNotOverflowToInfinity() {
        #expect(refusal("1e39", .float4, as: Float.self) == .cannotDecode)
    }

    @Test func aWrongLengthIsRefused() {
        for count in [0, 3, 5, 7, 9] {
            let bytes = [UInt8](repeating: 0, count: count)
            #expect(refusal(bytes, .float8, .binary, as: Double.self) == .cannotDecode)
            #expect(refusal(bytes, .float4, .binary, as: Double.self) == .cannotDecode)
            #expect(refusal(bytes, .float4, .binary, as: Float.self) == .cannotDecode)
        }
    }

    @Test func otherTypesAreAMismatch() {
        let zeros = [UInt8](repeating: 0, count: 8)
        #expect(refusal(zeros, .int8, .binary, as: Double.self) == .typeMismatch)
        #expect(refusal("1", .numeric, as: Double.self) == .typeMismatch)
        #expect(refusal(zeros, .float8, .binary, as: Float.self) == .typeMismatch)
    }

    @Test func whatIsEncodedIsDecoded() throws {
        var generator = SeededGenerator(seed: 2)
        for _ in 0..<2000 {
            let bits = generator.next()
            #expect(try roundTrip(Double(bitPattern: bits)).bitPattern == bits)
            let half = UInt32(truncatingIfNeeded: bits)
            #expect(try roundTrip(Float(bitPattern: half)).bitPattern == half)
            let number = Double(bitPattern: bits)
            if number.isFinite { #expect(try decoded("\(number)", .float8, as: Double.self) == number) }
        }
    }
}
