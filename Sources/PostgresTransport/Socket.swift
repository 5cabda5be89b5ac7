import CPostgresSystem
import Glibc
import Synchronization

/// A connected, non-blocking stream socket. Owns its descriptor, and closes it exactly once.
package final class Socket: Sendable {
    package let descriptor: Int32
    package let remoteAddress: SocketAddress
    /// The loop that asynchronous waits go through.
    package let loop: EventLoop
    private let isClosed = Atomic<Bool>(false)

    /// Takes over a descriptor. (The calls below do not block, whatever its mode.)
    package init(adopting descriptor: Int32, remoteAddress: SocketAddress, loop: EventLoop) {
        self.descriptor = descriptor
        self.remoteAddress = remoteAddress
        self.loop = loop
    }

    deinit { close() }

    package var peerDescription: String { remoteAddress.description }

    /// Sends what the system takes at once.
    ///
    /// - Returns: how many bytes that was; 0 if the call would block.
    package func send(_ bytes: UnsafeRawBufferPointer) throws(TransportError) -> Int {
        try send { postgres_send(descriptor, bytes.baseAddress, bytes.count, $0) }
    }

    /// Sends bytes that lie in up to three places, as if they were one.
    package func send(_ parts: ScatteredBytes) throws(TransportError) -> Int {
        try send {
            postgres_send_parts(
                descriptor, parts.head.baseAddress, parts.head.count, parts.body.baseAddress, parts.body.count,
                parts.tail.baseAddress, parts.tail.count, $0)
        }
    }

    @inline(__always)
    private func send(_ call: (_ flags: Int32) -> Int) throws(TransportError) -> Int {
        while true {
            // Never SIGPIPE: the process's signal dispositions are not ours to change.
            let count = call(Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            if count >= 0 { return count }
            let reason = errno
            if reason == EAGAIN || reason == EWOULDBLOCK { return 0 }
            if reason != EINTR { throw .system(call: "send", errno: reason) }
        }
    }

    /// - Returns: how many bytes were received; 0 if the call would block.
    /// - Throws: ``TransportError/endOfFile`` if the peer closed its side.
    package func receive(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> Int {
        guard buffer.count > 0 else { return 0 }
        while true {
            let count = postgres_receive(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
            if count > 0 { return count }
            if count == 0 { throw .endOfFile }
            let reason = errno
            if reason == EAGAIN || reason == EWOULDBLOCK { return 0 }
            if reason != EINTR { throw .system(call: "recv", errno: reason) }
        }
    }

    /// What is there to be received.
    package enum Waiting: Sendable {
        case nothing
        case bytes
        /// The peer has closed, or the connection failed.
        case end
    }

    /// What is to be received next, as far as can be told without waiting; it stays there.
    package var waiting: Waiting {
        var byte: UInt8 = 0
        while true {
            let count = recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
            if count >= 0 { return count == 0 ? .end : .bytes }
            let reason = errno
            if reason != EINTR { return reason == EAGAIN || reason == EWOULDBLOCK ? .nothing : .end }
        }
    }

    /// Tells the peer that nothing more will be sent.
    package func shutdownWrite() {
        if !isClosed.load(ordering: .acquiring) { _ = shutdown(descriptor, Int32(SHUT_WR)) }
    }

    /// Ends both directions, so that every thread that waits for the socket wakes; the descriptor stays ours.
    package func shutdownBoth() {
        if !isClosed.load(ordering: .acquiring) { _ = shutdown(descriptor, Int32(SHUT_RDWR)) }
    }

    /// Only when no other thread is inside a call of this socket, for the number may be another descriptor's the next
    /// moment; ``shutdownBoth()`` gets them out. Deregister from the loop before.
    package func close() {
        if !isClosed.exchange(true, ordering: .acquiringAndReleasing) { _ = Glibc.close(descriptor) }
    }
}
