import PostgresProtocol
import PostgresTransport

/// Bytes to and from a peer that nobody else talks to yet: for start-up, and for a connection that only cancels.
extension ByteChannel {
    /// Sends everything that is in the writer, and empties it.
    nonisolated(nonsending) func sendAll(
        _ writer: inout ByteWriter, until deadline: Deadline
    ) async throws(TransportError) {
        var sent = 0
        let count = writer.count
        while sent < count || hasUnsentBytes {
            let accepted = try writer.withBytes { bytes throws(TransportError) in
                try send(UnsafeRawBufferPointer(rebasing: bytes[sent...]))
            }
            sent += accepted
            if sent < count || hasUnsentBytes { try await socket.writable(until: deadline) }
        }
        writer.removeAll()
    }

    /// Receives at least one byte.
    nonisolated(nonsending) func receiveSome(
        _ buffer: inout ReceiveBuffer, until deadline: Deadline
    ) async throws(TransportError) {
        while true {
            let count = try receive(into: buffer.space())
            if count > 0 { return buffer.received(count) }
            try await socket.readable(until: deadline)
        }
    }

    /// SSLRequest; the answer is one byte, and exactly one: whatever follows before the handshake is forged (CVE-2021-23222).
    nonisolated(nonsending) func askForTLS(until deadline: Deadline) async throws -> TLSNegotiation {
        var writer = ByteWriter(capacity: 64)
        writer.sslRequest()
        try await sendAll(&writer, until: deadline)
        var answer = ReceiveBuffer(capacity: 1024)
        while true {
            try await receiveSome(&answer, until: deadline)
            if let answer = try TLSNegotiation.answer(UnsafeRawBufferPointer(start: answer.base, count: answer.count)) {
                return answer
            }
        }
    }
}
