extension PostgresEphemeralServer {
    /// The certificates a server uses and its clients trust.
    public struct TLS: Sendable {
        /// What the server shows: `ssl_cert_file` and `ssl_key_file`.
        public var certificate: PostgresTestCertificate
        /// What a client is to trust; written to `rootCertificateFile`.
        public var root: PostgresTestCertificate
        /// Who may sign the certificates of clients: `ssl_ca_file`. Nil: clients show none.
        public var clientRoot: PostgresTestCertificate?

        /// Certificates made by the caller.
        public init(
            certificate: PostgresTestCertificate, root: PostgresTestCertificate,
            clientRoot: PostgresTestCertificate? = nil
        ) {
            self.certificate = certificate
            self.root = root
            self.clientRoot = clientRoot
        }

        /// A new authority and a certificate of it for `localhost` and 127.0.0.1.
        public static func generated() throws(PostgresTestCertificate.Failure) -> TLS {
            let root = try PostgresTestCertificate.authority()
            return TLS(certificate: try root.issue(), root: root)
        }
    }

    /// The file of the certificate that a client is to trust, for `sslrootcert`; there is none without TLS.
    public var rootCertificateFile: String { folder + "/root.crt" }

    static func tlsSettings(_ tls: TLS?, folder: String) -> [String: String] {
        guard let tls else { return ["ssl": "off"] }
        return [
            "ssl": "on",
            "ssl_cert_file": folder + "/server.crt",
            "ssl_key_file": folder + "/server.key",
            "ssl_ca_file": tls.clientRoot == nil ? "" : folder + "/client-root.crt",
        ]
    }

    static func writeTLS(_ tls: TLS?, _ user: ServerUser?, folder: String) throws(Failure) {
        guard let tls else { return }
        try write(folder + "/server.key", tls.certificate.privateKeyPEM, user)
        try write(folder + "/server.crt", tls.certificate.certificatePEM, user)
        try write(folder + "/root.crt", tls.root.certificatePEM, user)
        if let root = tls.clientRoot { try write(folder + "/client-root.crt", root.certificatePEM, user) }
    }
}

extension PostgresEphemeralServer {
    /// Writes a certificate and its key into the server's folder, as files for `sslcert` and `sslkey`.
    public func writeClientCertificate(
        _ certificate: PostgresTestCertificate, name: String = "client"
    ) throws(Failure) -> (certificate: String, key: String) {
        guard !name.isEmpty, !name.contains("/"), !name.utf8.contains(0) else {
            throw Failure(.invalidOption, "'\(name)' is not a file name")
        }
        let files = (certificate: "\(folder)/\(name).crt", key: "\(folder)/\(name).key")
        // Ours, not the server user's: libpq accepts a key only from its own user or root.
        try Self.write(files.certificate, certificate.certificatePEM, nil)
        try Self.write(files.key, certificate.privateKeyPEM, nil)
        return files
    }
}
