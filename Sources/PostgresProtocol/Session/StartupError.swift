/// Why a session could not be started. Nothing here shows a secret, and foreign text is bounded and escaped.
package enum StartupError: Error, Equatable {
    /// The server's own refusal. Unless it `isVerified`, anyone on the way may have written the text.
    case refused(ServerReport, isVerified: Bool)
    case protocolViolation(ProtocolError)
    case encoding(EncodingError)
    /// The peer's first bytes belong to some other protocol.
    case notPostgreSQL(String)
    /// An error in the format of protocol 2, which servers before 7.4 send.
    case serverTooOld(String)
    case tlsRequestFailed
    case bytesAfterTLSAnswer
    /// A method that this client does not speak, or that its options rule out; no credential was sent.
    case methodNotSupported(String)
    case methodNotAllowed(String)
    case passwordMissing(String)
    /// A password in the clear over a connection in the clear.
    case cleartextPasswordNotAllowed
    case channelBindingNotPossible(String)
    case scram(SCRAMError)
    case cryptoUnavailable(String)
    /// AuthenticationOk before the exchange it should end.
    case authenticationNotCompleted
    case versionNotSupported(ProtocolVersion)
    case invalidNegotiation(String)
    /// A startup parameter that this machine sets itself.
    case reservedParameter(String)
}

extension StartupError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .refused(let report, let isVerified):
            isVerified ? report.description : "\(report.description) (from a server whose identity is not verified)"
        case .protocolViolation(let error): "\(error)"
        case .encoding(let error): "\(error)"
        case .notPostgreSQL(let bytes): "this is not a PostgreSQL server: its answer begins with \"\(bytes)\""
        case .serverTooOld(let text):
            "the server answered in the format of a version before 7.4, or is not PostgreSQL: \"\(text)\""
        case .tlsRequestFailed: "the server answered the request for TLS with an error"
        case .bytesAfterTLSAnswer: "unencrypted bytes follow the server's answer to the request for TLS"
        case .methodNotSupported(let method): "the server asks for authentication by \(method), which is not supported"
        case .methodNotAllowed(let method): "the server asks for authentication by \(method), which is not allowed here"
        case .passwordMissing(let method): "the server asks for a password (\(method)), but none is given"
        case .cleartextPasswordNotAllowed:
            "the server asks for the password in the clear over an unencrypted connection"
        case .channelBindingNotPossible(let reason): "channel binding is required, but \(reason)"
        case .scram(let error): "\(error)"
        case .cryptoUnavailable(let what): "OpenSSL does not provide \(what)"
        case .authenticationNotCompleted: "the server ended authentication before proving itself"
        case .versionNotSupported(let version): "the server speaks protocol \(version), which is not supported"
        case .invalidNegotiation(let reason): "invalid NegotiateProtocolVersion: \(reason)"
        case .reservedParameter(let name): "the parameter \(name) cannot be set this way"
        }
    }
}
