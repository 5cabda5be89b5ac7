import CPostgresOpenSSL

/// What is asked of the peer's certificate.
package enum TLSVerification: Sendable, Hashable {
    /// Encrypted, but with anybody.
    case none
    /// The chain leads to a trusted root.
    case chain
    /// And the certificate is for the host that was asked for.
    case chainAndHostName
}

package enum TLSRootCertificates: Sendable, Hashable {
    case system
    /// A file of PEM certificates.
    case file(String)
}

/// The settings of TLS connections.
package final class TLSContext: Sendable {
    package let verification: TLSVerification

    package init(
        verification: TLSVerification, rootCertificates: TLSRootCertificates = .system
    ) throws(TransportError) {
        self.verification = verification
    }
}
