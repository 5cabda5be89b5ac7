import CPostgresOpenSSL

/// The server's side of TLS for a script: in memory, for the script moves the ciphertext.
///
/// Used by the one thread of its script.
final class MockTLS {
    private let context: OpaquePointer
    // The BIOs belong to the SSL.
    private let ssl: OpaquePointer
    private let incoming: OpaquePointer
    private let outgoing: OpaquePointer
    /// Whether close_notify came.
    private(set) var isClosedByPeer = false

    var isConnected: Bool { SSL_is_init_finished(ssl) == 1 }

    init(_ certificate: PostgresTestCertificate) throws(PostgresMockServer.Failure) {
        guard let context = SSL_CTX_new(TLS_server_method()) else { throw MockTLS.failure("SSL_CTX_new") }
        do throws(PostgresMockServer.Failure) {
            try MockTLS.use(certificate, context)
        } catch {
            SSL_CTX_free(context)
            throw error
        }
        guard let ssl = SSL_new(context) else {
            SSL_CTX_free(context)
            throw MockTLS.failure("SSL_new")
        }
        guard let incoming = BIO_new(BIO_s_mem()), let outgoing = BIO_new(BIO_s_mem()) else {
            SSL_free(ssl)
            SSL_CTX_free(context)
            throw MockTLS.failure("BIO_new")
        }
        SSL_set_bio(ssl, incoming, outgoing)
        SSL_set_accept_state(ssl)
        self.context = context
        self.ssl = ssl
        self.incoming = incoming
        self.outgoing = outgoing
    }

    deinit {
        SSL_free(ssl)
        SSL_CTX_free(context)
    }

    private static func use(
        _ certificate: PostgresTestCertificate, _ context: OpaquePointer
    ) throws(PostgresMockServer.Failure) {
        do throws(PostgresTestCertificate.Failure) {
            let own = try PostgresTestCertificate.read(certificate.certificatePEM, "certificate") {
                PEM_read_bio_X509($0, nil, nil, nil)
            }
            defer { X509_free(own) }
            let key = try PostgresTestCertificate.read(certificate.privateKeyPEM, "key") {
                PEM_read_bio_PrivateKey($0, nil, nil, nil)
            }
            defer { EVP_PKEY_free(key) }
            guard SSL_CTX_use_certificate(context, own) == 1, SSL_CTX_use_PrivateKey(context, key) == 1,
                // They would come after the handshake, in records that no script has asked for.
                SSL_CTX_set_num_tickets(context, 0) == 1
            else { throw PostgresTestCertificate.Failure(description: "the certificate cannot be used") }
        } catch {
            throw PostgresMockServer.Failure(message: error.description)
        }
    }

    private static func failure(_ call: String) -> PostgresMockServer.Failure {
        let reason = ERR_reason_error_string(ERR_get_error()).map { String(cString: $0) } ?? "unknown reason"
        ERR_clear_error()
        return PostgresMockServer.Failure(message: "TLS, \(call): \(reason)")
    }

    /// Goes on with the handshake, or decrypts what is complete.
    func decrypt(_ ciphertext: ArraySlice<UInt8>) throws(PostgresMockServer.Failure) -> [UInt8] {
        ERR_clear_error()
        _ = ciphertext.withUnsafeBytes { BIO_write(incoming, $0.baseAddress, Int32(clamping: $0.count)) }
        var plain: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while true {
            // Does the handshake too.
            let count = SSL_read(ssl, &chunk, Int32(clamping: chunk.count))
            if count > 0 {
                plain += chunk.prefix(Int(count))
                continue
            }
            switch SSL_get_error(ssl, count) {
            case SSL_ERROR_WANT_READ: return plain
            case SSL_ERROR_ZERO_RETURN:
                isClosedByPeer = true
                return plain
            default: throw MockTLS.failure("SSL_read")
            }
        }
    }

    func encrypt(_ bytes: [UInt8]) throws(PostgresMockServer.Failure) -> [UInt8] {
        ERR_clear_error()
        guard bytes.isEmpty || SSL_write(ssl, bytes, Int32(clamping: bytes.count)) == Int32(clamping: bytes.count)
        else { throw MockTLS.failure("SSL_write") }
        return takeOutput()
    }

    /// The ciphertext that is to be sent.
    func takeOutput() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Int(BIO_ctrl_pending(outgoing)))
        let count = bytes.isEmpty ? 0 : BIO_read(outgoing, &bytes, Int32(clamping: bytes.count))
        return Array(bytes.prefix(Int(max(0, count))))
    }
}
