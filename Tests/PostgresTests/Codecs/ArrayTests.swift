import Postgres
import Testing

struct ArrayTests {
    /// Header of a one-dimensional binary array.
    static func header(_ oid: UInt8, count: UInt8, flag: UInt8 = 0) -> [UInt8] {
        [0, 0, 0, 1, 0, 0, 0, flag, 0, 0, 0, oid, 0, 0, 0, count, 0, 0, 0, 1]
    }

    static let int4Array = PostgresType(oid: 1007)
    static let textArray = PostgresType(oid: 1009)

    @Test func anArrayIsAHeaderAndCells() throws {
        #expect(
            try encoded([Int32(1), -1]) == Self.header(23, count: 2) + [0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 4] + [
                255, 255, 255, 255,
            ])
        #expect(
            try encoded([Int32(1), nil]) == Self.header(23, count: 2, flag: 1) + [0, 0, 0, 4, 0, 0, 0, 1] + [
                255, 255, 255, 255,
            ])
        #expect(try encoded(["ab", ""]) == Self.header(25, count: 2) + [0, 0, 0, 2, 0x61, 0x62, 0, 0, 0, 0])
        #expect(try encoded([Int32]()) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23])
        #expect([Int32].postgresType.oid == 1007)
        #expect([Int?].postgresType.oid == 1016)
        #expect([String].postgresType.oid == 1009)
        #expect([String].postgresFormat == .binary)
    }

    @Test func theFormatToAskForIsTheElements() {
        #expect([Int].postgresResultFormat == .binary)
        #expect([Int?].postgresResultFormat == .binary)
        #expect([String].postgresResultFormat == .text)
    }

    @Test func bothFormsAreRead() throws {
        let bytes = Self.header(23, count: 2, flag: 1) + [0, 0, 0, 4, 0, 0, 0, 7, 255, 255, 255, 255]
        #expect(try decoded(bytes, Self.int4Array, .binary, as: [Int32?].self) == [7, nil])
        #expect(try decoded(bytes, Self.int4Array, .binary, as: [Int?].self) == [7, nil])
        #expect(try decoded("{7,NULL}", Self.int4Array, as: [Int?].self) == [7, nil])
        #expect(try decoded([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23], Self.int4Array, .binary, as: [Int].self) == [])
        #expect(try decoded("{}", Self.int4Array, as: [Int].self) == [])
        #expect(try decoded("{t,f}", PostgresType(oid: 1000), as: [Bool].self) == [true, false])
        #expect(
            try decoded("{NaN,-Infinity,1.5}", PostgresType(oid: 1022), as: [Double].self)[1...] == [-.infinity, 1.5])
        let times = "{\"2000-01-01 00:00:00+00\",infinity}"
        #expect(
            try decoded(times, PostgresType(oid: 1185), as: [PostgresTimestamp].self)
                == [.init(microseconds: 0), .infinity])
        #expect(try decoded("{\"\\\\x0aff\"}", PostgresType(oid: 1001), as: [PostgresBytes].self) == [[0x0A, 0xFF]])
    }

    @Test(
        arguments: [
            ("{}", []), ("{a}", ["a"]), ("{a,b}", ["a", "b"]), ("{\"\"}", [""]),
            ("{NULL,\"NULL\",null}", [nil, "NULL", "null"]),
            ("{\"a,b\",\"{}\",\"c d\"}", ["a,b", "{}", "c d"]),
            ("{\"\\\"\",\"\\\\\",\"a\\\\b\\\"c\"}", ["\"", "\\", "a\\b\"c"]),
            ("{日本,\"é \"}", ["日本", "é "]), ("[2:3]={a,b}", ["a", "b"]), ("[-1:0]={a,b}", ["a", "b"]),
            ("[-2147483648:-2147483648]={a}", ["a"]), ("{\"\\a\"}", ["a"]),
        ] as [(String, [String?])])
    func textElementsAreUnquoted(text: String, elements: [String?]) throws {
        #expect(try decoded(text, Self.textArray, as: [String?].self) == elements)
    }

    @Test(arguments: [
        "", "{", "}", "a", "{a", "{a,", "{a,}", "{,a}", "{,}", "{a}b", "{a} ", " {a}", "{a b}", "{a, b}", "{\"a}",
        "{\"a\"b}",
        "{\"a\"", "{\"\\", "{\"\\\"}", "{a\"b\"}", "{a\\b}", "{a{b}", "{a}}", "[1:2]={a}", "[1:1]={a,b}", "[2:1]={}",
        "[1:0]={}", "[1]={a}", "[1:1]{a}", "[:]={a}", "[1:99999999999]={a}", "[1:1", "[--1:1]={a}", "[a:b]={a}",
        "[-2147483648:2147483647]={a}",
    ])
    func malformedTextIsRefused(text: String) {
        #expect(refusal(text, Self.textArray, as: [String?].self) == .cannotDecode)
    }

    @Test(arguments: ["{{1},{2}}", "{{}}", "[1:1][1:1]={{1}}", "{{{{{{1}}}}}}"])
    func moreThanOneDimensionIsRefused(text: String) {
        #expect(refusal(text, Self.int4Array, as: [Int].self) == .cannotDecode)
        #expect(
            refusal([0, 0, 0, 2] + [UInt8](repeating: 0, count: 60), Self.int4Array, .binary, as: [Int].self)
                == .cannotDecode)
    }

    static let malformed: [[UInt8]] = [
        [], [0], [0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0],
        // dimensions: -1, 7, 2^31 - 1, -2^31
        [255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 23], [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 23],
        [127, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 23], [128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23],
        // a flag of 2
        [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 23],
        // no bytes may follow an empty array
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23, 0],
        // no dimension behind the header; no lower bound
        [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 0],
        // counts: -1, 2^31 - 1, one too many, one too few
        [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 255, 255, 255, 255, 0, 0, 0, 1],
        [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 127, 255, 255, 255, 0, 0, 0, 1, 0, 0, 0, 0],
        header(23, count: 2) + [0, 0, 0, 4, 0, 0, 0, 1], header(23, count: 0) + [0, 0, 0, 4, 0, 0, 0, 1],
        // lengths: beyond the end, -2, 2^31 - 1, cut off
        header(23, count: 1) + [0, 0, 0, 5, 0, 0, 0, 1], header(23, count: 1) + [255, 255, 255, 254],
        header(23, count: 1) + [127, 255, 255, 255, 0, 0, 0, 1], header(23, count: 1) + [0, 0, 0],
        header(23, count: 2) + [0, 0, 0, 4, 0, 0, 0, 1, 0, 0],
        // an element of the wrong length
        header(23, count: 1) + [0, 0, 0, 3, 0, 0, 1],
    ]

    @Test(arguments: malformed)
    func malformedBytesAreRefused(bytes: [UInt8]) {
        #expect(refusal(bytes, Self.int4Array, .binary, as: [Int?].self) == .cannotDecode)
        #expect(refusal(bytes, Self.int4Array, .binary, as: [Int32].self) == .cannotDecode)
    }

    @Test func aTypeThatIsNoArrayIsAMismatch() {
        for format in [PostgresFormat.text, .binary] {
            #expect(refusal([0, 0, 0, 0], .int4, format, as: [Int].self) == .typeMismatch)
            #expect(refusal([0, 0, 0, 0], .text, format, as: [String].self) == .typeMismatch)
        }
        // An array of another element type.
        #expect(refusal("{a}", Self.textArray, as: [Int].self) == .typeMismatch)
        #expect(refusal("{1}", Self.int4Array, as: [Bool].self) == .typeMismatch)
    }

    @Test func anArrayOfAnUnknownTypeIsReadAsStrings() throws {
        #expect(try decoded("{sad,happy}", PostgresType(oid: 90_001), as: [String].self) == ["sad", "happy"])
    }

    @Test func boxesAreDividedBySemicolons() throws {
        let boxes = "{(1,1),(0,0);(2,2),(1,1)}"
        #expect(try decoded(boxes, PostgresType(oid: 1020), as: [String].self) == ["(1,1),(0,0)", "(2,2),(1,1)"])
    }

    @Test func nullIsRefusedUnlessTheElementIsOptional() {
        let bytes = Self.header(23, count: 1, flag: 1) + [255, 255, 255, 255]
        #expect(refusal(bytes, Self.int4Array, .binary, as: [Int].self) == .unexpectedNull)
        #expect(refusal("{NULL}", Self.int4Array, as: [Int].self) == .unexpectedNull)
    }

    @Test func anErrorNamesItsElement() throws {
        let error = #expect(throws: PostgresError.self) {
            _ = try decoded("{1,2,99999}", PostgresType(oid: 1007), as: [Int16].self)
        }
        #expect(error?.message.hasPrefix("element 2: ") == true)
    }

    struct NoArrayType: PostgresEncodable {
        static var postgresType: PostgresType { PostgresType(oid: 90_002) }
        func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(UInt8(0)) }
    }

    struct TextOnly: PostgresEncodable {
        static var postgresType: PostgresType { .numeric }
        static var postgresFormat: PostgresFormat { .text }
        func encode(into encoder: inout PostgresEncoder) throws(PostgresError) { encoder.write(utf8: "1") }
    }

    @Test func whatHasNoBinaryArrayIsNotSent() throws {
        #expect(refusal(of: [NoArrayType()]) == .invalidArgument)
        #expect(refusal(of: [TextOnly()]) == .invalidArgument)
        #expect(refusal(of: [[1]]) == .invalidArgument)
        #expect(refusal(of: [Int?.none].map { [$0] }) == .invalidArgument)
    }

    @Test func aFailingElementFailsTheArray() {
        #expect(refusal(of: ["a", "b\0"]) == .invalidArgument)
    }

    @Test func whatIsEncodedIsDecoded() throws {
        var generator = SeededGenerator(seed: 5)
        for _ in 0..<300 {
            let count = Int.random(in: 0...20, using: &generator)
            let numbers = (0..<count).map { _ in
                Bool.random(using: &generator) ? Int(bitPattern: UInt(generator.next())) : nil
            }
            #expect(try roundTrip(numbers) == numbers)
            let texts = numbers.map { number in number.map { String($0, radix: 36) } ?? "" }
            #expect(try roundTrip(texts) == texts)
            let flags = numbers.map { $0 == nil }
            #expect(try roundTrip(flags) == flags)
        }
    }

    @Test func textIsReadAsItWasQuoted() throws {
        let alphabet: [Character] = ["a", "\"", "\\", ",", "{", "}", " ", "N", "U", "L", "é", "\n"]
        var generator = SeededGenerator(seed: 6)
        for _ in 0..<1000 {
            let texts = (0..<Int.random(in: 0...4, using: &generator)).map { _ in
                String(
                    (0..<Int.random(in: 0...5, using: &generator)).map { _ in
                        alphabet[Int.random(in: 0..<alphabet.count, using: &generator)]
                    })
            }
            let quoted = texts.map { text in
                "\"" + text.map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : String($0) }.joined() + "\""
            }
            #expect(try decoded("{" + quoted.joined(separator: ",") + "}", Self.textArray, as: [String].self) == texts)
        }
    }

    @Test func noBytesMakeItTrap() {
        var generator = SeededGenerator(seed: 7)
        var outcomes: [PostgresError.Code?: Int] = [:]
        let seed = (try? encoded([Int32(1), nil, 3])) ?? []
        for _ in 0..<5000 {
            var bytes = seed
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[position] = UInt8(truncatingIfNeeded: generator.next())
            }
            bytes.removeLast(Int.random(in: 0...2, using: &generator))
            outcomes[refusal(bytes, Self.int4Array, .binary, as: [Int?].self), default: 0] += 1
        }
        for code in outcomes.keys { #expect([nil, .cannotDecode, .typeMismatch].contains(code)) }
        #expect(outcomes.count == 3)
    }
}
