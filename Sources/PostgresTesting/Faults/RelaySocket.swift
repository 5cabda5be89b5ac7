import Glibc

/// One side of a relayed connection: a socket that never blocks, and how much of it has ended.
struct RelaySocket {
    private(set) var descriptor: Int32
    /// Its peer has sent the end.
    private(set) var isReadEnded = false
    /// The end was sent to it.
    private(set) var isWriteEnded = false
    /// The last write did not take everything.
    var isFull = false
    /// poll() reports the end of its peer without being asked, for ever: such a socket is not polled any more.
    var isHungUp = false

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        // Fails on a Unix socket, which needs no such thing.
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    }

    enum Read {
        case bytes(Int)
        case nothing
        case end
        case failed
    }

    mutating func read(into buffer: UnsafeMutableRawBufferPointer) -> Read {
        guard !isReadEnded, descriptor >= 0 else { return .nothing }
        while true {
            let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
            if count > 0 { return .bytes(count) }
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN { return .nothing }
            isReadEnded = true
            return count == 0 ? .end : .failed
        }
    }

    /// How many bytes were taken; nil if its peer takes none any more.
    mutating func write(_ bytes: ArraySlice<UInt8>) -> Int? {
        let count = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        isFull = count < bytes.count
        if count >= 0 { return count }
        return errno == EAGAIN || errno == EINTR ? 0 : nil
    }

    mutating func endWriting() {
        guard !isWriteEnded else { return }
        isWriteEnded = true
        shutdown(descriptor, Int32(SHUT_WR))
    }

    mutating func close() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
    }

    mutating func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        close()
    }
}

extension PostgresFaultProxy.Server {
    /// Connects; nil if nobody listens there. On this machine that takes no time worth the states of doing it in steps; elsewhere it
    /// is waited for.
    func connect() -> Int32? {
        switch self {
        case .tcp(let port):
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(truncatingIfNeeded: port).bigEndian
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            return Self.connect(AF_INET, &address)
        case .host(let host, let port):
            return Self.connect(host, port)
        case .unixSocket(let path):
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            return Self.connect(AF_UNIX, &address)
        }
    }

    /// To the first of the host's addresses that answers.
    private static func connect(_ host: String, _ port: Int) -> Int32? {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &found) == 0 else { return nil }
        defer { freeaddrinfo(found) }
        var next = found
        while let address = next?.pointee {
            let descriptor = socket(
                address.ai_family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            if descriptor >= 0 {
                if Glibc.connect(descriptor, address.ai_addr, address.ai_addrlen) == 0 { return descriptor }
                close(descriptor)
            }
            next = address.ai_next
        }
        return nil
    }

    private static func connect<Address>(_ family: Int32, _ address: inout Address) -> Int32? {
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        let isConnected = withUnsafeBytes(of: &address) { bytes in
            Glibc.connect(
                descriptor, bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self),
                socklen_t(truncatingIfNeeded: bytes.count)) == 0
        }
        if isConnected { return descriptor }
        close(descriptor)
        return nil
    }
}
