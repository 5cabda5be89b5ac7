import PostgresProtocol
import Testing

struct GoldenMessage: CustomTestStringConvertible, Sendable {
    typealias Write = @Sendable (inout ByteWriter) throws(EncodingError) -> Void

    let name: String
    let expected: [UInt8]
    let write: Write

    init(_ name: String, _ expected: String..., write: @escaping Write) {
        self.name = name
        self.expected = hex(expected)
        self.write = write
    }

    var testDescription: String { name }
}

/// Lends the bytes of a string.
func withBytes<Result>(
    _ text: String, _ body: (UnsafeRawBufferPointer) throws(EncodingError) -> Result
) throws(EncodingError) -> Result {
    let bytes = Array(text.utf8)
    let outcome = bytes.withUnsafeBytes { lent in
        Swift.Result { () throws(EncodingError) in try body(lent) }
    }
    return try outcome.get()
}

func withBytes<Result>(
    of bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(EncodingError) -> Result
) throws(EncodingError) -> Result {
    let outcome = bytes.withUnsafeBytes { lent in
        Swift.Result { () throws(EncodingError) in try body(lent) }
    }
    return try outcome.get()
}

private let twoCells = hex("00000004", "0000002a", "ffffffff")

let goldenMessages: [GoldenMessage] = [
    GoldenMessage(
        "CancelRequest of protocol 3.0",
        "00000010",  // length
        "04d2162e",  // 80877102
        "e3f1c2a1",  // process ID: all 32 bits are used
        "01020304"  // key
    ) { writer throws(EncodingError) in
        try writer.cancelRequest(processID: 0xE3F1_C2A1, secretKey: [1, 2, 3, 4])
    },
    GoldenMessage(
        "Close of a statement",
        "43",  // 'C'
        "00000008",  // length
        "53",  // 'S'tatement
        "733100"  // "s1"
    ) { writer throws(EncodingError) in try writer.close(statement: "s1") },
    GoldenMessage(
        "Close of the unnamed portal",
        "43",  // 'C'
        "00000006",  // length
        "50",  // 'P'ortal
        "00"  // ""
    ) { writer throws(EncodingError) in try writer.close(portal: "") },
    GoldenMessage(
        "CopyData",
        "64",  // 'd'
        "00000007",  // length
        "610009"  // as they are, zero bytes too
    ) { writer throws(EncodingError) in
        try withBytes(of: [0x61, 0, 9]) { bytes throws(EncodingError) in try writer.copyData(bytes) }
    },
    GoldenMessage("CopyDone", "63", "00000004") { $0.copyDone() },
    GoldenMessage(
        "CopyFail",
        "66",  // 'f'
        "00000008",  // length
        "6e6f7000"  // "nop"
    ) { writer throws(EncodingError) in try writer.copyFail(reason: "nop") },
    GoldenMessage(
        "Describe of a statement",
        "44",  // 'D'
        "00000007",  // length
        "53",  // 'S'tatement
        "6100"  // "a"
    ) { writer throws(EncodingError) in try writer.describe(statement: "a") },
    GoldenMessage(
        "Describe of a portal",
        "44",  // 'D'
        "00000007",  // length
        "50",  // 'P'ortal
        "6200"  // "b"
    ) { writer throws(EncodingError) in try writer.describe(portal: "b") },
    GoldenMessage(
        "Execute of a named portal, at most 100 rows",
        "45",  // 'E'
        "0000000a",  // length
        "7000",  // "p"
        "00000064"  // rows
    ) { writer throws(EncodingError) in try writer.execute(portal: "p", maximumRows: 100) },
    GoldenMessage("Execute", "45", "00000009", "00", "00000000") { $0.execute() },
    GoldenMessage("Execute and Sync", "45", "00000009", "00", "00000000", "53", "00000004") { $0.executeSync() },
    GoldenMessage("Flush", "48", "00000004") { $0.flush() },
    GoldenMessage(
        "FunctionCall",
        "46",  // 'F'
        "0000001b",  // length
        "000003ba",  // function's OID
        "0001 0001",  // one format for all: binary
        "0002",  // arguments
        "00000003 010203",  // first
        "ffffffff",  // second: NULL
        "0000"  // result: text
    ) { writer throws(EncodingError) in
        try writer.functionCall(
            function: 954, argumentFormats: .all(.binary), arguments: [[1, 2, 3], nil], resultFormat: .text)
    },
    GoldenMessage("GSSENCRequest", "00000008", "04d21630") { $0.gssEncRequest() },
    GoldenMessage("GSSResponse", "70", "00000006", "0001") { writer throws(EncodingError) in
        try writer.gssResponse([0, 1])
    },
    GoldenMessage(
        "Parse",
        "50",  // 'P'
        "0000001e",  // length
        "733100",  // "s1"
        "73656c656374202431 2c2432 00",  // "select $1,$2"
        "0002",  // types
        "00000017",  // int4
        "00000000"  // for the server to infer
    ) { writer throws(EncodingError) in
        try writer.parse(statement: "s1", sql: "select $1,$2", parameterTypes: [23, 0])
    },
    GoldenMessage("Parse of nothing", "50", "00000008", "00", "00", "0000") { writer throws(EncodingError) in
        try writer.parse(statement: "", sql: "", parameterTypes: [])
    },
    GoldenMessage("PasswordMessage", "70", "00000008", "70c3a400") { writer throws(EncodingError) in
        try writer.password("pä")
    },
    GoldenMessage(
        "Query",
        "51",  // 'Q'
        "0000000d",  // length
        "73656c6563742031 00"  // "select 1"
    ) { writer throws(EncodingError) in try writer.query("select 1") },
    GoldenMessage(
        "SASLInitialResponse",
        "70",  // 'p'
        "00000018",  // length
        "534352414d2d5348412d32353600",  // "SCRAM-SHA-256"
        "00000002",  // bytes to come
        "6e2c"  // "n,"
    ) { writer throws(EncodingError) in
        try writer.saslInitialResponse(mechanism: "SCRAM-SHA-256", data: Array("n,".utf8))
    },
    GoldenMessage("SASLInitialResponse without data", "70", "0000000a", "5800", "ffffffff") {
        writer throws(EncodingError) in
        try writer.saslInitialResponse(mechanism: "X", data: nil)
    },
    GoldenMessage("SASLResponse", "70", "00000005", "63") { writer throws(EncodingError) in
        try writer.saslResponse([0x63])
    },
    GoldenMessage("SSLRequest", "00000008", "04d2162f") { $0.sslRequest() },
    GoldenMessage(
        "StartupMessage",
        "00000015",  // length
        "00030002",  // 3.2
        "7573657200 616c00",  // user = al
        "6100 6200",  // a = b
        "00"  // end of the list
    ) { writer throws(EncodingError) in
        try writer.startup(version: .v32, parameters: [("user", "al"), ("a", "b")])
    },
    GoldenMessage("Sync", "53", "00000004") { $0.sync() },
    GoldenMessage("Terminate", "58", "00000004") { $0.terminate() },
    GoldenMessage(
        "Bind",
        "42",  // 'B'
        "00000021",  // length
        "7000",  // portal "p"
        "733100",  // statement "s1"
        "0002 0001 0000",  // formats: binary, text
        "0002",  // parameters
        "00000004 0000002a",  // 42
        "ffffffff",  // NULL
        "0001 0001"  // results: all binary
    ) { writer throws(EncodingError) in
        try withBytes("p") { portal throws(EncodingError) in
            try withBytes("s1") { statement throws(EncodingError) in
                try withBytes(of: twoCells) { cells throws(EncodingError) in
                    try writer.bind(
                        portal: portal, statement: statement, parameterFormats: .each([.binary, .text]),
                        parameterCount: 2, cells: cells, resultFormats: .all(.binary))
                }
            }
        }
    },
    GoldenMessage(
        "Bind, Execute and Sync",
        "42",  // 'B'
        "00000020",  // length
        "00",  // unnamed portal
        "733100",  // statement "s1"
        "0002 0001 0000",  // formats: binary, text
        "0002",  // parameters
        "00000004 0000002a",  // 42
        "ffffffff",  // NULL
        "0001 0000",  // results: all text
        "45",  // 'E'
        "00000009",  // length
        "00",  // unnamed portal
        "00000000",  // all rows
        "53",  // 'S'
        "00000004"  // length
    ) { writer throws(EncodingError) in
        try withBytes("s1") { statement throws(EncodingError) in
            try withBytes(of: twoCells) { cells throws(EncodingError) in
                try writer.bindExecuteSync(
                    statement: statement, parameterFormats: .mixed(binary: 0b01, count: 2), parameterCount: 2,
                    cells: cells, resultFormats: .all(.text))
            }
        }
    },
    GoldenMessage(
        "Bind, Execute and Sync, around cells that come from elsewhere",
        "42",  // 'B'
        "00000022",  // length, with the cells
        "00",  // unnamed portal
        "733100",  // statement "s1"
        "0002 0001 0000",  // formats: binary, text
        "0002",  // parameters
        "00000004 0000002a ffffffff",  // the cells
        "0002 0000 0001",  // results: text, binary
        "45 00000009 00 00000000",  // Execute
        "53 00000004"  // Sync
    ) { writer throws(EncodingError) in
        try withBytes("s1") { statement throws(EncodingError) in
            try withBytes(of: twoCells) { cells throws(EncodingError) in
                let place = try writer.bindExecuteSync(
                    around: cells, statement: statement, parameterFormats: .mixed(binary: 0b01, count: 2),
                    parameterCount: 2, resultFormats: .mixed(binary: 0b10, count: 2))
                writer.insert(cells, at: place)
            }
        }
    },
    GoldenMessage(
        "Bind of nothing",
        "42",  // 'B'
        "00000010",  // length
        "00 00",  // unnamed portal and statement
        "0000",  // no parameter format
        "0000",  // no parameter
        "0002 0000 0001"  // results: text, binary
    ) { writer throws(EncodingError) in
        let empty = UnsafeRawBufferPointer(start: nil, count: 0)
        try writer.bind(
            statement: empty, parameterFormats: .none, parameterCount: 0, cells: empty,
            resultFormats: .mixed(binary: 0b10, count: 2))
    },
]

@Suite struct FrontendMessageTests {
    @Test(arguments: goldenMessages)
    func isWrittenAsTheManualSays(_ golden: GoldenMessage) throws {
        var writer = ByteWriter()
        // What stands before a message is none of its business.
        writer.write(UInt8(0xEE))
        try golden.write(&writer)
        #expect(writer.written == [0xEE] + golden.expected)
    }

    @Test(arguments: [0, 1, 63, 64, 65, 300])
    func growsItsBufferToFit(textLength: Int) throws {
        var writer = ByteWriter(capacity: 64)
        try writer.query(String(repeating: "x", count: textLength))
        #expect(writer.written.count == 1 + 4 + textLength + 1)
        #expect(writer.written.last == 0)
    }

    struct Refusal: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let error: EncodingError
        let write: GoldenMessage.Write

        init(_ name: String, _ error: EncodingError, _ write: @escaping GoldenMessage.Write) {
            (testDescription, self.error, self.write) = (name, error, write)
        }
    }

    static let refusals: [Refusal] = [
        Refusal("zero byte in the SQL of Query", .zeroByte("SQL text")) { writer throws(EncodingError) in
            try writer.query("select 1\0; drop table t")
        },
        Refusal("zero byte in the SQL of Parse", .zeroByte("SQL text")) { writer throws(EncodingError) in
            try writer.parse(statement: "s", sql: "\0", parameterTypes: [])
        },
        Refusal("zero byte in a statement's name", .zeroByte("statement name")) { writer throws(EncodingError) in
            try writer.parse(statement: "s\0", sql: "", parameterTypes: [])
        },
        Refusal("zero byte in Close", .zeroByte("statement name")) { writer throws(EncodingError) in
            try writer.close(statement: "a\0b")
        },
        Refusal("zero byte in Describe", .zeroByte("portal name")) { writer throws(EncodingError) in
            try writer.describe(portal: "\0")
        },
        Refusal("zero byte in Execute", .zeroByte("portal name")) { writer throws(EncodingError) in
            try writer.execute(portal: "\0")
        },
        Refusal("zero byte in Bind's portal", .zeroByte("portal name")) { writer throws(EncodingError) in
            try withBytes("a\0") { name throws(EncodingError) in try writer.bindNothing(portal: name) }
        },
        Refusal("zero byte in Bind's statement", .zeroByte("statement name")) { writer throws(EncodingError) in
            try withBytes("a\0") { name throws(EncodingError) in try writer.bindNothing(statement: name) }
        },
        Refusal("zero byte in a password", .zeroByte("password")) { writer throws(EncodingError) in
            try writer.password("secret\0")
        },
        Refusal("zero byte in a mechanism", .zeroByte("mechanism")) { writer throws(EncodingError) in
            try writer.saslInitialResponse(mechanism: "\0", data: nil)
        },
        Refusal("zero byte in CopyFail", .zeroByte("reason")) { writer throws(EncodingError) in
            try writer.copyFail(reason: "\0")
        },
        Refusal("zero byte in a startup value", .zeroByte("startup parameter value")) {
            writer throws(EncodingError) in
            try writer.startup(
                version: .v30, parameters: [("user", "a"), ("application_name", "x\0user\0admin")])
        },
        Refusal("zero byte in a startup name", .zeroByte("startup parameter name")) { writer throws(EncodingError) in
            try writer.startup(version: .v30, parameters: [("us\0er", "a")])
        },
        Refusal("empty startup name", .emptyName("startup parameter")) { writer throws(EncodingError) in
            try writer.startup(version: .v30, parameters: [("", "a"), ("user", "b")])
        },
        Refusal("startup message longer than a server reads", .messageTooLong(bytes: 10_010)) {
            writer throws(EncodingError) in
            try writer.startup(
                version: .v30, parameters: [("u", String(repeating: "x", count: 9998))])
        },
        Refusal("65,536 parameter types", .tooMany("parameters", count: 65_536)) { writer throws(EncodingError) in
            try writer.parse(statement: "", sql: "", parameterTypes: repeatElement(0, count: 65_536))
        },
        Refusal("65,536 parameters", .tooMany("parameters", count: 65_536)) { writer throws(EncodingError) in
            try writer.bindNothing(parameterCount: 65_536)
        },
        Refusal("-1 parameters", .tooMany("parameters", count: -1)) { writer throws(EncodingError) in
            try writer.bindNothing(parameterCount: -1)
        },
        Refusal("65,536 result formats", .tooMany("result columns", count: 65_536)) { writer throws(EncodingError) in
            try writer.bindNothing(resultFormats: .each(Array(repeating: .text, count: 65_536)))
        },
        Refusal("65,536 arguments", .tooMany("arguments", count: 65_536)) { writer throws(EncodingError) in
            try writer.functionCall(
                function: 1, argumentFormats: .none, arguments: Array(repeating: nil, count: 65_536),
                resultFormat: .text)
        },
        Refusal("formats for other parameters", .formatCount(2, values: 3)) { writer throws(EncodingError) in
            try writer.bindNothing(parameterCount: 3, parameterFormats: .each([.text, .text]))
        },
        Refusal("a mask of more than 64 formats", .formatCount(65, values: 65)) { writer throws(EncodingError) in
            try writer.bindNothing(parameterCount: 65, parameterFormats: .mixed(binary: 0, count: 65))
        },
        Refusal("a mask of more than 64 result formats", .formatCount(65, values: 64)) {
            writer throws(EncodingError) in
            try writer.bindNothing(resultFormats: .mixed(binary: 0, count: 65))
        },
        Refusal("a mask of -1 result formats", .tooMany("result columns", count: -1)) {
            writer throws(EncodingError) in
            try writer.bindNothing(resultFormats: .mixed(binary: 0, count: -1))
        },
        Refusal("a cancellation key of 3 bytes", .invalidKeyLength(3)) { writer throws(EncodingError) in
            try writer.cancelRequest(processID: 1, secretKey: [1, 2, 3])
        },
        Refusal("a cancellation key of 257 bytes", .invalidKeyLength(257)) { writer throws(EncodingError) in
            try writer.cancelRequest(processID: 1, secretKey: Array(repeating: 0, count: 257))
        },
    ]

    @Test(arguments: refusals)
    func whatCannotBeSentLeavesNoTrace(_ refusal: Refusal) {
        var writer = ByteWriter()
        writer.sync()
        #expect(throws: refusal.error) { try refusal.write(&writer) }
        #expect(writer.written == hex("53 00000004"))
    }

    /// Lengths that no memory backs: refused before a byte is read, or the test would crash.
    @Test(arguments: [
        1 << 30 - 2, 1 << 30, 1 << 31 - 1, 1 << 31, 1 << 31 + 1, 1 << 32 - 1, 1 << 32, 1 << 32 + 1, Int.max,
    ])
    func lengthsThatWouldWrapAreRefused(length: Int) {
        var writer = ByteWriter()
        let byte: [UInt8] = [1]
        byte.withUnsafeBytes { bytes in
            let endless = UnsafeRawBufferPointer(start: bytes.baseAddress, count: length)
            #expect(throws: EncodingError.self) { try writer.bindNothing(cells: endless) }
            #expect(throws: EncodingError.self) { try writer.bindNothing(portal: endless) }
            #expect(throws: EncodingError.self) { try writer.bindNothing(statement: endless) }
            #expect(throws: EncodingError.self) { try writer.copyData(endless) }
            #expect(throws: EncodingError.self) {
                try writer.parse(statement: bytes, sql: endless, parameterTypes: [])
            }
            #expect(throws: EncodingError.self) {
                try writer.parse(statement: endless, sql: bytes, parameterTypes: [])
            }
            #expect(throws: EncodingError.self) {
                try writer.bindExecuteSync(
                    statement: bytes, parameterFormats: .none, parameterCount: 1, cells: endless, resultFormats: .none)
            }
        }
        #expect(writer.count == 0)
    }

    @Test(arguments: [0, 1, 32_767, 32_768, 65_535])
    func parameterCountsUpTo65535AreWritten(count: Int) throws {
        var writer = ByteWriter()
        let cells = [UInt8](repeating: 0xFF, count: 4 * count)
        try withBytes(of: cells) { cells throws(EncodingError) in
            try writer.bindNothing(parameterCount: count, cells: cells)
        }
        let written = writer.written
        #expect(Array(written[9..<11]) == [UInt8(count >> 8), UInt8(count & 255)])
        #expect(written.count == 1 + 4 + 2 + 2 + 2 + 4 * count + 2)
    }

    @Test func everyBitOfAMixedMaskIsItsOwnFormat() throws {
        for position in 0..<64 {
            var writer = ByteWriter()
            try writer.bindNothing(resultFormats: .mixed(binary: 1 << UInt64(position), count: 64))
            let codes = writer.written.suffix(128)
            #expect(codes.enumerated().filter { $0.element == 1 }.map(\.offset) == [2 * position + 1])
        }
    }

    @Test func aMessageRolledBackLeavesTheOnesBeforeAndAfterWhole() throws {
        var writer = ByteWriter()
        try writer.query("a")
        #expect(throws: EncodingError.zeroByte("SQL text")) { try writer.query("b\0") }
        try writer.query("c")
        #expect(writer.written == hex("51 00000006 6100", "51 00000006 6300"))
    }
}

extension ByteWriter {
    /// Bind with everything empty but what the test is about.
    fileprivate mutating func bindNothing(
        portal: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        statement: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        parameterCount: Int = 0, parameterFormats: FormatCodes = .none,
        cells: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        resultFormats: FormatCodes = .none
    ) throws(EncodingError) {
        try bind(
            portal: portal, statement: statement, parameterFormats: parameterFormats, parameterCount: parameterCount,
            cells: cells, resultFormats: resultFormats)
    }
}
