/// The ways a server can break the protocol. Each one poisons the connection: what follows in the stream cannot be trusted.
package enum ProtocolError: Error, Equatable {
    /// A field needs more bytes than the message has left, at this offset of the body.
    case truncated(message: UInt8, offset: Int)
    /// The fields of the message ended before its length did.
    case trailingBytes(message: UInt8, count: Int)
    /// A length word that no message of this type can have.
    case lengthOutOfRange(message: UInt8, length: Int32)
    /// A length word over the limit that holds for this type, now.
    case messageTooLarge(message: UInt8, length: Int, limit: Int)
    case unknownMessageType(UInt8)
    /// A message the request being answered cannot get.
    case unexpectedMessage(UInt8, while: String)
    case invalidUTF8(message: UInt8, field: String)
    /// A column's length word is neither -1 nor within the row.
    case fieldLength(message: UInt8, column: Int, length: Int32)
    /// A row and its description disagree.
    case columnCount(described: Int, received: Int)
    /// A field holds a value the manual does not list.
    case invalidValue(message: UInt8, field: String, value: Int64)
    /// Text would no longer mean what we decode it as.
    case clientEncoding(String)
    /// More distinct parameters reported than any server has.
    case tooManyParameters(limit: Int)
}

extension ProtocolError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .truncated(let message, let offset):
            "\(name(message)) ends inside a field at offset \(offset)"
        case .trailingBytes(let message, let count):
            "\(name(message)) has \(count) bytes after its last field"
        case .lengthOutOfRange(let message, let length):
            "\(name(message)) has the impossible length \(length)"
        case .messageTooLarge(let message, let length, let limit):
            "\(name(message)) announces \(length) bytes, over the limit of \(limit)"
        case .unknownMessageType(let message):
            "unknown message type \(name(message))"
        case .unexpectedMessage(let message, let state):
            "unexpected \(name(message)) while \(state)"
        case .invalidUTF8(let message, let field):
            "\(field) of \(name(message)) is not valid UTF-8"
        case .fieldLength(let message, let column, let length):
            "column \(column) of \(name(message)) has the impossible length \(length)"
        case .columnCount(let described, let received):
            "a row of \(received) columns where \(described) were described"
        case .invalidValue(let message, let field, let value):
            "\(field) of \(name(message)) has the invalid value \(value)"
        case .clientEncoding(let value):
            "client_encoding became \(escapedForDisplay(value.utf8, limit: 64)); only UTF8 is supported"
        case .tooManyParameters(let limit):
            "the server reported more than \(limit) distinct parameters"
        }
    }

    private func name(_ tag: UInt8) -> String { BackendMessage.name(of: tag) }
}
