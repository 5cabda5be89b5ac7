// Manual, "Message Formats": every message a server sends, except replication's own.

/// One message from the server.
///
/// `init(tag:body:)` is total: for any bytes it returns a message that used up all of them, or throws. A ``DataRow`` and
/// a ``CopyData`` look into `body` and must not outlive it; every other payload is a copy.
package enum BackendMessage: Equatable {
    case authentication(AuthenticationRequest)
    case backendKeyData(BackendKeyData)
    case bindComplete
    case closeComplete
    case commandComplete(CommandTag)
    case copyBothResponse(CopyResponse)
    case copyData(CopyData)
    case copyDone
    case copyInResponse(CopyResponse)
    case copyOutResponse(CopyResponse)
    case dataRow(DataRow)
    case emptyQueryResponse
    case errorResponse(ServerReport)
    /// The function's result, nil for NULL.
    case functionCallResponse([UInt8]?)
    case negotiateProtocolVersion(NegotiateProtocolVersion)
    case noData
    case noticeResponse(ServerReport)
    case notificationResponse(NotificationResponse)
    case parameterDescription(ParameterDescription)
    case parameterStatus(ParameterStatus)
    case parseComplete
    case portalSuspended
    case readyForQuery(TransactionStatus)
    case rowDescription(RowDescription)

    package init(tag: UInt8, body: UnsafeRawBufferPointer) throws(ProtocolError) {
        var reader = ByteReader(body, message: tag)
        switch tag {
        case Tag.authentication: self = .authentication(try AuthenticationRequest(&reader))
        case Tag.backendKeyData: self = .backendKeyData(try BackendKeyData(&reader))
        case Tag.bindComplete: self = .bindComplete
        case Tag.closeComplete: self = .closeComplete
        case Tag.commandComplete: self = .commandComplete(try CommandTag(&reader))
        case Tag.copyBothResponse: self = .copyBothResponse(try CopyResponse(&reader, message: tag))
        case Tag.copyData: self = .copyData(CopyData(bytes: reader.readRest()))
        case Tag.copyDone: self = .copyDone
        case Tag.copyInResponse: self = .copyInResponse(try CopyResponse(&reader, message: tag))
        case Tag.copyOutResponse: self = .copyOutResponse(try CopyResponse(&reader, message: tag))
        case Tag.dataRow: self = .dataRow(try DataRow(validating: reader.readRest()))
        case Tag.emptyQueryResponse: self = .emptyQueryResponse
        case Tag.errorResponse: self = .errorResponse(try ServerReport(&reader))
        case Tag.functionCallResponse:
            let length = try reader.read(Int32.self)
            guard length >= -1 else { throw .fieldLength(message: tag, column: 0, length: length) }
            self = .functionCallResponse(length == -1 ? nil : Array(try reader.readBytes(Int(length))))
        case Tag.negotiateProtocolVersion:
            self = .negotiateProtocolVersion(try NegotiateProtocolVersion(&reader))
        case Tag.noData: self = .noData
        case Tag.noticeResponse: self = .noticeResponse(try ServerReport(&reader))
        case Tag.notificationResponse: self = .notificationResponse(try NotificationResponse(&reader))
        case Tag.parameterDescription: self = .parameterDescription(try ParameterDescription(&reader))
        case Tag.parameterStatus: self = .parameterStatus(try ParameterStatus(&reader))
        case Tag.parseComplete: self = .parseComplete
        case Tag.portalSuspended: self = .portalSuspended
        case Tag.readyForQuery: self = .readyForQuery(try TransactionStatus(&reader))
        case Tag.rowDescription: self = .rowDescription(try RowDescription(&reader))
        default: throw .unknownMessageType(tag)
        }
        try reader.finish()
    }

    /// The type byte of each message.
    package enum Tag {
        package static let authentication = UInt8(ascii: "R")
        package static let backendKeyData = UInt8(ascii: "K")
        package static let bindComplete = UInt8(ascii: "2")
        package static let closeComplete = UInt8(ascii: "3")
        package static let commandComplete = UInt8(ascii: "C")
        package static let copyBothResponse = UInt8(ascii: "W")
        package static let copyData = UInt8(ascii: "d")
        package static let copyDone = UInt8(ascii: "c")
        package static let copyInResponse = UInt8(ascii: "G")
        package static let copyOutResponse = UInt8(ascii: "H")
        package static let dataRow = UInt8(ascii: "D")
        package static let emptyQueryResponse = UInt8(ascii: "I")
        package static let errorResponse = UInt8(ascii: "E")
        package static let functionCallResponse = UInt8(ascii: "V")
        package static let negotiateProtocolVersion = UInt8(ascii: "v")
        package static let noData = UInt8(ascii: "n")
        package static let noticeResponse = UInt8(ascii: "N")
        package static let notificationResponse = UInt8(ascii: "A")
        package static let parameterDescription = UInt8(ascii: "t")
        package static let parameterStatus = UInt8(ascii: "S")
        package static let parseComplete = UInt8(ascii: "1")
        package static let portalSuspended = UInt8(ascii: "s")
        package static let readyForQuery = UInt8(ascii: "Z")
        package static let rowDescription = UInt8(ascii: "T")
    }

    /// The manual's name for a type byte, or the byte itself.
    package static func name(of tag: UInt8) -> String {
        switch tag {
        case 0: "value"
        case Tag.authentication: "Authentication"
        case Tag.backendKeyData: "BackendKeyData"
        case Tag.bindComplete: "BindComplete"
        case Tag.closeComplete: "CloseComplete"
        case Tag.commandComplete: "CommandComplete"
        case Tag.copyBothResponse: "CopyBothResponse"
        case Tag.copyData: "CopyData"
        case Tag.copyDone: "CopyDone"
        case Tag.copyInResponse: "CopyInResponse"
        case Tag.copyOutResponse: "CopyOutResponse"
        case Tag.dataRow: "DataRow"
        case Tag.emptyQueryResponse: "EmptyQueryResponse"
        case Tag.errorResponse: "ErrorResponse"
        case Tag.functionCallResponse: "FunctionCallResponse"
        case Tag.negotiateProtocolVersion: "NegotiateProtocolVersion"
        case Tag.noData: "NoData"
        case Tag.noticeResponse: "NoticeResponse"
        case Tag.notificationResponse: "NotificationResponse"
        case Tag.parameterDescription: "ParameterDescription"
        case Tag.parameterStatus: "ParameterStatus"
        case Tag.parseComplete: "ParseComplete"
        case Tag.portalSuspended: "PortalSuspended"
        case Tag.readyForQuery: "ReadyForQuery"
        case Tag.rowDescription: "RowDescription"
        case 0x21...0x7E: "'\(Character(UnicodeScalar(tag)))'"
        default: "0x" + String(tag, radix: 16)
        }
    }
}

/// What a cancel request must show. The process ID is an opaque 32-bit pattern: poolers use all of it.
package struct BackendKeyData: Sendable, Equatable {
    /// 4 bytes in protocol 3.0, up to 256 in 3.2.
    package static let keyLengths = 4...256

    package let processID: UInt32
    package let secretKey: [UInt8]

    package init(processID: UInt32, secretKey: [UInt8]) {
        self.processID = processID
        self.secretKey = secretKey
    }

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        processID = try reader.read()
        let key = reader.readRest()
        guard BackendKeyData.keyLengths.contains(key.count) else {
            throw .invalidValue(
                message: BackendMessage.Tag.backendKeyData, field: "key length", value: Int64(key.count))
        }
        secretKey = Array(key)
    }
}

/// The key lets anyone cancel our queries, so it is never printed.
extension BackendKeyData: CustomStringConvertible, CustomReflectable {
    package var description: String { "process \(processID), \(secretKey.count) secret bytes" }
    package var customMirror: Mirror { Mirror(self, children: ["processID": processID]) }
}

/// Bytes of a COPY in progress, lent by the receive buffer.
package struct CopyData: Equatable {
    package let bytes: UnsafeRawBufferPointer

    package static func == (left: Self, right: Self) -> Bool { left.bytes.elementsEqual(right.bytes) }
}

/// How the columns of a COPY are spelled.
package struct CopyResponse: Sendable, Equatable {
    package let format: Format
    package let columnFormats: [Format]

    init(_ reader: inout ByteReader, message: UInt8) throws(ProtocolError) {
        format = try Format(code: UInt16(try reader.read(UInt8.self)), message: message)
        let count = try reader.readCount(minimumSize: 2)
        var formats: [Format] = []
        formats.reserveCapacity(count)
        for _ in 0..<count { formats.append(try Format(code: try reader.read(), message: message)) }
        columnFormats = formats
    }
}

extension Format {
    init(code: UInt16, message: UInt8) throws(ProtocolError) {
        guard let format = Format(rawValue: code) else {
            throw .invalidValue(message: message, field: "format code", value: Int64(code))
        }
        self = format
    }
}

/// The server knows an older protocol than was asked for, or not all of the options.
package struct NegotiateProtocolVersion: Sendable, Equatable {
    package let newestVersion: ProtocolVersion
    package let unrecognizedOptions: [String]

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        newestVersion = ProtocolVersion(rawValue: try reader.read())
        let count = try reader.read(Int32.self)
        // Each name takes at least its zero byte.
        guard count >= 0, Int(count) <= reader.remaining else {
            throw .invalidValue(
                message: BackendMessage.Tag.negotiateProtocolVersion, field: "option count", value: Int64(count))
        }
        var options: [String] = []
        options.reserveCapacity(Int(count))
        for _ in 0..<count { options.append(try reader.readString("option")) }
        unrecognizedOptions = options
    }
}

package struct NotificationResponse: Sendable, Equatable {
    package let processID: UInt32
    package let channel: String
    package let payload: String

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        processID = try reader.read()
        channel = try reader.readString("channel")
        payload = try reader.readString("payload")
    }
}

/// The type OIDs of a statement's parameters.
package struct ParameterDescription: Sendable, Equatable {
    package let types: [UInt32]

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        let count = try reader.readCount(minimumSize: 4)
        var types: [UInt32] = []
        types.reserveCapacity(count)
        for _ in 0..<count { types.append(try reader.read()) }
        self.types = types
    }
}

package struct ParameterStatus: Sendable, Equatable {
    package let name: String
    package let value: String

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        name = try reader.readString("name")
        value = try reader.readString("value")
    }
}

/// What ReadyForQuery says of the transaction; the only source of that knowledge.
package enum TransactionStatus: UInt8, Sendable, Equatable {
    /// Not in a transaction.
    case idle = 0x49
    case inTransaction = 0x54
    /// In a transaction that can only be rolled back.
    case failed = 0x45

    init(_ reader: inout ByteReader) throws(ProtocolError) {
        let code = try reader.read(UInt8.self)
        guard let status = TransactionStatus(rawValue: code) else {
            throw .invalidValue(message: BackendMessage.Tag.readyForQuery, field: "status", value: Int64(code))
        }
        self = status
    }
}
