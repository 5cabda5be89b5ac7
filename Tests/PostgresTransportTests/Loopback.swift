import Glibc
import Synchronization

@testable import PostgresTransport

struct TestFailure: Error {
    let call: String
    let number: Int32

    init(_ call: String, _ number: Int32 = errno) {
        self.call = call
        self.number = number
    }
}

/// Two connected Unix sockets: ours, and the peer's bare descriptor, which blocks.
final class SocketPair: Sendable {
    let socket: Socket
    let peer: Int32
    private let isPeerOpen = Atomic(true)

    init(loop: EventLoop = .shared, sendBufferSize: Int? = nil) throws {
        var ends: [Int32] = [-1, -1]
        let type = Int32(bitPattern: SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw TestFailure("socketpair") }
        peer = ends[1]
        socket = Socket(adopting: ends[0], remoteAddress: try SocketAddress(unixPath: "/peer"), loop: loop)
        try SocketOptions(sendBufferSize: sendBufferSize).apply(to: ends[0], isTCP: false)
    }

    deinit { closePeer() }

    func closePeer() { if isPeerOpen.exchange(false, ordering: .relaxed) { close(peer) } }

    func peerWrites(_ bytes: [UInt8]) throws {
        guard write(peer, bytes, bytes.count) == bytes.count else { throw TestFailure("write") }
    }

    func peerReads(atMost count: Int) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let received = read(peer, &buffer, count)
        return Array(buffer.prefix(max(0, received)))
    }
}

/// A listening socket; what it does not accept stays in its queue.
final class Listener: Sendable {
    let descriptor: Int32
    let address: SocketAddress
    private let path: String?

    /// TCP, on a port of the system's choice.
    init(tcpBacklog backlog: Int32 = 16) throws {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        path = nil
        descriptor = try Listener.listen(SocketAddress(withUnsafeBytes(of: &address) { $0 }), backlog)
        guard let bound = SocketAddress(of: descriptor, getsockname) else { throw TestFailure("getsockname") }
        self.address = bound
    }

    init(unixPath path: String, backlog: Int32 = 16) throws {
        unlink(path)
        self.path = path
        address = try SocketAddress(unixPath: path)
        descriptor = try Listener.listen(address, backlog)
    }

    deinit {
        close(descriptor)
        if let path { unlink(path) }
    }

    private static func listen(_ address: SocketAddress, _ backlog: Int32) throws -> Int32 {
        let type = Int32(bitPattern: SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = socket(address.family, type, 0)
        guard descriptor >= 0 else { throw TestFailure("socket") }
        guard address.withSockaddr({ bind(descriptor, $0, $1) }) == 0, Glibc.listen(descriptor, backlog) == 0 else {
            defer { close(descriptor) }
            throw TestFailure("listen")
        }
        return descriptor
    }

    var endpoint: Endpoint {
        path.map { .unix(path: $0) } ?? .tcp(host: "127.0.0.1", port: address.port)
    }

    func acceptOne() throws -> Int32 {
        let accepted = accept(descriptor, nil, nil)
        guard accepted >= 0 else { throw TestFailure("accept") }
        return accepted
    }

    /// The address of a port that was free a moment ago, so that connecting to it is refused.
    static func refusedAddress() throws -> SocketAddress { try Listener().address }

    /// A listener whose queue is full, and the connections that fill it: one more gets no answer.
    static func full() throws -> (listener: Listener, filling: [Socket]) {
        let listener = try Listener(tcpBacklog: 0)
        var filling: [Socket] = []
        let type = Int32(bitPattern: SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        while filling.count < 16 {
            let descriptor = socket(AF_INET, type, 0)
            let socket = Socket(adopting: descriptor, remoteAddress: listener.address, loop: .shared)
            filling.append(socket)
            _ = listener.address.withSockaddr { connect(descriptor, $0, $1) }
            if !socket.waitWritable(microseconds: 20_000) { return (listener, filling) }
        }
        throw TestFailure("filling the queue of a listener", 0)
    }
}

extension SocketAddress {
    var port: UInt16 {
        guard bytes.count >= MemoryLayout<sockaddr_in>.size else { return 0 }
        return UInt16(bigEndian: bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self) })
    }
}

extension Socket {
    func send(_ bytes: [UInt8]) throws -> Int { try bytes.withUnsafeBytes { try send($0) } }

    func receive(atMost count: Int) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: count)
        let received = try buffer.withUnsafeMutableBytes { try receive(into: $0) }
        return Array(buffer.prefix(received))
    }
}

/// Counts what it is told.
final class RecordingHandler: EventHandler {
    struct Record {
        var readiness: [Readiness] = []
        var turns = 0
        var wasAlwaysOnLoop = true
    }

    let record = Lock(Record())
    private let loop: EventLoop
    private let onReady: @Sendable (Readiness) -> Void

    init(_ loop: EventLoop, onReady: @escaping @Sendable (Readiness) -> Void = { _ in }) {
        self.loop = loop
        self.onReady = onReady
    }

    func ready(_ readiness: Readiness) {
        record.withLock {
            $0.readiness.append(readiness)
            $0.wasAlwaysOnLoop = $0.wasAlwaysOnLoop && loop.isCurrent
        }
        onReady(readiness)
    }

    func turn() {
        record.withLock {
            $0.turns += 1
            $0.wasAlwaysOnLoop = $0.wasAlwaysOnLoop && loop.isCurrent
        }
    }

    var readiness: [Readiness] { record.withLock { $0.readiness } }
}

/// Runs a closure in a turn of the loop.
final class Turn: EventHandler {
    private let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    func ready(_ readiness: Readiness) {}
    func turn() { body() }
}

/// Runs the closure when its pause is over.
final class Pausing: EventHandler {
    private let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    func ready(_ readiness: Readiness) {}
    func turn() {}
    func pauseOver() { body() }
}

extension EventLoop {
    /// Returns when the loop has seen every event that was there when it was called: a pass looks at the descriptors before
    /// it runs turns, and the second turn is of a later pass than the first.
    func barrier() async throws {
        for _ in 0..<2 {
            let completion = Completion<Void>()
            scheduleTurn(Turn { completion.finish(.success(())) })
            try await completion.value()
        }
    }
}

/// Lets tests end a blocked thread without a sleep.
final class Gate: @unchecked Sendable {
    // A POSIX semaphore is made to be shared; the memory is freed when nobody can use it.
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    init() { sem_init(semaphore, 0, 0) }
    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }
    func open() { sem_post(semaphore) }
    func wait() { while sem_wait(semaphore) != 0 {} }
}

final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .relaxed) }
    func set() { value.store(true, ordering: .relaxed) }
}
