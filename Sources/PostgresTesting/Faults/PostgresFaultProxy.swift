import PostgresTransport
import Synchronization

/// Stands between a client and a server, forwards what they send, and does harm: ends a connection behind any byte, in order, by
/// a RST, in one direction only, or by silence; delays, splits, coalesces; plays a slow link.
///
/// ```swift
/// let proxy = try PostgresFaultProxy(to: server)
/// let db = try await PostgresConnection.connect(proxy.connectionURL())
/// let offset = try #require(proxy.connections.last).bytesToClient
/// db.close()
///
/// proxy.faults = .init(cut: .init(.reset, after: offset - 1, of: .toClient))
/// // The next connection gets everything but the last byte of its ReadyForQuery.
/// // ...
/// await proxy.stop()
/// ```
/// A first connection without faults counts the bytes of a session; every further one can be cut behind each of them. All
/// connections of a proxy are served by one thread of its own. It runs until ``stop()``, or until nobody refers to it.
public final class PostgresFaultProxy: Sendable {
    /// Where the server listens.
    public enum Server: Sendable, Hashable {
        /// A port of 127.0.0.1.
        case tcp(port: Int)
        /// A port of a host, by its name or address. The name is resolved, and the connection made, on the proxy's thread for each
        /// client: meanwhile nothing moves on the others.
        case host(String, port: Int)
        /// The socket itself, such as `/var/run/postgresql/.s.PGSQL.5432`.
        case unixSocket(path: String)
    }

    /// Why a proxy could not be made: what the operating system refused.
    public struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
        /// The call, and its error.
        public var message: String

        public var description: String { message }
    }

    /// The port of 127.0.0.1, or the number that the socket's name ends with.
    public let port: Int
    /// The folder of the Unix socket; nil when it listens on TCP.
    public let socketFolder: String?
    /// How clients reach it.
    public let address: PostgresEphemeralServer.Address
    private let relay: FaultRelay

    /// A proxy that listens on a free port of 127.0.0.1, or on a Unix socket in a temporary folder.
    public init(
        to server: Server, listeningOn address: PostgresEphemeralServer.Address = .tcp
    ) throws(Failure) {
        let listener: MockListener
        do throws(PostgresMockServer.Failure) {
            listener = try MockListener(address == .tcp ? .tcp : .unixSocket)
        } catch {
            throw Failure(message: error.message)
        }
        port = listener.port
        socketFolder = listener.folder
        self.address = address
        relay = try FaultRelay(server, listener)
        relay.start()
    }

    /// A proxy before a throwaway server; both are reached in the same way.
    public convenience init(
        to server: PostgresEphemeralServer, over address: PostgresEphemeralServer.Address = .tcp
    ) throws(Failure) {
        let path = "\(server.socketFolder)/.s.PGSQL.\(server.port)"
        try self.init(
            to: address == .tcp ? .tcp(port: server.port) : .unixSocket(path: path), listeningOn: address)
    }

    deinit { relay.requestStop() }

    /// What is done to the connections that are made from now on; those that are open keep what they have.
    public var faults: Faults {
        get { relay.state.withLock { $0.faults } }
        set { relay.state.withLock { $0.faults = newValue } }
    }

    /// What is done to the next connections, one after the other, before ``faults`` holds for the others: so that of a pool's
    /// connections, or of a session and the connection that cancels its statement, only one is harmed.
    public var nextFaults: [Faults] {
        get { relay.state.withLock { $0.nextFaults } }
        set { relay.state.withLock { $0.nextFaults = newValue } }
    }

    /// Every connection that was made, in order, as it is now. Bytes are counted once they are forwarded, so those that a peer has
    /// just read may be missing for a moment.
    public var connections: [Connection] { relay.state.withLock { $0.connections } }

    /// The connection that was made last.
    public var lastConnection: Connection? { relay.state.withLock { $0.connections.last } }

    /// How many connections the proxy has sockets for.
    public var openConnectionCount: Int { connections.count { $0.isOpen } }

    /// Ends every open connection now.
    ///
    /// - Parameter direction: which way a half-close goes; the others do not ask.
    public func endConnections(_ ending: Ending, _ direction: Direction = .toClient) {
        relay.state.withLock { $0.ending = (ending, direction) }
        relay.wakeUp()
    }

    /// Closes everything, and waits until that is done.
    public func stop() async {
        relay.requestStop()
        await relay.stopped()
    }

    /// A URL by which a client reaches the server through the proxy; the user and the database are the server's.
    public func connectionURL(
        user: String = "postgres", password: String? = nil, database: String = "postgres",
        parameters: KeyValuePairs<String, String> = [:]
    ) -> String {
        let host = socketFolder.map { $0.replacing("/", with: "%2F") } ?? "127.0.0.1"
        let credentials = user + (password.map { ":\($0)" } ?? "")
        let url = "postgresql://\(credentials)@\(host):\(port)/\(database)"
        return parameters.isEmpty ? url : url + "?" + parameters.map { "\($0.key)=\($0.value)" }.joined(separator: "&")
    }
}
