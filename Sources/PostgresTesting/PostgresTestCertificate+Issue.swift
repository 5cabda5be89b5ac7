import CPostgresOpenSSL
import Glibc

extension PostgresTestCertificate {
    /// A self-signed certificate that may sign others.
    public static func authority(
        _ commonName: String = "PostgresTesting root", key: Key = .ecdsaP256, digest: Digest = .sha256,
        validFrom: Duration = .seconds(-86_400), validUntil: Duration = .seconds(864_000)
    ) throws(Failure) -> PostgresTestCertificate {
        let request = Request(
            commonName: commonName, isAuthority: true, subjectAlternativeName: "", usage: nil, digest: digest,
            validFrom: validFrom, validUntil: validUntil)
        return try sign(request, key: key, issuer: nil)
    }

    /// A certificate signed by itself, which no authority vouches for.
    public static func selfSigned(
        _ commonName: String = "localhost", names: [String] = ["localhost"], addresses: [String] = ["127.0.0.1"],
        key: Key = .ecdsaP256, digest: Digest = .sha256, validFrom: Duration = .seconds(-86_400),
        validUntil: Duration = .seconds(864_000)
    ) throws(Failure) -> PostgresTestCertificate {
        let request = Request(
            commonName: commonName, isAuthority: false,
            subjectAlternativeName: try alternativeName(names: names, addresses: addresses), usage: .server,
            digest: digest, validFrom: validFrom, validUntil: validUntil)
        return try sign(request, key: key, issuer: nil)
    }

    /// A certificate signed by this one, for a server by default.
    ///
    /// - Parameters:
    ///   - commonName: for a client, the name of its role.
    ///   - names: DNS names the server may be called by; may hold a wildcard.
    ///   - addresses: IP addresses the server may be called by.
    ///   - digest: the hash of the signature, which also decides the hash of `tls-server-end-point`.
    ///   - validFrom: the begin of validity, counted from now.
    ///   - validUntil: the end of validity, counted from now; negative for an expired certificate.
    public func issue(
        _ commonName: String = "localhost", names: [String] = ["localhost"], addresses: [String] = ["127.0.0.1"],
        key: Key = .ecdsaP256, digest: Digest = .sha256, usage: Usage = .server,
        validFrom: Duration = .seconds(-86_400), validUntil: Duration = .seconds(864_000)
    ) throws(Failure) -> PostgresTestCertificate {
        let request = Request(
            commonName: commonName, isAuthority: false,
            subjectAlternativeName: try Self.alternativeName(names: names, addresses: addresses), usage: usage,
            digest: digest, validFrom: validFrom, validUntil: validUntil)
        return try Self.sign(request, key: key, issuer: self)
    }

    /// An authority signed by this one; what it issues carries its certificate along.
    public func intermediate(
        _ commonName: String = "PostgresTesting intermediate", key: Key = .ecdsaP256, digest: Digest = .sha256
    ) throws(Failure) -> PostgresTestCertificate {
        let request = Request(
            commonName: commonName, isAuthority: true, subjectAlternativeName: "", usage: nil, digest: digest,
            validFrom: .seconds(-86_400), validUntil: .seconds(864_000))
        return try Self.sign(request, key: key, issuer: self)
    }

    private struct Request {
        var commonName: String
        var isAuthority: Bool
        /// As in OpenSSL's configuration: `DNS:localhost,IP:127.0.0.1`.
        var subjectAlternativeName: String
        var usage: Usage?
        var digest: Digest
        var validFrom: Duration
        var validUntil: Duration
    }

    /// A comma or a NUL in a name would begin another entry or end the list.
    private static func alternativeName(names: [String], addresses: [String]) throws(Failure) -> String {
        guard (names + addresses).allSatisfy({ !$0.contains(",") && !$0.utf8.contains(0) }) else {
            throw Failure(description: "a name in a certificate holds a comma or a NUL")
        }
        return (names.map { "DNS:\($0)" } + addresses.map { "IP:\($0)" }).joined(separator: ",")
    }

    private static func sign(
        _ request: Request, key keyKind: Key, issuer: PostgresTestCertificate?
    ) throws(Failure) -> PostgresTestCertificate {
        let key = try generateKey(keyKind)
        defer { EVP_PKEY_free(key) }
        guard let certificate = X509_new() else { throw failure("X509_new") }
        defer { X509_free(certificate) }
        let issuerCertificate = try issuer.map { issuer throws(Failure) in
            try read(issuer.certificatePEM, "certificate") { PEM_read_bio_X509($0, nil, nil, nil) }
        }
        defer { X509_free(issuerCertificate) }
        let issuerKey = try issuer.map { issuer throws(Failure) in
            try read(issuer.privateKeyPEM, "key") { PEM_read_bio_PrivateKey($0, nil, nil, nil) }
        }
        defer { EVP_PKEY_free(issuerKey) }

        try fill(certificate, request, key: key, issuer: issuerCertificate)
        try addExtensions(to: certificate, request, issuer: issuerCertificate)
        let signer = issuerKey ?? key
        let hasOwnDigest = EVP_PKEY_is_a(signer, "ED25519") == 1
        guard X509_sign(certificate, signer, hasOwnDigest ? nil : request.digest.function) > 0 else {
            throw failure("X509_sign")
        }
        // A root belongs to the client; authorities between are sent by the server.
        let isFromRoot = issuerCertificate.map { X509_self_signed($0, 0) == 1 } ?? true
        let chain = isFromRoot ? "" : issuer?.certificatePEM ?? ""
        return PostgresTestCertificate(
            certificatePEM: try write("certificate") { PEM_write_bio_X509($0, certificate) } + chain,
            privateKeyPEM: try write("key") { PEM_write_bio_PrivateKey($0, key, nil, nil, 0, nil, nil) })
    }

    private static func generateKey(_ key: Key) throws(Failure) -> OpaquePointer {
        let (algorithm, group) = key.parameters
        guard let context = EVP_PKEY_CTX_new_from_name(nil, algorithm, nil) else { throw failure("key algorithm") }
        defer { EVP_PKEY_CTX_free(context) }
        guard EVP_PKEY_keygen_init(context) == 1 else { throw failure("EVP_PKEY_keygen_init") }
        if let group, EVP_PKEY_CTX_set_group_name(context, group) != 1 { throw failure("key group") }
        var generated: OpaquePointer?
        guard EVP_PKEY_generate(context, &generated) == 1, let generated else { throw failure("EVP_PKEY_generate") }
        return generated
    }

    private static func fill(
        _ certificate: OpaquePointer, _ request: Request, key: OpaquePointer, issuer: OpaquePointer?
    ) throws(Failure) {
        let serial = Int64.random(in: 1...Int64.max)
        let name = X509_get_subject_name(certificate)
        let commonName = Array(request.commonName.utf8)
        // Version is counted from 0: this is X.509 v3.
        guard X509_set_version(certificate, 2) == 1,
            ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate), serial) == 1,
            X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, commonName, Int32(clamping: commonName.count), -1, 0)
                == 1,
            X509_set_issuer_name(certificate, issuer.map { X509_get_subject_name($0) } ?? name) == 1,
            X509_gmtime_adj(X509_getm_notBefore(certificate), seconds(request.validFrom)) != nil,
            X509_gmtime_adj(X509_getm_notAfter(certificate), seconds(request.validUntil)) != nil,
            X509_set_pubkey(certificate, key) == 1
        else { throw failure("certificate of \(request.commonName)") }
    }

    private static func addExtensions(
        to certificate: OpaquePointer, _ request: Request, issuer: OpaquePointer?
    ) throws(Failure) {
        var extensions: [(Int32, String)] = [
            (NID_basic_constraints, request.isAuthority ? "critical,CA:TRUE" : "critical,CA:FALSE"),
            (NID_key_usage, request.isAuthority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature"),
            (NID_subject_key_identifier, "hash"),
        ]
        if issuer != nil { extensions.append((NID_authority_key_identifier, "keyid")) }
        if let usage = request.usage { extensions.append((NID_ext_key_usage, usage.rawValue)) }
        if !request.subjectAlternativeName.isEmpty {
            extensions.append((NID_subject_alt_name, request.subjectAlternativeName))
        }
        var context = X509V3_CTX()
        X509V3_set_ctx(&context, issuer ?? certificate, certificate, nil, nil, 0)
        for (identifier, value) in extensions {
            guard let added = X509V3_EXT_conf_nid(nil, &context, identifier, value) else {
                throw failure("extension \(value)")
            }
            defer { X509_EXTENSION_free(added) }
            guard X509_add_ext(certificate, added, -1) == 1 else { throw failure("extension \(value)") }
        }
    }

    static func read(
        _ pem: String, _ what: String, _ body: (OpaquePointer) -> OpaquePointer?
    ) throws(Failure) -> OpaquePointer {
        let bytes = Array(pem.utf8)
        guard let count = Int32(exactly: bytes.count), let buffer = BIO_new(BIO_s_mem()) else { throw failure(what) }
        defer { BIO_free(buffer) }
        guard BIO_write(buffer, bytes, count) == count, let value = body(buffer) else { throw failure(what) }
        return value
    }

    private static func write(_ what: String, _ body: (OpaquePointer) -> Int32) throws(Failure) -> String {
        guard let buffer = BIO_new(BIO_s_mem()) else { throw failure(what) }
        defer { BIO_free(buffer) }
        guard body(buffer) == 1 else { throw failure(what) }
        var bytes = [UInt8](repeating: 0, count: BIO_ctrl_pending(buffer))
        let count = BIO_read(buffer, &bytes, Int32(clamping: bytes.count))
        return String(decoding: bytes.prefix(Int(max(0, count))), as: UTF8.self)
    }

    /// The reason of OpenSSL's first error, taken off its queue.
    private static func failure(_ what: String) -> Failure {
        let code = ERR_get_error()
        ERR_clear_error()
        let reason = ERR_reason_error_string(code).map { String(cString: $0) } ?? "unknown reason"
        return Failure(description: "OpenSSL, \(what): \(reason)")
    }

    private static func seconds(_ duration: Duration) -> Int { Int(clamping: duration.components.seconds) }
}

extension PostgresTestCertificate.Key {
    /// OpenSSL's name of the algorithm, and of the curve where one must be chosen. RSA has 2048 bits by default.
    fileprivate var parameters: (algorithm: String, group: String?) {
        switch self {
        case .ecdsaP256: ("EC", "P-256")
        case .ecdsaP384: ("EC", "P-384")
        case .rsa2048: ("RSA", nil)
        case .ed25519: ("ED25519", nil)
        }
    }
}

extension PostgresTestCertificate.Digest {
    fileprivate var function: OpaquePointer? {
        switch self {
        case .sha1: EVP_sha1()
        case .sha256: EVP_sha256()
        case .sha384: EVP_sha384()
        case .sha512: EVP_sha512()
        }
    }
}
