import CPostgresOpenSSL

/// Placeholder until the next commit.
final class TLSEngine: Sendable {
    let hasUnsentBytes = false
    let peerClosedCleanly = false
    let sendCounters = ChannelCounters()
    let receiveCounters = ChannelCounters()
    let description = ""

    init(_ context: TLSContext, serverName: String?) throws(TransportError) {
        throw .tls(stage: .configuration, message: "TLS is not built yet")
    }

    func handshake(_ socket: Socket, deadline: Deadline) async throws(TransportError) {}
    func send(_ bytes: UnsafeRawBufferPointer, _ socket: Socket) throws(TransportError) -> Int { 0 }
    func receive(into buffer: UnsafeMutableRawBufferPointer, _ socket: Socket) throws(TransportError) -> Int { 0 }
    func serverCertificateHash() -> [UInt8]? { nil }
    func sendCloseNotify(_ socket: Socket) {}
}
