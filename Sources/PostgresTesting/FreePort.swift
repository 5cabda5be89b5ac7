import Glibc

/// A TCP port of 127.0.0.1 that nobody listens on now.
///
/// Below 32768, where Linux starts to number outgoing connections: one of those cannot take the port while the server
/// restarts. Another process may still take it before the server does; the caller then tries again.
func freePort() -> UInt16? {
    for _ in 0..<200 {
        let port = UInt16.random(in: 15000..<32768)
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if bound == 0 { return port }
    }
    return nil
}
