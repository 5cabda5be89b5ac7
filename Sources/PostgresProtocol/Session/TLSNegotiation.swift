// Manual, "SSL Session Encryption": one byte answers SSLRequest, and nothing may come with it.

package enum TLSNegotiation: Sendable, Equatable {
    /// `S`: the handshake comes next.
    case accepted
    /// `N`: the connection goes on in the clear, if the caller's policy allows that.
    case refused

    /// Judges all that was received since SSLRequest was sent, nil if that is nothing yet.
    ///
    /// Bytes behind the answer were sent in the clear by someone who hopes that we take them for encrypted ones
    /// (CVE-2021-23222). An `E` is an error, but of a peer nobody has vouched for, so its text is not shown
    /// (CVE-2024-10977).
    package static func answer(_ received: UnsafeRawBufferPointer) throws(StartupError) -> TLSNegotiation? {
        guard let first = received.first else { return nil }
        let answer: TLSNegotiation
        switch first {
        case UInt8(ascii: "S"): answer = .accepted
        case UInt8(ascii: "N"): answer = .refused
        case UInt8(ascii: "E"): throw .tlsRequestFailed
        default: throw .notPostgreSQL(escapedForDisplay(received, limit: Startup.shownBytes))
        }
        guard received.count == 1 else { throw .bytesAfterTLSAnswer }
        return answer
    }
}
