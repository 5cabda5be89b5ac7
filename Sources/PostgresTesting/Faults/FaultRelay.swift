import CPostgresSystem
import Glibc
import PostgresTransport
import Synchronization

/// What a fault proxy and its thread share. The thread holds this, not the proxy, so that a proxy that nobody refers to any more
/// ends its thread.
final class FaultRelay: Sendable {
    struct State {
        var faults = PostgresFaultProxy.Faults()
        var nextFaults: [PostgresFaultProxy.Faults] = []
        var connections: [PostgresFaultProxy.Connection] = []
        /// To be done to every open connection.
        var ending: (PostgresFaultProxy.Ending, PostgresFaultProxy.Direction)?
        var isStopping = false
        var hasStopped = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    let state = Lock(State())
    private let listener: MockListener
    private let server: PostgresFaultProxy.Server
    /// Wakes the thread from its poll.
    private let wake: Int32

    init(_ server: PostgresFaultProxy.Server, _ listener: MockListener) throws(PostgresFaultProxy.Failure) {
        wake = eventfd(0, postgres_EFD_FLAGS)
        guard wake >= 0 else {
            let reason = String(cString: strerror(errno))
            listener.close()
            throw PostgresFaultProxy.Failure(message: "eventfd: \(reason)")
        }
        self.server = server
        self.listener = listener
        _ = fcntl(listener.descriptor, F_SETFL, O_NONBLOCK)
    }

    deinit { close(wake) }

    func start() { startThread { [self] in run() } }

    func wakeUp() {
        var one: UInt64 = 1
        _ = write(wake, &one, MemoryLayout<UInt64>.size)
    }

    func requestStop() {
        state.withLock { $0.isStopping = true }
        wakeUp()
    }

    func stopped() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let hasStopped = state.withLock { state in
                if !state.hasStopped { state.waiting.append(continuation) }
                return state.hasStopped
            }
            if hasStopped { continuation.resume() }
        }
    }

    // MARK: The thread

    /// The open connections by their numbers; only the thread has them.
    private typealias Connections = [(number: Int, connection: RelayedConnection)]

    private func run() {
        var connections: Connections = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let (isStopping, ending) = state.withLock { state in
                defer { state.ending = nil }
                return (state.isStopping, state.ending)
            }
            if isStopping { break }
            if let (ending, direction) = ending {
                for index in connections.indices { connections[index].connection.end(ending, direction) }
            }
            let now = ContinuousClock.now
            buffer.withUnsafeMutableBytes { bytes in
                for index in connections.indices { connections[index].connection.step(bytes, at: now) }
            }
            publish(connections)
            connections.removeAll { $0.connection.isClosed }
            wait(&connections)
            accept(into: &connections)
        }
        for index in connections.indices { connections[index].connection.close() }
        listener.close()
        let waiting = state.withLock { state in
            for entry in connections { state.connections[entry.number].isOpen = false }
            state.hasStopped = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    private func publish(_ connections: Connections) {
        guard !connections.isEmpty else { return }
        state.withLock { state in
            for (number, connection) in connections {
                state.connections[number].bytesToServer = connection.bytesToServer
                state.connections[number].bytesToClient = connection.bytesToClient
                state.connections[number].turns = connection.turns
                state.connections[number].wasCut = connection.wasCut
                state.connections[number].isOpen = !connection.isClosed
            }
        }
    }

    private func wait(_ connections: inout Connections) {
        var entries = [
            pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
            pollfd(fd: listener.descriptor, events: Int16(POLLIN), revents: 0),
        ]
        for (_, connection) in connections { entries += connection.pollEntries() }
        let now = ContinuousClock.now
        var timeout: timespec?
        if let next = connections.compactMap({ $0.connection.nextTime(at: now) }).min() {
            let left = max(next - now, .zero).components
            timeout = timespec(tv_sec: Int(left.seconds), tv_nsec: Int(left.attoseconds / 1_000_000_000))
        }
        let count =
            if var timeout { ppoll(&entries, nfds_t(entries.count), &timeout, nil) } else {
                ppoll(&entries, nfds_t(entries.count), nil, nil)
            }
        guard count > 0 else { return }
        if entries[0].revents != 0 {
            var counter: UInt64 = 0
            _ = read(wake, &counter, MemoryLayout<UInt64>.size)
        }
        for index in connections.indices {
            connections[index].connection.polled(.toServer, entries[2 + 2 * index].revents)
            if connections[index].connection.isClosed { continue }
            connections[index].connection.polled(.toClient, entries[3 + 2 * index].revents)
        }
    }

    private func accept(into connections: inout Connections) {
        while true {
            let client = Glibc.accept(listener.descriptor, nil, nil)
            guard client >= 0 else { return }
            let (number, faults) = state.withLock { state in
                state.connections.append(PostgresFaultProxy.Connection())
                let faults = state.nextFaults.isEmpty ? state.faults : state.nextFaults.removeFirst()
                return (state.connections.count - 1, faults)
            }
            guard let descriptor = server.connect() else {
                var socket = RelaySocket(client)
                socket.reset()
                state.withLock { state in
                    state.connections[number].reachedServer = false
                    state.connections[number].isOpen = false
                }
                continue
            }
            connections.append((number, RelayedConnection(client: client, server: descriptor, faults)))
        }
    }
}
