import CPostgresOpenSSL
import Glibc
import PostgresTransport

/// A key with its certificate, made on the spot.
///
/// Safe to share: neither is changed after `init`, and OpenSSL counts references to both atomically.
final class Identity: @unchecked Sendable {
    enum Key {
        case ecdsa
        case ed25519
        case rsa
    }

    let certificate: OpaquePointer
    let key: OpaquePointer

    /// - Parameters:
    ///   - names: the subject's alternative names as OpenSSL writes them, "DNS:a,IP:127.0.0.1"; nil for an authority.
    ///   - digest: what the signature is over; nil for a signature that has none of its own.
    init(
        _ commonName: String, names: String?, issuer: Identity? = nil, key kind: Key = .ecdsa,
        digest: OpaquePointer? = EVP_sha256(), expired: Bool = false
    ) throws {
        key = try Identity.makeKey(kind)
        guard let certificate = X509_new() else { throw TestFailure("X509_new", 0) }
        self.certificate = certificate
        X509_set_version(certificate, 2)
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), Int.random(in: 1..<1 << 31))
        X509_gmtime_adj(X509_getm_notBefore(certificate), -7200)
        X509_gmtime_adj(X509_getm_notAfter(certificate), expired ? -3600 : 3600)
        X509_set_pubkey(certificate, key)
        let subject = X509_get_subject_name(certificate)
        let utf8: Int32 = 0x1000  // MBSTRING_UTF8, a macro.
        X509_NAME_add_entry_by_txt(subject, "CN", utf8, commonName, -1, -1, 0)
        X509_set_issuer_name(certificate, issuer.map { X509_get_subject_name($0.certificate) } ?? subject)
        if let names {
            try add(NID_subject_alt_name, names)
        } else {
            try add(NID_basic_constraints, "critical,CA:TRUE")
        }
        guard X509_sign(certificate, issuer?.key ?? key, digest) > 0 else { throw TestFailure("X509_sign", 0) }
    }

    deinit {
        X509_free(certificate)
        EVP_PKEY_free(key)
    }

    private static func makeKey(_ kind: Key) throws -> OpaquePointer {
        let identifier =
            switch kind {
            case .ecdsa: EVP_PKEY_EC
            case .ed25519: EVP_PKEY_ED25519
            case .rsa: EVP_PKEY_RSA
            }
        let context = EVP_PKEY_CTX_new_id(identifier, nil)
        defer { EVP_PKEY_CTX_free(context) }
        EVP_PKEY_keygen_init(context)
        if kind == .ecdsa { EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) }
        var key: OpaquePointer?
        guard EVP_PKEY_keygen(context, &key) == 1, let key else { throw TestFailure("EVP_PKEY_keygen", 0) }
        return key
    }

    private func add(_ identifier: Int32, _ value: String) throws {
        guard let made = X509V3_EXT_conf_nid(nil, nil, identifier, value) else {
            throw TestFailure("X509V3_EXT_conf_nid", 0)
        }
        X509_add_ext(certificate, made, -1)
        X509_EXTENSION_free(made)
    }

    var der: [UInt8] {
        var bytes: UnsafeMutablePointer<UInt8>?
        let length = i2d_X509(certificate, &bytes)
        defer { CRYPTO_free(bytes, "", 0) }
        return Array(UnsafeBufferPointer(start: bytes, count: max(0, Int(length))))
    }

    /// A file with the certificate as PEM, for as long as the object lives.
    func file() throws -> CertificateFile { try CertificateFile(der) }
}

final class CertificateFile: Sendable {
    let path: String

    init(_ der: [UInt8]) throws {
        var encoded = [UInt8](repeating: 0, count: der.count * 2 + 4)
        let length = Int(EVP_EncodeBlock(&encoded, der, Int32(der.count)))
        var text = "-----BEGIN CERTIFICATE-----\n"
        for start in stride(from: 0, to: length, by: 64) {
            text += String(decoding: encoded[start..<min(start + 64, length)], as: UTF8.self) + "\n"
        }
        text += "-----END CERTIFICATE-----\n"
        var template = Array("/tmp/postgres-transport-XXXXXX".utf8CString)
        let descriptor = mkstemp(&template)
        guard descriptor >= 0 else { throw TestFailure("mkstemp") }
        defer { close(descriptor) }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard write(descriptor, text, text.utf8.count) == text.utf8.count else { throw TestFailure("write") }
    }

    deinit { unlink(path) }
}
