import PostgresProtocol
import Testing

private let reportFields: [UInt8] = Array("SFEHLER\0VERROR\0C23505\0Mduplicate key\0".utf8)

let decoderChecks: [DecoderCheck] = [
    DecoderCheck("AuthenticationOk", "R", hex("00000000")) { #expect($0 == .authentication(.ok)) },
    DecoderCheck("AuthenticationCleartextPassword", "R", hex("00000003")) {
        #expect($0 == .authentication(.cleartextPassword))
    },
    DecoderCheck("AuthenticationMD5Password", "R", hex("00000005", "01020304")) {
        #expect($0 == .authentication(.md5Password(salt: [1, 2, 3, 4])))
    },
    DecoderCheck("AuthenticationSASL", "R", hex("0000000a") + Array("SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0".utf8)) {
        #expect($0 == .authentication(.sasl(mechanisms: ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])))
    },
    DecoderCheck("AuthenticationSASLContinue", "R", hex("0000000b", "723d61"), isOpaque: true) {
        #expect($0 == .authentication(.saslContinue(Array("r=a".utf8))))
    },
    DecoderCheck("AuthenticationSASLFinal", "R", hex("0000000c", "763d"), isOpaque: true) {
        #expect($0 == .authentication(.saslFinal(Array("v=".utf8))))
    },
    DecoderCheck("AuthenticationGSS", "R", hex("00000007"), isOpaque: true) {
        #expect($0 == .authentication(.unsupported(code: 7)))
    },
    DecoderCheck("BackendKeyData of 3.0", "K", hex("e3f1c2a1", "0a0b0c0d"), isOpaque: true) {
        #expect($0 == .backendKeyData(BackendKeyData(processID: 0xE3F1_C2A1, secretKey: [10, 11, 12, 13])))
    },
    DecoderCheck("BindComplete", "2", []) { #expect($0 == .bindComplete) },
    DecoderCheck("CloseComplete", "3", []) { #expect($0 == .closeComplete) },
    DecoderCheck("CommandComplete", "C", Array("INSERT 0 5\0".utf8)) { message in
        guard case .commandComplete(let tag) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(tag.text == "INSERT 0 5")
        #expect(tag.verb == "INSERT")
        #expect(tag.affectedRows == 5)
    },
    DecoderCheck("CopyInResponse", "G", hex("00", "0002", "0000", "0000")) { message in
        guard case .copyInResponse(let response) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(response.format == .text)
        #expect(response.columnFormats == [.text, .text])
    },
    DecoderCheck("CopyOutResponse", "H", hex("01", "0001", "0001")) { message in
        guard case .copyOutResponse(let response) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(response.format == .binary)
        #expect(response.columnFormats == [.binary])
    },
    DecoderCheck("CopyBothResponse", "W", hex("00", "0000")) { message in
        guard case .copyBothResponse(let response) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(response.columnFormats.isEmpty)
    },
    DecoderCheck("CopyData", "d", hex("0001ff"), isOpaque: true) { message in
        guard case .copyData(let data) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(Array(data.bytes) == [0, 1, 255])
    },
    DecoderCheck("CopyDone", "c", []) { #expect($0 == .copyDone) },
    DecoderCheck("DataRow", "D", hex("0003", "00000002 6162", "ffffffff", "00000000")) { message in
        guard case .dataRow(let row) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(row.columnCount == 3)
        #expect(row.map { $0.map { Array($0) } } == [[0x61, 0x62], nil, []])
    },
    DecoderCheck("DataRow without columns", "D", hex("0000")) { message in
        guard case .dataRow(let row) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(row.columnCount == 0)
        #expect(row.map { _ in 1 }.isEmpty)
    },
    DecoderCheck("EmptyQueryResponse", "I", []) { #expect($0 == .emptyQueryResponse) },
    DecoderCheck("ErrorResponse", "E", reportFields + [0]) { message in
        guard case .errorResponse(let report) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(report.severity == "FEHLER")
        #expect(report.nonlocalizedSeverity == "ERROR")
        #expect(report.sqlState == "23505")
        #expect(report.message == "duplicate key")
        #expect(report.detail == nil)
        #expect(!report.isFatal)
        #expect("\(report)" == "FEHLER 23505: duplicate key")
    },
    DecoderCheck("FunctionCallResponse", "V", hex("00000002", "0102")) {
        #expect($0 == .functionCallResponse([1, 2]))
    },
    DecoderCheck("FunctionCallResponse of NULL", "V", hex("ffffffff")) { #expect($0 == .functionCallResponse(nil)) },
    DecoderCheck("NegotiateProtocolVersion", "v", hex("00030000", "00000002") + Array("_pq_.a\0_pq_.b\0".utf8)) {
        message in
        guard case .negotiateProtocolVersion(let answer) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(answer.newestVersion == .v30)
        #expect(answer.unrecognizedOptions == ["_pq_.a", "_pq_.b"])
    },
    DecoderCheck("NoData", "n", []) { #expect($0 == .noData) },
    DecoderCheck("NoticeResponse of nothing", "N", [0]) { message in
        guard case .noticeResponse(let report) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(report.severity == "UNKNOWN")
        #expect(report.sqlState == "?????")
        #expect(report.message == "(no message)")
    },
    DecoderCheck("NotificationResponse", "A", hex("ffffffff") + Array("ch\0päy\0".utf8)) { message in
        guard case .notificationResponse(let notification) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(notification.processID == .max)
        #expect(notification.channel == "ch")
        #expect(notification.payload == "päy")
    },
    DecoderCheck("ParameterDescription", "t", hex("0002", "00000017", "ffffffff")) { message in
        guard case .parameterDescription(let description) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(description.types == [23, .max])
    },
    DecoderCheck("ParameterStatus", "S", Array("TimeZone\0Etc/UTC\0".utf8)) { message in
        guard case .parameterStatus(let status) = message else {
            Issue.record("\(message)")
            return
        }
        #expect(status.name == "TimeZone")
        #expect(status.value == "Etc/UTC")
    },
    DecoderCheck("ParseComplete", "1", []) { #expect($0 == .parseComplete) },
    DecoderCheck("PortalSuspended", "s", []) { #expect($0 == .portalSuspended) },
    DecoderCheck("ReadyForQuery, idle", "Z", hex("49")) { #expect($0 == .readyForQuery(.idle)) },
    DecoderCheck("ReadyForQuery, in a transaction", "Z", hex("54")) { #expect($0 == .readyForQuery(.inTransaction)) },
    DecoderCheck("ReadyForQuery, in a failed one", "Z", hex("45")) { #expect($0 == .readyForQuery(.failed)) },
    DecoderCheck(
        "RowDescription", "T",
        hex(
            "0002",  // columns
            "696400",  // "id"
            "00004001",  // table
            "0001",  // column
            "00000017",  // int4
            "0004",  // size
            "ffffffff",  // modifier
            "0001",  // binary
            "c3a400",  // "ä"
            "00000000", "0000", "00000019", "ffff", "ffffffff", "0000")
    ) { message in
        #expect(
            message
                == .rowDescription(
                    RowDescription(columns: [
                        RowDescription.Column(
                            name: "id", tableOID: 0x4001, columnNumber: 1, typeOID: 23, typeSize: 4, format: .binary),
                        RowDescription.Column(name: "ä", typeOID: 25),
                    ])))
    },
]

@Suite struct BackendMessageTests {
    @Test(arguments: decoderChecks)
    func everyMessageUsesUpExactlyItsLength(_ check: DecoderCheck) { check.run() }

    @Test func everyTypeHasACheck() {
        let checked = Set(decoderChecks.map(\.tag))
        let known = Set((0...255).map { UInt8($0) }.filter { MessageFramer.isKnown($0) })
        #expect(checked == known)
    }

    struct Violation: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let tag: Character
        let body: [UInt8]
        let error: ProtocolError

        init(_ name: String, _ tag: Character, _ body: [UInt8], _ error: ProtocolError) {
            (testDescription, self.tag, self.body, self.error) = (name, tag, body, error)
        }
    }

    static let violations: [Violation] = [
        Violation("unknown type", "?", [], .unknownMessageType(0x3F)),
        Violation(
            "field length -2", "D", hex("0001", "fffffffe"), .fieldLength(message: 0x44, column: 0, length: -2)),
        Violation(
            "field length INT_MIN", "D", hex("0001", "80000000"), .fieldLength(message: 0x44, column: 0, length: .min)),
        Violation(
            "field longer than the row", "D", hex("0002", "ffffffff", "00000003", "0102"),
            .fieldLength(message: 0x44, column: 1, length: 3)),
        Violation(
            "field of 2 GiB", "D", hex("0001", "7fffffff", "00"), .fieldLength(message: 0x44, column: 0, length: .max)),
        Violation(
            "65,535 columns in 8 bytes", "D", hex("ffff", "ffffffff", "0000"), .truncated(message: 0x44, offset: 6)),
        Violation(
            "65,535 described columns in 8 bytes", "T", hex("ffff", "000000000000"),
            .truncated(message: 0x54, offset: 2)),
        Violation("65,535 types in 8 bytes", "t", hex("ffff", "000000000000"), .truncated(message: 0x74, offset: 2)),
        Violation(
            "65,535 formats in 8 bytes", "G", hex("00", "ffff", "0000000000"), .truncated(message: 0x47, offset: 3)),
        Violation(
            "2,147,483,647 options", "v", hex("00030000", "7fffffff"),
            .invalidValue(message: 0x76, field: "option count", value: 0x7FFF_FFFF)),
        Violation(
            "-1 options", "v", hex("00030000", "ffffffff"),
            .invalidValue(message: 0x76, field: "option count", value: -1)),
        Violation("status ?", "Z", hex("3f"), .invalidValue(message: 0x5A, field: "status", value: 0x3F)),
        Violation(
            "format 2", "T", hex("0001", "00", "00000000", "0000", "00000000", "0000", "00000000", "0002"),
            .invalidValue(message: 0x54, field: "format code", value: 2)),
        Violation(
            "COPY format 2", "G", hex("02", "0000"), .invalidValue(message: 0x47, field: "format code", value: 2)),
        Violation(
            "column name that is not UTF-8", "T",
            hex("0001", "ff00", "00000000", "0000", "00000000", "0000", "00000000", "0000"),
            .invalidUTF8(message: 0x54, field: "column name")),
        Violation(
            "notification that is not UTF-8", "A", hex("00000000", "6100", "c328 00"),
            .invalidUTF8(message: 0x41, field: "payload")),
        Violation("tag that is not UTF-8", "C", hex("ff00"), .invalidUTF8(message: 0x43, field: "tag")),
        Violation(
            "row count of 10^20", "C", Array("SELECT 100000000000000000000\0".utf8),
            .invalidValue(message: 0x43, field: "row count", value: -1)),
        Violation(
            "key of 3 bytes", "K", hex("00000001", "010203"),
            .invalidValue(message: 0x4B, field: "key length", value: 3)),
        Violation(
            "key of 257 bytes", "K", hex("00000001") + Array(repeating: 1, count: 257),
            .invalidValue(message: 0x4B, field: "key length", value: 257)),
        Violation(
            "function result of length -2", "V", hex("fffffffe"),
            .fieldLength(message: 0x56, column: 0, length: -2)),
        Violation(
            "function result longer than its message", "V", hex("00000001"), .truncated(message: 0x56, offset: 4)),
        Violation("error without its end", "E", Array("Mx\0".utf8), .truncated(message: 0x45, offset: 3)),
        Violation("error whose text has no end", "E", Array("Mx".utf8), .truncated(message: 0x45, offset: 1)),
        Violation("mechanisms without an end", "R", hex("0000000a", "5800"), .truncated(message: 0x52, offset: 6)),
    ]

    @Test(arguments: violations)
    func aBrokenMessageIsNamed(_ violation: Violation) {
        #expect(throws: violation.error) {
            try DecoderCheck.decode(violation.tag.asciiValue ?? 0, violation.body)
        }
        #expect(!"\(violation.error)".isEmpty)
    }

    @Test func keysUpTo256BytesAreTaken() throws {
        for count in [4, 32, 256] {
            let key = [UInt8](repeating: 7, count: count)
            try DecoderCheck.decode(UInt8(ascii: "K"), hex("00000001") + key) {
                #expect($0 == .backendKeyData(BackendKeyData(processID: 1, secretKey: key)))
            }
        }
    }

    @Test(arguments: [
        ("SELECT 3", "SELECT", 3), ("INSERT 0 5", "INSERT", 5), ("UPDATE 7", "UPDATE", 7), ("DELETE 0", "DELETE", 0),
        ("MERGE 12", "MERGE", 12), ("COPY 9223372036854775807", "COPY", Int.max), ("CREATE TABLE", "CREATE TABLE", nil),
        ("BEGIN", "BEGIN", nil), ("ROLLBACK", "ROLLBACK", nil), ("", "", nil), ("5", "", nil),
        ("SELECT ", "SELECT", nil),
        ("SELECT x3", "SELECT x3", nil), ("SELECT -3", "SELECT -3", nil),
    ])
    func aCommandTagTellsVerbAndRows(text: String, verb: String, rows: Int?) throws {
        try DecoderCheck.decode(UInt8(ascii: "C"), Array(text.utf8) + [0]) { message in
            guard case .commandComplete(let tag) = message else {
                Issue.record("\(message)")
                return
            }
            #expect(tag.text == text)
            #expect(tag.affectedRows == rows)
            #expect(tag.verb == verb)
        }
    }

    @Test func aReportHasEveryFieldOfTheManual() throws {
        let body = "SS\0VFATAL\0CC\0MM\0DD\0HH\0P1\0p2\0qq\0WW\0ss\0tt\0cc\0dd\0nn\0FF\0L3\0RR\0?unknown\0"
        try DecoderCheck.decode(UInt8(ascii: "E"), Array(body.utf8) + [0]) { message in
            guard case .errorResponse(let report) = message else {
                Issue.record("\(message)")
                return
            }
            #expect([report.severity, report.nonlocalizedSeverity, report.sqlState] == ["S", "FATAL", "C"])
            #expect([report.message, report.detail, report.hint, report.context] == ["M", "D", "H", "W"])
            #expect([report.position, report.internalPosition, report.line] == [1, 2, 3])
            #expect([report.schema, report.table, report.column, report.dataType] == ["s", "t", "c", "d"])
            #expect([report.constraint, report.file, report.routine] == ["n", "F", "R"])
            #expect(report.internalQuery == "q")
            #expect(report[UInt8(ascii: "?")] == nil)
            #expect(report.isFatal)
        }
    }

    @Test func aReportKeepsTheFirstOfTwoFieldsAndRepairsItsText() throws {
        let body = Array("Mfirst \u{0}".utf8).dropLast() + hex("ff00") + Array("Msecond\0Pnine\0".utf8) + [0]
        try DecoderCheck.decode(UInt8(ascii: "E"), Array(body)) { message in
            guard case .errorResponse(let report) = message else {
                Issue.record("\(message)")
                return
            }
            #expect(report.message == "first \u{FFFD}")
            #expect(report.position == nil)
        }
    }

    @Test func aKeyIsNotPrinted() {
        let key = BackendKeyData(processID: 7, secretKey: [201, 202, 203, 204])
        var dumped = ""
        dump(key, to: &dumped)
        for text in ["\(key)", String(reflecting: key), dumped] { #expect(!text.contains("201")) }
    }
}
