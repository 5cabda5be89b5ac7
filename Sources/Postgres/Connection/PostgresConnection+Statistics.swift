extension PostgresConnection {
    /// What a connection has cost so far, from its first byte. Take one before and one after, and subtract.
    public struct Statistics: Sendable, Hashable {
        /// Turns from writing to having read everything owed: what the network's latency is paid for.
        public var roundTrips = 0
        /// Messages of the protocol after the start-up.
        public var messagesSent = 0
        /// Messages of the protocol after the start-up; each row is one.
        public var messagesReceived = 0
        /// Bytes on the socket, so with TLS the ciphertext.
        public var bytesSent = 0
        /// Bytes on the socket, so with TLS the ciphertext.
        public var bytesReceived = 0
        /// Calls of send, recv, poll and epoll_ctl for this connection. The event loop's own waiting is not in it: it serves all
        /// connections.
        public var systemCalls = 0

        /// What the connection cost between two moments.
        public static func - (after: Self, before: Self) -> Self {
            Self(
                roundTrips: after.roundTrips - before.roundTrips,
                messagesSent: after.messagesSent - before.messagesSent,
                messagesReceived: after.messagesReceived - before.messagesReceived,
                bytesSent: after.bytesSent - before.bytesSent,
                bytesReceived: after.bytesReceived - before.bytesReceived,
                systemCalls: after.systemCalls - before.systemCalls)
        }
    }

    /// What the connection has cost so far.
    public var statistics: Statistics { core.statistics }
}
