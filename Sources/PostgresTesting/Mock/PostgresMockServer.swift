import CPostgresSystem
import Glibc
import PostgresTransport
import Synchronization

/// A server that follows a script: for tests of what a real PostgreSQL does seldom, or never.
///
/// ```swift
/// let server = try PostgresMockServer(script: [
///     .acceptTrust(),
///     .expect([.parse, .describe, .bind, .execute, .sync]),
///     .send(.errorResponse("57P01", "terminating connection", severity: "FATAL")),
///     .close,
/// ])
/// let db = try await PostgresConnection.connect(server.connectionURL)
/// // ...
/// try await server.finish()
/// ```
/// Each connection has a script and a thread of its own. Behind the last step the server waits for the client to close, and
/// takes nothing but a Terminate. What goes otherwise than its script says is a failure that ``finish()`` throws; nothing
/// waits longer than the timeout. It runs until ``finish()`` or ``stop()``.
public final class PostgresMockServer: Sendable {
    /// Where a server listens.
    public enum Address: Sendable, CaseIterable {
        /// 127.0.0.1, at a port that was free.
        case tcp
        /// A socket in a temporary folder.
        case unixSocket
    }

    /// What went otherwise than its script says.
    public struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
        /// The number of the connection, from 0; nil when it concerns the server.
        public var connection: Int?
        /// What was expected, and what came.
        public var message: String

        public var description: String { connection.map { "connection \($0): \(message)" } ?? message }
    }

    private struct State {
        var failures: [Failure] = []
        var received: [Received] = []
        /// Threads that use descriptors of the server.
        var threads = 1
        var isStopped = false
        /// No connection came for a script in time.
        var isGivenUp = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private struct Received {
        var messages: [FrontendMessage] = []
        var bytes: [UInt8] = []
    }

    /// Where it listens.
    public let address: Address
    /// The port of 127.0.0.1, or the number that the socket's name ends with.
    public let port: Int
    /// The folder of the Unix socket; nil for a TCP server.
    public let socketFolder: String?
    let timeout: Duration
    private let scripts: [[Step]]
    private let listener: MockListener
    /// Readable from the moment the server is to stop; every wait of a script includes it.
    let stopDescriptor: Int32
    private let state = Lock(State())

    /// A server for one connection.
    public convenience init(
        over address: Address = .tcp, timeout: Duration = .seconds(60), script: [Step]
    ) throws(Failure) {
        try self.init(over: address, timeout: timeout, scripts: [script])
    }

    /// A server for as many connections as there are scripts, each following the next one.
    ///
    /// - Parameter timeout: how long a script waits for anything.
    public init(
        over address: Address = .tcp, timeout: Duration = .seconds(60), scripts: [[Step]]
    ) throws(Failure) {
        let listener = try MockListener(address)
        let stop = eventfd(0, postgres_EFD_FLAGS)
        guard stop >= 0 else {
            listener.close()
            throw Failure(message: "eventfd: \(String(cString: strerror(errno)))")
        }
        self.address = address
        self.timeout = timeout
        self.scripts = scripts
        self.listener = listener
        port = listener.port
        socketFolder = listener.folder
        stopDescriptor = stop
        startThread { [self] in acceptConnections() }
    }

    deinit {
        // No thread is left: each of them holds the server.
        close(stopDescriptor)
    }

    /// A URL of this server, without TLS unless `parameters` say otherwise.
    public func connectionURL(
        user: String = "mock", password: String? = nil, parameters: KeyValuePairs<String, String> = [:]
    ) -> String {
        let host = socketFolder.map { $0.replacing("/", with: "%2F") } ?? "127.0.0.1"
        var query = parameters.map { "\($0.key)=\($0.value)" }
        if address == .tcp, !parameters.contains(where: { $0.key == "sslmode" }) { query.append("sslmode=disable") }
        let credentials = user + (password.map { ":\($0)" } ?? "")
        let url = "postgresql://\(credentials)@\(host):\(port)/mock"
        return query.isEmpty ? url : url + "?" + query.joined(separator: "&")
    }

    /// A URL of this server for the user `mock`, without TLS.
    public var connectionURL: String { connectionURL() }

    /// How many connections were accepted.
    public var connectionCount: Int { state.withLock { $0.received.count } }

    /// The messages that a connection, by its number from 0, has sent so far and that its script has taken.
    public func messages(ofConnection number: Int = 0) -> [FrontendMessage] {
        state.withLock { number >= 0 && number < $0.received.count ? $0.received[number].messages : [] }
    }

    /// Every byte that a connection, by its number from 0, has sent so far and that its script has read.
    public func bytes(ofConnection number: Int = 0) -> [UInt8] {
        state.withLock { number >= 0 && number < $0.received.count ? $0.received[number].bytes : [] }
    }

    /// What went otherwise than the scripts say, so far.
    public var failures: [Failure] { state.withLock { $0.failures } }

    /// Waits until every script has had its connection and has ended, and stops the server.
    ///
    /// - Throws: the first failure.
    public func finish() async throws(Failure) {
        await wait { $0.threads <= 1 && ($0.received.count >= scripts.count || $0.isGivenUp || !$0.failures.isEmpty) }
        await stop()
        if let failure = failures.first { throw failure }
    }

    /// Ends all scripts where they stand, closes everything, and waits until that is done.
    public func stop() async {
        state.withLock { $0.isStopped = true }
        var one: UInt64 = 1
        _ = write(stopDescriptor, &one, 8)
        await wait { $0.threads == 0 }
    }

    /// Waits until the condition holds; it is looked at whenever a thread ends.
    private func wait(until condition: (borrowing State) -> Bool) async {
        while state.withLock({ !condition($0) }) {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let holds = state.withLock { state in
                    let holds = condition(state)
                    if !holds { state.waiting.append(continuation) }
                    return holds
                }
                if holds { continuation.resume() }
            }
        }
    }
}

extension PostgresMockServer {
    var isStopped: Bool { state.withLock { $0.isStopped } }

    func fail(_ message: String, connection: Int? = nil) {
        state.withLock { $0.failures.append(Failure(connection: connection, message: message)) }
    }

    func record(_ bytes: ArraySlice<UInt8>, connection: Int) {
        state.withLock { state in state.received[connection].bytes += bytes }
    }

    func record(_ message: FrontendMessage, connection: Int) {
        state.withLock { $0.received[connection].messages.append(message) }
    }

    private func acceptConnections() {
        defer {
            listener.close()
            threadEnded()
        }
        while true {
            let isMissing = state.withLock { $0.received.count < scripts.count && !$0.isGivenUp }
            switch waitReadable(listener.descriptor, for: isMissing ? timeout : nil) {
            case .stopped: return
            case .timedOut:
                giveUp()
                continue
            case .readable: break
            }
            let descriptor = accept(listener.descriptor, nil, nil)
            guard descriptor >= 0 else { continue }
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            let number = state.withLock { state in
                state.received.append(Received())
                state.threads += 1
                return state.received.count - 1
            }
            guard number < scripts.count else {
                fail("there is no script for it: the server has \(scripts.count)", connection: number)
                close(descriptor)
                threadEnded()
                continue
            }
            let script = scripts[number]
            startThread { [self] in
                var run = ScriptRun(self, descriptor, number)
                run.run(script)
                run.end()
                threadEnded()
            }
        }
    }

    private func giveUp() {
        fail("no connection came for script \(connectionCount) in time")
        notify { $0.isGivenUp = true }
    }

    private func threadEnded() { notify { $0.threads -= 1 } }

    private func notify(_ change: (inout State) -> Void) {
        let waiting = state.withLock { state in
            change(&state)
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    enum Waited {
        case readable
        case stopped
        case timedOut
    }

    /// Waits until a descriptor is readable or the server is to stop, for at most `limit`.
    func waitReadable(_ descriptor: Int32, for limit: Duration? = nil) -> Waited {
        var entries = [
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: stopDescriptor, events: Int16(POLLIN), revents: 0),
        ]
        let deadline = limit.map { ContinuousClock.now + $0 }
        while true {
            var milliseconds: Int32 = -1
            if let deadline {
                let left = max(deadline - ContinuousClock.now, .zero) / .milliseconds(1)
                milliseconds = Int32(exactly: left.rounded(.up)) ?? Int32.max
            }
            let count = poll(&entries, 2, milliseconds)
            if count < 0, errno == EINTR { continue }
            if entries[1].revents != 0 { return .stopped }
            if count > 0 { return .readable }
            if deadline == nil { return .stopped }
            return .timedOut
        }
    }
}
