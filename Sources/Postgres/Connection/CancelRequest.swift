import PostgresProtocol
import PostgresTransport
import Synchronization

/// A second connection that asks the server to stop what the first one runs (manual, "Canceling Requests in Progress").
///
/// It goes to the address that the session is connected to, not to what its name resolves to by now, and a session with TLS never
/// sends its key in the clear.
struct CancelRequest: Sendable {
    let address: SocketAddress
    let host: String
    let tlsContext: TLSContext?
    let processID: UInt32
    let secretKey: [UInt8]

    /// How far a request got.
    enum Progress: Sendable {
        /// Nothing that could stop anything left this process.
        case notSent(any Error)
        /// The server has closed the connection in order, which it does when it has passed the request on.
        case delivered
        /// It was sent, and may take effect at any time.
        case unanswered
    }

    /// Never ended by a cancelled task: to be run in a task of its own.
    func send(until deadline: Deadline, loop: EventLoop) async -> Progress {
        var isSent = false
        do {
            let socket = try await Connector.connect(to: address, deadline: deadline, loop: loop)
            let channel = ByteChannel(socket)
            defer { channel.close() }
            if let tlsContext {
                guard case .accepted = try await channel.askForTLS(until: deadline) else {
                    throw PostgresError(
                        code: .tls, message: "\(address) does not offer TLS to a connection that cancels",
                        hint: "the session has TLS; its key is not sent in the clear")
                }
                try await channel.startTLS(tlsContext, serverName: host, deadline: deadline)
            }
            var writer = ByteWriter(capacity: 512)
            try writer.cancelRequest(processID: processID, secretKey: secretKey)
            try await channel.sendAll(&writer, until: deadline)
            isSent = true
            var nothing = ReceiveBuffer(capacity: 64)
            // The server says nothing. What comes nevertheless, such as an error of a pooler's, changes nothing.
            while !deadline.hasPassed {
                try await channel.receiveSome(&nothing, until: deadline)
                nothing.consume(nothing.count)
            }
            return .unanswered
        } catch {
            // What was sent in part is no request.
            guard isSent else { return .notSent(error) }
            if case .endOfFile? = error as? TransportError { return .delivered }
            // A reset says nothing of what came before it.
            return .unanswered
        }
    }
}

extension ConnectionCore {
    /// Whether nothing is in flight any more.
    var hasEnded: Bool { state.withLock { $0.queue.isEmpty } }

    /// A request to cancel was sent, and nobody knows whether it has arrived. What it was for has ended; it is not to stop what
    /// would come next.
    func closeBehindCancelRequest() {
        fail(
            PostgresError(
                code: .connectionClosed,
                message:
                    "the connection to \(server.address) was closed, because a request to cancel was lost on its way, and could still arrive and stop another statement",
                outcome: .unknown))
    }
}

extension CancelRequest {
    /// nil if the server gave no key, as some poolers do.
    init?(_ core: ConnectionCore) {
        guard let processID = core.server.processID, !core.server.secretKey.isEmpty else { return nil }
        self.init(
            address: core.channel.socket.remoteAddress, host: core.server.host, tlsContext: core.server.tlsContext,
            processID: processID, secretKey: core.server.secretKey)
    }
}
