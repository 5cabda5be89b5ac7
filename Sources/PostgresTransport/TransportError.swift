import Glibc

/// One address that was tried, and why it gave no connection.
package struct ConnectAttempt: Sendable, Hashable, CustomStringConvertible {
    package let address: SocketAddress
    package let errno: Int32

    package init(address: SocketAddress, errno: Int32) {
        self.address = address
        self.errno = errno
    }

    package var description: String { "\(address): \(systemMessage(errno))" }
}

/// Why the transport failed. Never holds anything that was sent or received.
package enum TransportError: Error, Sendable, Hashable {
    /// The name has no address, or could not be looked up.
    case resolve(host: String, message: String)
    /// No address of the endpoint took the connection.
    case connect([ConnectAttempt])
    case system(call: String, errno: Int32)
    case timedOut(what: String)
    case tls(stage: TLSStage, message: String)
    /// The peer closed its side.
    case endOfFile
    /// The task that waited was cancelled.
    case cancelled
    case invalidAddress(String)

    package enum TLSStage: String, Sendable, Hashable {
        case configuration
        case handshake
        /// The peer's certificate is not to be trusted.
        case verification
        case read
        case write
    }
}

extension TransportError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .resolve(let host, let message): "could not resolve the host name \"\(host)\": \(message)"
        case .connect(let attempts):
            "could not connect: " + attempts.map(\.description).joined(separator: "; ")
        case .system(let call, let errno): "\(call) failed: \(systemMessage(errno))"
        case .timedOut(let what): "timed out: \(what)"
        case .tls(.verification, let message): "the server's certificate was not accepted: \(message)"
        case .tls(let stage, let message): "TLS \(stage.rawValue) failed: \(message)"
        case .endOfFile: "the peer closed the connection"
        case .cancelled: "cancelled"
        case .invalidAddress(let reason): "invalid address: \(reason)"
        }
    }
}

/// The system's text for an error number. (Thread-safe: since version 2.32 glibc keeps unknown ones per thread.)
func systemMessage(_ number: Int32) -> String {
    guard let text = strerror(number) else { return "error \(number)" }
    return String(cString: text)
}
