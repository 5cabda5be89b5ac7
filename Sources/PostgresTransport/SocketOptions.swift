import Glibc

/// What is set on a socket before it connects.
package struct SocketOptions: Sendable, Hashable {
    /// Probes of an idle connection; what is nil is left to the system.
    package struct Keepalive: Sendable, Hashable {
        package var idle: Duration?
        package var interval: Duration?
        package var count: Int?

        package init(idle: Duration? = nil, interval: Duration? = nil, count: Int? = nil) {
            self.idle = idle
            self.interval = interval
            self.count = count
        }
    }

    /// nil: no probes.
    package var keepalive: Keepalive?
    /// How long sent data may stay unacknowledged before the connection is given up.
    package var tcpUserTimeout: Duration?
    package var sendBufferSize: Int?
    package var receiveBufferSize: Int?

    package init(
        keepalive: Keepalive? = Keepalive(), tcpUserTimeout: Duration? = nil, sendBufferSize: Int? = nil,
        receiveBufferSize: Int? = nil
    ) {
        self.keepalive = keepalive
        self.tcpUserTimeout = tcpUserTimeout
        self.sendBufferSize = sendBufferSize
        self.receiveBufferSize = receiveBufferSize
    }

    func apply(to descriptor: Int32, isTCP: Bool) throws(TransportError) {
        let tcp = Int32(IPPROTO_TCP)
        if let size = sendBufferSize {
            try set(descriptor, SOL_SOCKET, SO_SNDBUF, Int32(clamping: size), "SO_SNDBUF")
        }
        if let size = receiveBufferSize {
            try set(descriptor, SOL_SOCKET, SO_RCVBUF, Int32(clamping: size), "SO_RCVBUF")
        }
        guard isTCP else { return }
        try set(descriptor, tcp, TCP_NODELAY, 1, "TCP_NODELAY")
        if let keepalive {
            try set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE")
            if let idle = keepalive.idle { try set(descriptor, tcp, TCP_KEEPIDLE, seconds(idle), "TCP_KEEPIDLE") }
            if let interval = keepalive.interval {
                try set(descriptor, tcp, TCP_KEEPINTVL, seconds(interval), "TCP_KEEPINTVL")
            }
            if let count = keepalive.count {
                try set(descriptor, tcp, TCP_KEEPCNT, Int32(clamping: count), "TCP_KEEPCNT")
            }
        }
        if let timeout = tcpUserTimeout {
            let (whole, attoseconds) = timeout.components
            let milliseconds = whole.multipliedReportingOverflow(by: 1000)
            let value = milliseconds.overflow ? .max : milliseconds.partialValue &+ attoseconds / 1_000_000_000_000_000
            try set(descriptor, tcp, TCP_USER_TIMEOUT, Int32(clamping: value), "TCP_USER_TIMEOUT")
        }
    }

    /// Whole seconds, at least one: zero would mean the system's own choice.
    private func seconds(_ duration: Duration) -> Int32 { max(1, Int32(clamping: duration.components.seconds)) }

    private func set(
        _ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32, _ name: StaticString
    ) throws(TransportError) {
        var value = value
        guard setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size)) == 0 else {
            throw .system(call: "setsockopt(\(name))", errno: errno)
        }
    }
}
