import PostgresProtocol

extension PostgresMockServer {
    /// A message that a client sent, by the manual's name for it.
    public struct FrontendMessage: Sendable, Hashable {
        /// What a client can send (manual, "Message Formats").
        public enum Kind: String, Sendable, Hashable, CaseIterable {
            case bind = "Bind"
            case cancelRequest = "CancelRequest"
            case close = "Close"
            case copyData = "CopyData"
            case copyDone = "CopyDone"
            case copyFail = "CopyFail"
            case describe = "Describe"
            case execute = "Execute"
            case flush = "Flush"
            case functionCall = "FunctionCall"
            case gssEncRequest = "GSSENCRequest"
            case parse = "Parse"
            /// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share the type `p`.
            case password = "PasswordMessage"
            case query = "Query"
            case sslRequest = "SSLRequest"
            case startup = "StartupMessage"
            case sync = "Sync"
            case terminate = "Terminate"
        }

        /// Which message it is.
        public let kind: Kind
        /// Everything behind the length word.
        public let body: [UInt8]

        /// The zero-terminated strings that the body begins with: of Parse the statement's name and the SQL text, of Bind
        /// the names of portal and statement, of Query the SQL text. Of Close and Describe the strings behind their kind.
        public var strings: [String] {
            var rest = body[...]
            if kind == .close || kind == .describe { rest = rest.dropFirst() }
            let limit =
                switch kind {
                case .parse, .bind: 2
                case .close, .describe, .query, .execute, .copyFail, .password: 1
                case .startup: Int.max
                default: 0
                }
            if kind == .startup { rest = rest.dropFirst(4) }
            var strings: [String] = []
            while strings.count < limit, let end = rest.firstIndex(of: 0) {
                strings.append(String(decoding: rest[..<end], as: UTF8.self))
                rest = rest[rest.index(after: end)...]
            }
            return strings
        }
    }
}

extension PostgresMockServer.FrontendMessage {
    /// What one attempt to take a message off the received bytes found.
    enum Framed {
        case incomplete
        case message(PostgresMockServer.FrontendMessage, size: Int)
        case invalid(String)
    }

    /// The message that `bytes` begin with. Before a StartupMessage, messages have no type byte.
    static func frame(_ bytes: ArraySlice<UInt8>, isStarted: Bool) -> Framed {
        let header = isStarted ? 5 : 4
        guard bytes.count >= header else { return .incomplete }
        let length = bytes.dropFirst(header - 4).prefix(4).reduce(0) { $0 << 8 | Int($1) }
        let size = length + header - 4
        guard length >= 4, length <= ByteWriter.maximumMessageLength else {
            return .invalid("a message of the impossible length \(length)")
        }
        guard bytes.count >= size else { return .incomplete }
        let body = Array(bytes.dropFirst(header).prefix(size - header))
        let kind = isStarted ? bytes.first.flatMap { kinds[$0] } : startupKind(body)
        guard let kind else { return .invalid("a message of an unknown type: \(Array(bytes.prefix(header + 4)))") }
        return .message(PostgresMockServer.FrontendMessage(kind: kind, body: body), size: size)
    }

    private static func startupKind(_ body: [UInt8]) -> Kind? {
        guard body.count >= 4 else { return nil }
        switch body.prefix(4).reduce(0, { $0 << 8 | Int($1) }) {
        case 80_877_102: return .cancelRequest
        case 80_877_103: return .sslRequest
        case 80_877_104: return .gssEncRequest
        case let version where version >> 16 == 3: return .startup
        default: return nil
        }
    }

    private static let kinds: [UInt8: Kind] = [
        UInt8(ascii: "B"): .bind, UInt8(ascii: "C"): .close, UInt8(ascii: "d"): .copyData,
        UInt8(ascii: "c"): .copyDone, UInt8(ascii: "f"): .copyFail, UInt8(ascii: "D"): .describe,
        UInt8(ascii: "E"): .execute, UInt8(ascii: "H"): .flush, UInt8(ascii: "F"): .functionCall,
        UInt8(ascii: "P"): .parse, UInt8(ascii: "p"): .password, UInt8(ascii: "Q"): .query,
        UInt8(ascii: "S"): .sync, UInt8(ascii: "X"): .terminate,
    ]
}
