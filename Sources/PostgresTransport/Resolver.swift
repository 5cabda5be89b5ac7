import Glibc

/// Turns an endpoint into addresses to try, in the system's order.
enum Resolver {
    static func addresses(
        of endpoint: Endpoint, deadline: Deadline, loop: EventLoop
    ) async throws(TransportError) -> [SocketAddress] {
        switch endpoint {
        case .unix(let path): return [try SocketAddress(unixPath: path)]
        case .tcp(let host, let port):
            guard !host.isEmpty else { throw .invalidAddress("the host name is empty") }
            guard !host.utf8.contains(0) else { throw .invalidAddress("the host name holds a zero byte") }
            // A numeric address needs no lookup, and so no thread.
            if case .success(let addresses) = lookUp(host, port, AI_NUMERICHOST) { return addresses }
            // getaddrinfo blocks for as long as the name servers please, and cannot be interrupted.
            let result = try await BackgroundThread.run(
                until: deadline, loop: loop, what: "resolving the host name \"\(host)\""
            ) { lookUp(host, port, 0) }
            return try result.get()
        }
    }

    private static func lookUp(
        _ host: String, _ port: UInt16, _ flags: Int32
    ) -> Result<[SocketAddress], TransportError> {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(bitPattern: SOCK_STREAM.rawValue)
        hints.ai_flags = flags | AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, String(port), &hints, &list)
        guard status == 0 else {
            let message = status == EAI_SYSTEM ? systemMessage(errno) : String(cString: gai_strerror(status))
            return .failure(.resolve(host: host, message: message))
        }
        defer { freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var next = list
        while let entry = next {
            next = entry.pointee.ai_next
            guard let address = entry.pointee.ai_addr else { continue }
            let found = SocketAddress(UnsafeRawBufferPointer(start: address, count: Int(entry.pointee.ai_addrlen)))
            // A name that stands twice in a hosts file is one address.
            if !addresses.contains(found) { addresses.append(found) }
        }
        guard !addresses.isEmpty else { return .failure(.resolve(host: host, message: "the name has no address")) }
        return .success(addresses)
    }
}
