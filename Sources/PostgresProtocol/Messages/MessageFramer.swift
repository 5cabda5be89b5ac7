// Manual, "Message Formats": a type byte, then a length word that counts itself and the body.
//
// Type and length are judged on these five bytes alone, so that a broken or hostile server cannot make us wait for, or
// make room for, a body that no message has.

package enum MessageFramer {
    /// Type byte and length word.
    package static let headerSize = 5

    package struct Limits: Sendable, Equatable {
        /// The most a length word may say of a message that can be long.
        package var maximumLength: Int
        /// Before the server has proved itself, nothing is long.
        package var isAuthenticated: Bool

        package static let defaultMaximumLength = 0x3FFF_FFFF

        package init(maximumLength: Int = Limits.defaultMaximumLength, isAuthenticated: Bool) {
            self.maximumLength = maximumLength
            self.isAuthenticated = isAuthenticated
        }
    }

    /// libpq's bound for messages that are never long.
    package static let shortMessageLimit = 30_000
    /// A ParameterDescription of 65,535 parameters. (libpq counts it among the short ones, and loses such a connection.)
    package static let parameterDescriptionLimit = 4 + 2 + 65_535 * 4

    /// The size of the whole message, type byte included, or why there can be no such message.
    @inline(__always)
    package static func judge(tag: UInt8, length: Int32, limits: Limits) throws(ProtocolError) -> Int {
        guard isKnown(tag), length >= 4 else { throw refused(tag: tag, length: length) }
        let length = Int(length)
        if length > shortMessageLimit || length > limits.maximumLength {
            let limit = limit(tag: tag, limits: limits)
            if length > limit { throw .messageTooLarge(message: tag, length: length, limit: limit) }
        }
        return length &+ 1
    }

    /// Whether a server can send this type. (The compiler makes a bit test of this.)
    @inline(__always)
    package static func isKnown(_ tag: UInt8) -> Bool {
        switch UnicodeScalar(tag) {
        case "1", "2", "3", "A", "C", "D", "E", "G", "H", "I", "K", "N", "R", "S", "T", "V", "W", "Z",
            "c", "d", "n", "s", "t", "v":
            true
        default: false
        }
    }

    /// libpq's list of types that can be long.
    private static func isLong(_ tag: UInt8) -> Bool {
        switch UnicodeScalar(tag) {
        case "T", "D", "d", "V", "E", "N", "A": true
        default: false
        }
    }

    private static func limit(tag: UInt8, limits: Limits) -> Int {
        if !limits.isAuthenticated { return min(shortMessageLimit, limits.maximumLength) }
        if tag == BackendMessage.Tag.parameterDescription {
            return min(parameterDescriptionLimit, limits.maximumLength)
        }
        return isLong(tag) ? limits.maximumLength : min(shortMessageLimit, limits.maximumLength)
    }

    @inline(never)
    private static func refused(tag: UInt8, length: Int32) -> ProtocolError {
        isKnown(tag) ? .lengthOutOfRange(message: tag, length: length) : .unknownMessageType(tag)
    }
}
