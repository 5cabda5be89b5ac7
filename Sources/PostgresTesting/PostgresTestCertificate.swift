/// An X.509 certificate with its private key, made for tests in milliseconds: good ones, and each kind of bad one.
///
/// ```swift
/// let root = try PostgresTestCertificate.authority()
/// let good = try root.issue()
/// let wrongHost = try root.issue(names: ["other.example"], addresses: [])
/// let expired = try root.issue(validFrom: .seconds(-7200), validUntil: .seconds(-3600))
/// let fromUnknown = try PostgresTestCertificate.authority().issue()
/// let ed25519 = try root.issue(key: .ed25519)
/// ```
public struct PostgresTestCertificate: Sendable {
    /// The certificate, followed by those of intermediate authorities if there are any, in PEM.
    public let certificatePEM: String
    /// The private key, in PEM (PKCS #8), without a passphrase.
    public let privateKeyPEM: String

    /// A certificate and a key made elsewhere; they need not belong together.
    public init(certificatePEM: String, privateKeyPEM: String) {
        self.certificatePEM = certificatePEM
        self.privateKeyPEM = privateKeyPEM
    }

    /// A kind of key pair.
    public enum Key: String, Sendable, CaseIterable {
        case ecdsaP256
        case ecdsaP384
        case rsa2048
        case ed25519
    }

    /// The hash of a signature. An Ed25519 authority signs without one.
    public enum Digest: String, Sendable, CaseIterable {
        case sha1
        case sha256
        case sha384
        case sha512
    }

    /// Who shows the certificate.
    public enum Usage: String, Sendable, CaseIterable {
        case server = "serverAuth"
        case client = "clientAuth"
    }

    /// OpenSSL failed.
    public struct Failure: Error, CustomStringConvertible {
        /// What went wrong, and where.
        public let description: String
    }
}
