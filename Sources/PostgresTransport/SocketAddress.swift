import Glibc

/// A resolved address, as the bytes of the system's `sockaddr`.
package struct SocketAddress: Sendable, Hashable {
    let bytes: [UInt8]

    package init(_ address: UnsafeRawBufferPointer) { bytes = [UInt8](address) }

    /// Fails if the path does not fit into `sun_path`, or holds a zero byte, before any system call.
    package init(unixPath path: String) throws(TransportError) {
        let text = Array(path.utf8)
        var address = sockaddr_un()
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard !text.isEmpty else { throw .invalidAddress("the path of the Unix socket is empty") }
        guard !text.contains(0) else { throw .invalidAddress("the path of the Unix socket holds a zero byte") }
        guard text.count < capacity else {
            throw .invalidAddress(
                "the path of the Unix socket has \(text.count) bytes, at most \(capacity - 1) are possible: \(path)")
        }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: text) }
        bytes = withUnsafeBytes(of: &address) { Array($0) }
    }

    /// What `getsockname` or `getpeername` says of a socket.
    init?(
        of descriptor: Int32,
        _ call: (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> Int32
    ) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(descriptor, $0, &length) }
        }
        guard result == 0 else { return nil }
        bytes = withUnsafeBytes(of: &storage) { Array($0.prefix(Int(length))) }
    }

    package var family: Int32 {
        guard bytes.count >= MemoryLayout<sa_family_t>.size else { return AF_UNSPEC }
        return Int32(bytes.withUnsafeBytes { $0.loadUnaligned(as: sa_family_t.self) })
    }

    package var isUnix: Bool { family == AF_UNIX }

    /// Lends the address to a system call.
    func withSockaddr<Result>(_ body: (UnsafePointer<sockaddr>?, socklen_t) -> Result) -> Result {
        bytes.withUnsafeBytes { buffer in
            let address = buffer.baseAddress?.assumingMemoryBound(to: sockaddr.self)
            return body(address, socklen_t(truncatingIfNeeded: buffer.count))
        }
    }
}

extension SocketAddress: CustomStringConvertible {
    package var description: String {
        guard !isUnix else {
            let path = bytes.dropFirst(MemoryLayout<sa_family_t>.size).prefix { $0 != 0 }
            return path.isEmpty ? "unnamed Unix socket" : String(decoding: path, as: UTF8.self)
        }
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        var service = [CChar](repeating: 0, count: Int(NI_MAXSERV))
        let result = withSockaddr { address, length in
            getnameinfo(
                address, length, &host, socklen_t(host.count), &service, socklen_t(service.count),
                NI_NUMERICHOST | NI_NUMERICSERV)
        }
        guard result == 0 else { return "unknown address" }
        return Endpoint.tcp(host: text(host), port: UInt16(text(service)) ?? 0).description
    }

    private func text(_ buffer: [CChar]) -> String {
        String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
