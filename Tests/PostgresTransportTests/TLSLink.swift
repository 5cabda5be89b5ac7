import CPostgresOpenSSL
import Glibc
import PostgresTransport

/// A channel with an established TLS connection, and the server at its other end.
struct TLSLink: Sendable {
    let pair: SocketPair
    let channel: ByteChannel
    let server: TLSPeer

    init(
        _ identity: Identity, _ context: TLSContext, serverName: String? = nil,
        serverVersion: Int32 = TLS1_3_VERSION, chunk: Int = 65_536, deadline: Deadline = Deadline(after: .seconds(30))
    ) async throws {
        let pair = try SocketPair()
        let channel = ByteChannel(pair.socket)
        let server = try TLSPeer(pair.peer, identity, maximumVersion: serverVersion, chunk: chunk)
        async let accepted = BackgroundThread.run { Result { try server.handshake() } }
        do {
            try await channel.startTLS(context, serverName: serverName, deadline: deadline)
        } catch {
            _ = await accepted
            throw error
        }
        try await accepted.get()
        self.pair = pair
        self.channel = channel
        self.server = server
    }

    /// Runs the server's part beside the test, on a thread of its own.
    func serve<T: Sendable>(_ body: @escaping @Sendable (TLSPeer) throws -> T) async throws -> T {
        let server = self.server
        return try await BackgroundThread.run { Result { try body(server) } }.get()
    }
}

/// Blocking, for threads of their own.
extension ByteChannel {
    func sendAll(_ bytes: [UInt8], piece: Int = .max) throws {
        var sent = 0
        while sent < bytes.count || hasUnsentBytes {
            let end = min(bytes.count, sent + min(piece, bytes.count))
            let count = try bytes[sent..<end].withUnsafeBytes { try send($0) }
            sent += count
            if count == 0, sent < bytes.count || hasUnsentBytes {
                guard socket.waitWritable(until: Deadline(after: .seconds(30))) else { throw TestFailure("send", 0) }
            }
        }
    }

    func receive(atMost count: Int) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let received = try buffer.withUnsafeMutableBytes { try receive(into: $0) }
        return Array(buffer.prefix(received))
    }

    func receive(exactly count: Int, piece: Int = 65_536) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let size = min(piece, count - bytes.count)
            let more = try receive(atMost: size)
            bytes += more
            if more.count < size, bytes.count < count {
                guard waitReadable(until: Deadline(after: .seconds(30))) else { throw TestFailure("receive", 0) }
            }
        }
        return bytes
    }
}

func pattern(_ count: Int, _ seed: Int = 1) -> [UInt8] {
    var state = UInt32(truncatingIfNeeded: seed)
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        for index in 0..<count {
            state = state &* 1_664_525 &+ 1_013_904_223
            buffer[index] = UInt8(truncatingIfNeeded: state >> 24)
        }
        initialized = count
    }
}
