import CPostgresOpenSSL
import Glibc
import PostgresTransport

/// The server's side of a TLS connection, blocking, for one thread at a time.
///
/// Safe to share: each test gives it to one thread, and looks at it only after that thread has finished.
final class TLSPeer: @unchecked Sendable {
    private let descriptor: Int32
    private let context: OpaquePointer
    private let ssl: OpaquePointer
    private let incoming: OpaquePointer
    private let outgoing: OpaquePointer
    /// How many bytes of ciphertext go into one call.
    private let chunk: Int

    init(_ descriptor: Int32, _ identity: Identity, maximumVersion: Int32 = TLS1_3_VERSION, chunk: Int = 65_536) throws
    {
        guard let context = SSL_CTX_new(TLS_server_method()),
            let ssl = Self.connection(context, identity, maximumVersion),
            let incoming = BIO_new(BIO_s_mem()), let outgoing = BIO_new(BIO_s_mem())
        else { throw TestFailure("SSL_new", 0) }
        SSL_set_bio(ssl, incoming, outgoing)
        // A test that fails is not to hang as well.
        var limit = timeval(tv_sec: 30, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        SSL_set_accept_state(ssl)
        self.descriptor = descriptor
        self.context = context
        self.ssl = ssl
        self.incoming = incoming
        self.outgoing = outgoing
        self.chunk = chunk
    }

    private static func connection(
        _ context: OpaquePointer, _ identity: Identity, _ maximumVersion: Int32
    ) -> OpaquePointer? {
        guard SSL_CTX_use_certificate(context, identity.certificate) == 1,
            SSL_CTX_use_PrivateKey(context, identity.key) == 1,
            postgres_SSL_CTX_set_max_proto_version(context, maximumVersion) == 1,
            // They would be sent after the handshake, when the client need not be reading yet.
            SSL_CTX_set_num_tickets(context, 0) == 1
        else { return nil }
        return SSL_new(context)
    }

    deinit {
        SSL_free(ssl)
        SSL_CTX_free(context)
    }

    func handshake() throws { try perform("SSL_do_handshake") { SSL_do_handshake(ssl) } }

    /// What the client asked for by SNI.
    var requestedName: String? {
        SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name).map { String(cString: $0) }
    }

    var version: String { String(cString: SSL_get_version(ssl)) }

    func read(atMost count: Int) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let received = try perform("SSL_read") { SSL_read(ssl, &buffer, Int32(count)) }
        return Array(buffer.prefix(Int(received)))
    }

    func read(exactly count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count { bytes += try read(atMost: count - bytes.count) }
        return bytes
    }

    func write(_ bytes: [UInt8]) throws {
        try perform("SSL_write") { SSL_write(ssl, bytes, Int32(bytes.count)) }
    }

    /// New keys for what we send, and a request that the client changes its own; it goes out with the next write.
    func updateKeys() throws {
        guard SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1 else { throw TestFailure("SSL_key_update", 0) }
    }

    /// TLS 1.2 only.
    func requestRenegotiation() throws {
        guard SSL_renegotiate(ssl) == 1 else { throw TestFailure("SSL_renegotiate", 0) }
        _ = SSL_do_handshake(ssl)
        try drain()
    }

    func sendCloseNotify() throws {
        _ = SSL_shutdown(ssl)
        try drain()
    }

    /// Sends bytes as they are, past TLS.
    func sendRaw(_ bytes: [UInt8]) throws {
        var start = 0
        while start < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    descriptor, $0.baseAddress.map { $0 + start }, min(chunk, bytes.count - start),
                    Int32(bitPattern: UInt32(MSG_NOSIGNAL)))
            }
            guard count > 0 else { throw TestFailure("send") }
            start += count
        }
    }

    @discardableResult
    private func perform(_ name: String, _ call: () -> Int32) throws -> Int32 {
        while true {
            ERR_clear_error()
            let result = call()
            let code = SSL_get_error(ssl, result)
            try drain()
            if result > 0 { return result }
            guard code == SSL_ERROR_WANT_READ else { throw TestFailure(name, code) }
            var buffer = [UInt8](repeating: 0, count: chunk)
            let count = recv(descriptor, &buffer, chunk, 0)
            guard count > 0 else { throw TestFailure("recv", count == 0 ? 0 : errno) }
            BIO_write(incoming, buffer, Int32(count))
        }
    }

    private func drain() throws {
        let size = BIO_ctrl_pending(outgoing)
        guard size > 0 else { return }
        var bytes = [UInt8](repeating: 0, count: Int(size))
        BIO_read(outgoing, &bytes, Int32(size))
        try sendRaw(bytes)
    }
}
