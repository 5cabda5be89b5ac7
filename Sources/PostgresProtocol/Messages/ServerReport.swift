// Manual, "Error and Notice Message Fields".

/// The fields of an ErrorResponse or NoticeResponse.
///
/// This is text for people, so it is the one payload whose invalid UTF-8 is repaired: losing a server's error because it
/// quotes a broken value would hide the reason. A field sent twice keeps its first value; unknown ones are dropped.
package struct ServerReport: Sendable, Equatable, Error {
    private struct Field: Sendable, Equatable {
        let code: UInt8
        let value: String
    }

    private var fields: [Field] = []

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        while true {
            let code = try reader.read(UInt8.self)
            if code == 0 { return }
            let value = try reader.readZeroTerminatedBytes()
            guard ServerReport.knownCodes.contains(code), self[code] == nil else { continue }
            fields.append(Field(code: code, value: String(decoding: value, as: UTF8.self)))
        }
    }

    package init(severity: String, sqlState: String, message: String) {
        fields = [
            Field(code: UInt8(ascii: "S"), value: severity), Field(code: UInt8(ascii: "V"), value: severity),
            Field(code: UInt8(ascii: "C"), value: sqlState), Field(code: UInt8(ascii: "M"), value: message),
        ]
    }

    private static let knownCodes = Set("SVCMDHPpqWstcdnFLR".utf8)

    /// A field by its code.
    package subscript(code: UInt8) -> String? {
        for field in fields where field.code == code { return field.value }
        return nil
    }

    /// The report of a peer that has not proved who it is, fit to be shown: each field bounded and escaped.
    package func escaped() -> ServerReport {
        var report = self
        report.fields = fields.map {
            Field(code: $0.code, value: escapedForDisplay($0.value.utf8, limit: 1024))
        }
        return report
    }

    /// In the server's language.
    package var severity: String { self[UInt8(ascii: "S")] ?? nonlocalizedSeverity }
    /// `ERROR`, `FATAL`, `PANIC`, `WARNING`, `NOTICE`, `DEBUG`, `INFO` or `LOG`.
    package var nonlocalizedSeverity: String { self[UInt8(ascii: "V")] ?? self[UInt8(ascii: "S")] ?? "UNKNOWN" }
    /// Five characters; question marks if the server sent none.
    package var sqlState: String { self[UInt8(ascii: "C")] ?? "?????" }
    package var message: String { self[UInt8(ascii: "M")] ?? "(no message)" }
    package var detail: String? { self[UInt8(ascii: "D")] }
    package var hint: String? { self[UInt8(ascii: "H")] }
    /// In characters of the query, from 1.
    package var position: Int? { self[UInt8(ascii: "P")].flatMap { Int($0) } }
    /// As `position`, in `internalQuery`.
    package var internalPosition: Int? { self[UInt8(ascii: "p")].flatMap { Int($0) } }
    package var internalQuery: String? { self[UInt8(ascii: "q")] }
    /// The call stack of procedural functions.
    package var context: String? { self[UInt8(ascii: "W")] }
    package var schema: String? { self[UInt8(ascii: "s")] }
    package var table: String? { self[UInt8(ascii: "t")] }
    package var column: String? { self[UInt8(ascii: "c")] }
    package var dataType: String? { self[UInt8(ascii: "d")] }
    package var constraint: String? { self[UInt8(ascii: "n")] }
    package var file: String? { self[UInt8(ascii: "F")] }
    package var line: Int? { self[UInt8(ascii: "L")].flatMap { Int($0) } }
    package var routine: String? { self[UInt8(ascii: "R")] }

    /// Whether the server closes the connection after this error.
    package var isFatal: Bool { nonlocalizedSeverity == "FATAL" || nonlocalizedSeverity == "PANIC" }
}

extension ServerReport: CustomStringConvertible {
    /// Detail and context hold data of rows, so they are left out.
    package var description: String { "\(severity) \(sqlState): \(message)" }
}
