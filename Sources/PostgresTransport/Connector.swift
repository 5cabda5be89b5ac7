import Glibc

/// Makes connections.
package enum Connector {
    /// Tries all addresses of the endpoint in turn, under one deadline; the first that takes the connection wins.
    ///
    /// Each address gets an equal share of the time that is left, so that one which never answers does not eat up the time
    /// of those behind it. Cancelling the task ends it with ``TransportError/cancelled``.
    package static func connect(
        to endpoint: Endpoint, options: SocketOptions = SocketOptions(), deadline: Deadline, loop: EventLoop = .shared
    ) async throws(TransportError) -> Socket {
        let addresses = try await Resolver.addresses(of: endpoint, deadline: deadline, loop: loop)
        return try await connect(
            to: addresses, options: options, deadline: deadline, loop: loop, what: endpoint.description)
    }

    /// Connects to an address that is known already: for a second connection to the very server of a first one.
    package static func connect(
        to address: SocketAddress, options: SocketOptions = SocketOptions(), deadline: Deadline,
        loop: EventLoop = .shared
    ) async throws(TransportError) -> Socket {
        try await connect(
            to: [address], options: options, deadline: deadline, loop: loop, what: address.description)
    }

    static func connect(
        to addresses: [SocketAddress], options: SocketOptions, deadline: Deadline, loop: EventLoop, what: String
    ) async throws(TransportError) -> Socket {
        var failures: [ConnectAttempt] = []
        for (index, address) in addresses.enumerated() {
            let share = deadline.share(of: addresses.count - index)
            do {
                return try await attempt(address, options, share, loop)
            } catch {
                switch error {
                case .system(_, let errno): failures.append(ConnectAttempt(address: address, errno: errno))
                case .timedOut: failures.append(ConnectAttempt(address: address, errno: ETIMEDOUT))
                default: throw error
                }
            }
            if deadline.hasPassed {
                let attempts = failures.map(\.description).joined(separator: "; ")
                throw .timedOut(what: "connecting to \(what) (\(attempts))")
            }
        }
        throw .connect(failures)
    }

    private static func attempt(
        _ address: SocketAddress, _ options: SocketOptions, _ deadline: Deadline, _ loop: EventLoop
    ) async throws(TransportError) -> Socket {
        if Task.isCancelled { throw .cancelled }
        let type = Int32(bitPattern: SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(address.family, type, 0)
        guard descriptor >= 0 else { throw .system(call: "socket", errno: errno) }
        // From here on the descriptor has an owner, which closes it on every path.
        let socket = Socket(adopting: descriptor, remoteAddress: address, loop: loop)
        try options.apply(to: descriptor, isTCP: !address.isUnix)

        var pause = Duration.milliseconds(1)
        connecting: while true {
            let result = address.withSockaddr { Glibc.connect(descriptor, $0, $1) }
            if result == 0 { break }
            switch errno {
            case EINPROGRESS, EINTR:
                try await socket.wait(for: .writable, until: deadline, "connecting to")
                let failure = socket.takeError()
                if failure != 0 { throw .system(call: "connect", errno: failure) }
                break connecting
            case EAGAIN where address.isUnix:
                // The listener's queue is full. The system has no event for "there is room again".
                if deadline.hasPassed { throw .timedOut(what: "connecting to \(address)") }
                try await loop.sleep(until: min(deadline, Deadline(after: pause)))
                pause = min(pause * 2, .milliseconds(50))
            case let reason: throw .system(call: "connect", errno: reason)
            }
        }
        if socket.isConnectedToItself { throw .system(call: "connect", errno: ECONNREFUSED) }
        return socket
    }
}

extension Deadline {
    /// An equal share of what is left, for the first of `count` attempts.
    fileprivate func share(of count: Int) -> Deadline {
        guard !isNever, count > 1 else { return self }
        return Deadline(after: .nanoseconds(remainingNanoseconds / Int64(count)))
    }
}

extension Socket {
    /// The result of a connect that went on in the background.
    fileprivate func takeError() -> Int32 {
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length) == 0 else { return errno }
        return error
    }

    /// Connecting to a free local port in the system's own range may, rarely, pick that very port for this end too.
    fileprivate var isConnectedToItself: Bool {
        guard !remoteAddress.isUnix else { return false }
        return SocketAddress(of: descriptor, getsockname) == SocketAddress(of: descriptor, getpeername)
    }
}
