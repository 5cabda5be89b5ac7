import CPostgresOpenSSL
import Synchronization

/// One TLS connection: plain bytes on one side, ciphertext on the other.
///
/// *Theory of operation.* OpenSSL reads and writes memory only (two memory BIOs), and every call of it happens under
/// `lock`, for a sender and a reader may be at work at once and an `SSL` bears one thread at a time. No system call happens
/// under it. Ciphertext must leave in the order in which it was made, whoever made it (reading can produce some too, such
/// as alerts; the answer to a key update waits in OpenSSL for the next write). So it is moved to `pending` under the same
/// lock, and only the one who holds the *flushing token* (`isFlushing`) sends: it swaps `pending` into `flight`, sends
/// that without the lock, and repeats until `pending` is empty or the system takes no more. Whoever finds the token taken
/// just appends.
///
/// Safe to share: the variables are grouped below by what guards them.
final class TLSEngine: @unchecked Sendable {
    /// How much ciphertext may wait before no more plain bytes are accepted.
    static let unsentLimit = 64 * 1024
    private static let recordSize = 16 * 1024
    private static let receiveSize = 32 * 1024

    private let serverName: String?
    private let verifies: Bool
    private let lock = Lock(())

    // Under the lock. The BIOs belong to the SSL.
    private let ssl: OpaquePointer
    private let incoming: OpaquePointer
    private let outgoing: OpaquePointer
    @exclusivity(unchecked) private var pending = ByteQueue(capacity: 4096)
    @exclusivity(unchecked) private var isFlushing = false
    /// What `flight` held when the token was last taken or given back.
    @exclusivity(unchecked) private var flightCount = 0
    /// Why nothing can be sent any more.
    @exclusivity(unchecked) private var sendFailure: TransportError?
    /// After a fatal error OpenSSL must not be called again.
    @exclusivity(unchecked) private var isBroken = false
    @exclusivity(unchecked) private var sendCalls = 0
    @exclusivity(unchecked) private var bytesSent = 0

    // Whoever holds the flushing token.
    @exclusivity(unchecked) private var flight = ByteQueue(capacity: 4096)

    // The reader.
    private let ciphertext = UnsafeMutableRawBufferPointer.allocate(byteCount: TLSEngine.receiveSize, alignment: 16)
    /// Whether decrypted bytes, or whole records, may be left from the last call.
    @exclusivity(unchecked) private var mayHoldMore = true
    /// For the reader, before it waits for the socket.
    var mayHoldMoreInput: Bool { mayHoldMore && readFailure == nil }
    /// What to throw once the bytes before it were handed out.
    @exclusivity(unchecked) private var readFailure: TransportError?
    @exclusivity(unchecked) private(set) var peerClosedCleanly = false
    @exclusivity(unchecked) private var receiveCalls = 0
    @exclusivity(unchecked) private var bytesReceived = 0

    init(_ context: TLSContext, serverName: String?) throws(TransportError) {
        let ssl = try context.makeConnection(serverName: serverName)
        guard let incoming = BIO_new(BIO_s_mem()) else {
            SSL_free(ssl)
            throw .openSSL(.configuration)
        }
        guard let outgoing = BIO_new(BIO_s_mem()) else {
            BIO_free(incoming)
            SSL_free(ssl)
            throw .openSSL(.configuration)
        }
        SSL_set_bio(ssl, incoming, outgoing)
        self.ssl = ssl
        self.incoming = incoming
        self.outgoing = outgoing
        self.serverName = serverName
        verifies = context.verification != .none
    }

    deinit {
        SSL_free(ssl)
        ciphertext.deallocate()
    }

    // MARK: Handshake

    func handshake(_ socket: Socket, deadline: Deadline) async throws(TransportError) {
        do {
            while try !advanceHandshake(socket) {
                try await sendAll(socket, deadline)
                var count = 0
                while count == 0 {
                    try await socket.readable(until: deadline)
                    receiveCalls &+= 1
                    count = try socket.receive(into: ciphertext)
                }
                bytesReceived &+= count
                feed(UnsafeRawBufferPointer(rebasing: ciphertext[..<count]))
            }
            try await sendAll(socket, deadline)
        } catch .timedOut {
            throw .timedOut(what: "TLS handshake with \(socket.peerDescription)")
        } catch .endOfFile {
            throw .tls(stage: .handshake, message: "\(socket.peerDescription) closed the connection")
        }
    }

    /// - Returns: whether it is complete; otherwise more is to be read.
    private func advanceHandshake(_ socket: Socket) throws(TransportError) -> Bool {
        do {
            return try lock.withLock { _ throws(TransportError) in
                ERR_clear_error()
                let result = SSL_do_handshake(ssl)
                let code = SSL_get_error(ssl, result)
                collect()
                switch code {
                case SSL_ERROR_NONE: return true
                case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return false
                default:
                    isBroken = true
                    throw handshakeError()
                }
            }
        } catch {
            // The alert tells the peer why.
            try? flush(socket)
            throw error
        }
    }

    private func handshakeError() -> TransportError {
        let result = SSL_get_verify_result(ssl)
        guard verifies, result != Int(X509_V_OK), let reason = X509_verify_cert_error_string(result) else {
            return .openSSL(.handshake)
        }
        ERR_clear_error()
        let host = serverName.map { " (host \"\($0)\")" } ?? ""
        return .tls(stage: .verification, message: String(cString: reason) + host)
    }

    private func feed(_ bytes: UnsafeRawBufferPointer) {
        lock.withLock { _ in append(bytes) }
    }

    private func sendAll(_ socket: Socket, _ deadline: Deadline) async throws(TransportError) {
        try flush(socket)
        while hasUnsentBytes {
            try await socket.writable(until: deadline)
            try flush(socket)
        }
    }

    // MARK: Sending

    func send(_ bytes: UnsafeRawBufferPointer, _ socket: Socket) throws(TransportError) -> Int {
        var accepted = 0
        while true {
            let count = try encrypt(UnsafeRawBufferPointer(rebasing: bytes[accepted...]))
            accepted &+= count
            try flush(socket)
            if count == 0 || accepted >= bytes.count { return accepted }
        }
    }

    var hasUnsentBytes: Bool {
        lock.withLock { _ in sendFailure == nil && (isFlushing || flightCount > 0 || !pending.isEmpty) }
    }

    /// Encrypts until enough ciphertext waits.
    private func encrypt(_ bytes: UnsafeRawBufferPointer) throws(TransportError) -> Int {
        guard !bytes.isEmpty else { return 0 }
        return try lock.withLock { _ throws(TransportError) in
            if let sendFailure { throw sendFailure }
            if isBroken { throw .tls(stage: .write, message: "the connection has failed before") }
            ERR_clear_error()
            var done = 0
            while done < bytes.count, pending.count &+ flightCount < TLSEngine.unsentLimit {
                var written = 0
                let record = UnsafeRawBufferPointer(rebasing: bytes[done...].prefix(TLSEngine.recordSize))
                let result = SSL_write_ex(ssl, record.baseAddress, record.count, &written)
                let code = SSL_get_error(ssl, result)
                collect()
                guard result == 1 else {
                    isBroken = true
                    let failure: TransportError =
                        code == SSL_ERROR_SSL
                        ? .openSSL(.write) : .tls(stage: .write, message: "unexpected result \(code)")
                    sendFailure = failure
                    throw failure
                }
                done &+= written
            }
            return done
        }
    }

    /// Sends what waits, unless somebody else is at it.
    private func flush(_ socket: Socket) throws(TransportError) {
        let claimed = try lock.withLock { _ throws(TransportError) in
            if let sendFailure { throw sendFailure }
            guard !isFlushing, flightCount > 0 || !pending.isEmpty else { return false }
            isFlushing = true
            return true
        }
        guard claimed else { return }
        var calls = 0
        var sent = 0
        while true {
            var isBlocked = false
            do {
                while !flight.isEmpty, !isBlocked {
                    calls &+= 1
                    let count = try socket.send(flight.bytes)
                    flight.consume(count)
                    sent &+= count
                    isBlocked = count == 0
                }
            } catch {
                lock.withLock { _ in
                    sendFailure = error
                    giveBack(calls, sent)
                }
                throw error
            }
            let isDone = lock.withLock { _ in
                if isBlocked || pending.isEmpty {
                    giveBack(calls, sent)
                    return true
                }
                swap(&pending, &flight)
                flightCount = flight.count
                return false
            }
            if isDone { return }
        }
    }

    private func giveBack(_ calls: Int, _ sent: Int) {
        isFlushing = false
        flightCount = flight.count
        sendCalls &+= calls
        bytesSent &+= sent
    }

    /// Moves what OpenSSL wrote to `pending`.
    private func collect() {
        while true {
            let size = BIO_ctrl_pending(outgoing)
            guard size > 0 else { return }
            let room = pending.reserve(Int(size))
            var count = 0
            guard BIO_read_ex(outgoing, room.baseAddress, room.count, &count) == 1, count > 0 else { return }
            pending.commit(count)
        }
    }

    func sendCloseNotify(_ socket: Socket) {
        lock.withLock { _ in
            guard !isBroken, sendFailure == nil else { return }
            ERR_clear_error()
            _ = SSL_shutdown(ssl)
            ERR_clear_error()
            collect()
        }
        try? flush(socket)
    }

    // MARK: Receiving

    func receive(
        into buffer: UnsafeMutableRawBufferPointer, _ socket: Socket
    ) throws(TransportError) -> Int {
        guard !buffer.isEmpty else { return 0 }
        var total = 0
        if mayHoldMore { total = decrypt(nil, into: buffer, socket) }
        while total < buffer.count {
            if let readFailure {
                if total > 0 { break }
                throw readFailure
            }
            let count: Int
            do {
                receiveCalls &+= 1
                count = try socket.receive(into: ciphertext)
            } catch {
                readFailure = error
                continue
            }
            if count == 0 { break }
            bytesReceived &+= count
            let arrived = UnsafeRawBufferPointer(rebasing: ciphertext[..<count])
            total &+= decrypt(arrived, into: UnsafeMutableRawBufferPointer(rebasing: buffer[total...]), socket)
            // What may still be in the socket keeps it readable.
            if count < ciphertext.count, readFailure == nil { break }
        }
        return total
    }

    /// Decrypts until the buffer is full or a whole record is missing. A failure is kept for later, so that the bytes before
    /// it are not lost.
    private func decrypt(
        _ arrived: UnsafeRawBufferPointer?, into buffer: UnsafeMutableRawBufferPointer, _ socket: Socket
    ) -> Int {
        var total = 0
        let hasAnswer = lock.withLock { _ in
            if let arrived { append(arrived) }
            guard !isBroken else {
                readFailure = .tls(stage: .read, message: "the connection has failed before")
                return false
            }
            mayHoldMore = true
            ERR_clear_error()
            while total < buffer.count {
                var count = 0
                let result = SSL_read_ex(ssl, buffer.baseAddress.map { $0 + total }, buffer.count &- total, &count)
                if result == 1 {
                    total &+= count
                    continue
                }
                mayHoldMore = false
                switch SSL_get_error(ssl, result) {
                case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: break
                case SSL_ERROR_ZERO_RETURN:
                    peerClosedCleanly = true
                    readFailure = .endOfFile
                case SSL_ERROR_SSL:
                    isBroken = true
                    readFailure = .openSSL(.read)
                case let code:
                    isBroken = true
                    readFailure = .tls(stage: .read, message: "unexpected result \(code)")
                }
                break
            }
            collect()
            return !isFlushing && !pending.isEmpty
        }
        // If it cannot be sent, the sender will hear of it.
        if hasAnswer { try? flush(socket) }
        return total
    }

    /// Gives ciphertext to OpenSSL; a memory BIO takes all of it.
    private func append(_ bytes: UnsafeRawBufferPointer) {
        var count = 0
        BIO_write_ex(incoming, bytes.baseAddress, bytes.count, &count)
    }

    // MARK: What was agreed

    var sendCounters: ChannelCounters {
        lock.withLock { _ in
            var counters = ChannelCounters()
            counters.sendCalls = sendCalls
            counters.bytesSent = bytesSent
            return counters
        }
    }

    var receiveCounters: ChannelCounters {
        var counters = ChannelCounters()
        counters.receiveCalls = receiveCalls
        counters.bytesReceived = bytesReceived
        return counters
    }

    var description: String {
        lock.withLock { _ in
            let version = SSL_get_version(ssl).map { String(cString: $0) } ?? "unknown version"
            let cipher = SSL_get_current_cipher(ssl).flatMap { SSL_CIPHER_get_name($0) }.map { String(cString: $0) }
            return "\(version), \(cipher ?? "no cipher")"
        }
    }

    func serverCertificateHash() -> [UInt8]? {
        lock.withLock { _ in
            guard let certificate = SSL_get1_peer_certificate(ssl) else { return nil }
            defer { X509_free(certificate) }
            var digest: Int32 = NID_undef
            guard X509_get_signature_info(certificate, &digest, nil, nil, nil) == 1 else { return nil }
            // RFC 5929, section 4.1: the signature's hash, but SHA-256 in place of MD5 and SHA-1.
            if digest == NID_md5 || digest == NID_sha1 { digest = NID_sha256 }
            guard digest != NID_undef, let algorithm = EVP_get_digestbyname(OBJ_nid2sn(digest)) else { return nil }
            var hash = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
            var length: UInt32 = 0
            guard X509_digest(certificate, algorithm, &hash, &length) == 1 else { return nil }
            return Array(hash.prefix(Int(length)))
        }
    }
}
