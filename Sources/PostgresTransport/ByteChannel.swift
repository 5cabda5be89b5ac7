#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What a channel did since it was made.
package struct ChannelCounters: Sendable, Hashable {
    package var sendCalls = 0
    package var receiveCalls = 0
    package var waitCalls = 0
    /// As sent, so with TLS the ciphertext.
    package var bytesSent = 0
    package var bytesReceived = 0

    package var systemCalls: Int { sendCalls &+ receiveCalls &+ waitCalls }
}

/// Bytes to and from a peer, plain or encrypted, never blocking.
///
/// At any time one thread may be the sender (`send`, `waitWritable`, `sendCloseNotify`) and one the reader (`receive`, `waitReadable`,
/// `pause`); they need no lock against each other. Whoever hands such a role from one thread to another does it under a lock of its own.
///
/// Safe to share: `engine` is set before the channel is (by `startTLS`, from the only task that knows it). The counters
/// belong to the two roles; ``senderCounters`` may be read by the sender, ``readerCounters`` by the reader, or by anybody
/// under the lock that hands the role over while nobody has it.
package final class ByteChannel: @unchecked Sendable {
    package let socket: Socket
    @exclusivity(unchecked) private var engine: TLSEngine?
    @exclusivity(unchecked) private var sendCalls = 0
    @exclusivity(unchecked) private var bytesSent = 0
    @exclusivity(unchecked) private var sendWaitCalls = 0
    @exclusivity(unchecked) private var receiveCalls = 0
    @exclusivity(unchecked) private var bytesReceived = 0
    @exclusivity(unchecked) private var waitCalls = 0

    package init(_ socket: Socket) { self.socket = socket }

    package var isEncrypted: Bool { engine != nil }

    /// Sends what can be sent at once; with TLS, encrypts at most about 64 KiB ahead of what the system took.
    ///
    /// - Returns: how many bytes were accepted; 0 if the call would block. With TLS the last of them may still wait to be
    ///   sent: see ``hasUnsentBytes``. With an empty buffer only those are sent.
    package func send(_ bytes: UnsafeRawBufferPointer) throws(TransportError) -> Int {
        if let engine { return try engine.send(bytes, socket) }
        guard !bytes.isEmpty else { return 0 }
        sendCalls &+= 1
        let count = try socket.send(bytes)
        bytesSent &+= count
        return count
    }

    /// As ``send(_:)``, of bytes that lie in several places. With TLS, which copies them anyway, one place after the other.
    package func send(_ parts: ScatteredBytes) throws(TransportError) -> Int {
        if let engine { return try send(parts, engine) }
        sendCalls &+= 1
        let count = try socket.send(parts)
        bytesSent &+= count
        return count
    }

    private func send(_ parts: ScatteredBytes, _ engine: TLSEngine) throws(TransportError) -> Int {
        if parts.count == 0 { return try engine.send(parts.head, socket) }
        var accepted = 0
        for part in [parts.head, parts.body, parts.tail] where !part.isEmpty {
            do throws(TransportError) {
                let count = try engine.send(part, socket)
                accepted &+= count
                if count < part.count { break }
            } catch {
                // The failure stays, and is the next call's. What is on its way may have arrived.
                if accepted == 0 { throw error }
                break
            }
        }
        return accepted
    }

    /// Whether ciphertext waits until the socket is writable, and then for `send`. To be looked at after each `send`, and,
    /// since OpenSSL may have something to tell the peer while it reads, after each `receive`.
    package var hasUnsentBytes: Bool { engine?.hasUnsentBytes ?? false }

    /// - Returns: how many bytes were received. Fewer than asked for means that nothing more is at hand, and it is right to
    ///   wait until the socket is readable; none, that the call would block. A full buffer tells nothing: call again.
    /// - Throws: ``TransportError/endOfFile`` if the peer closed its side.
    package func receive(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> Int {
        if let engine { return try engine.receive(into: buffer, socket) }
        receiveCalls &+= 1
        let count = try socket.receive(into: buffer)
        bytesReceived &+= count
        return count
    }

    /// Whether decrypted or undecrypted bytes may be at hand that the socket says nothing of. The reader's to ask.
    package var mayHoldMore: Bool { engine?.mayHoldMoreInput ?? false }

    /// ``Socket/waitReadable(microseconds:)``, counted. At once if bytes may be at hand already.
    package func waitReadable(microseconds: Int) -> Bool {
        if mayHoldMore { return true }
        waitCalls &+= 1
        return socket.waitReadable(microseconds: microseconds)
    }

    /// Lets what is to be received gather, without looking for it; counted.
    package func pause(microseconds: Int) {
        waitCalls &+= 1
        usleep(UInt32(clamping: microseconds))
    }

    /// Waits without bound, on a thread that may; counted. At once if bytes may be at hand already.
    ///
    /// - Returns: false if a signal came in between.
    package func waitReadable() -> Bool {
        if mayHoldMore { return true }
        waitCalls &+= 1
        return socket.waitReadable()
    }

    /// ``Socket/waitReadable(until:)``, counted. At once if bytes may be at hand already.
    package func waitReadable(until deadline: Deadline) -> Bool {
        if mayHoldMore { return true }
        waitCalls &+= 1
        return socket.waitReadable(until: deadline)
    }

    /// Waits until the socket takes more, on the sender's thread; counted.
    ///
    /// - Parameter unlessReadable: the thread is the reader, too, and is to receive what there is first.
    /// - Returns: false if the time ran out, or a signal came in between, or there is something to be received first.
    package func waitWritable(microseconds: Int, unlessReadable: Bool) -> Bool {
        if unlessReadable, mayHoldMore { return false }
        sendWaitCalls &+= 1
        return unlessReadable
            ? socket.waitWritableUnlessReadable(microseconds: microseconds)
            : socket.waitWritable(microseconds: microseconds)
    }

    /// Only the sender's part is filled in. (With TLS, either role may have sent; the engine counts under its lock.)
    package var senderCounters: ChannelCounters {
        var counters = engine?.sendCounters ?? ChannelCounters()
        counters.sendCalls &+= sendCalls
        counters.bytesSent &+= bytesSent
        counters.waitCalls &+= sendWaitCalls
        return counters
    }

    /// Only the reader's part is filled in.
    package var readerCounters: ChannelCounters {
        var counters = engine?.receiveCounters ?? ChannelCounters()
        counters.receiveCalls &+= receiveCalls
        counters.bytesReceived &+= bytesReceived
        counters.waitCalls &+= waitCalls
        return counters
    }

    // MARK: TLS

    /// Performs the handshake; from then on all bytes are encrypted. Before anybody else knows the channel.
    ///
    /// - Parameter serverName: the host that was asked for, a name or an IP address.
    package func startTLS(
        _ context: TLSContext, serverName: String?, deadline: Deadline
    ) async throws(TransportError) {
        let engine = try TLSEngine(context, serverName: serverName)
        try await engine.handshake(socket, deadline: deadline)
        self.engine = engine
    }

    /// For channel binding by the type `tls-server-end-point` (RFC 5929): the hash of the peer's certificate. nil without
    /// TLS, and for a signature that has no single hash, such as Ed25519.
    package func serverCertificateHash() -> [UInt8]? { engine?.serverCertificateHash() }

    /// Version and cipher, nil without TLS.
    package var tlsDescription: String? { engine?.description }

    /// After an end of file: whether the peer said so by TLS's own means, so that nobody has cut the connection. The
    /// reader's to ask.
    package var peerClosedCleanly: Bool { engine?.peerClosedCleanly ?? false }

    /// Tells the peer that nothing more will come, as far as that is possible without waiting.
    package func sendCloseNotify() { engine?.sendCloseNotify(socket) }

    /// ``Socket/close()``, with its conditions.
    package func close() { socket.close() }
}
