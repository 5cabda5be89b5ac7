import CPostgresSystem
import Glibc

/// One connection through the proxy: two sockets, and the bytes on their way in each direction.
///
/// Theory of operation: `step` does everything that can be done now without waiting: reads from both sides, writes what is due,
/// passes on the end of a side once everything before it is written. Behind the cut's last byte it changes the mode, which says
/// what becomes of bytes that are read later:
///
///     forwarding -> discarding[direction]   read and let go, until both sides have ended (close, halfClose)
///                -> stalled                 not even read; ends when a side closes
///                -> closed                  final
///
/// A side that fails resets the other one.
struct RelayedConnection {
    typealias Instant = ContinuousClock.Instant
    typealias Direction = PostgresFaultProxy.Direction

    private var client: RelaySocket
    private var server: RelaySocket
    private var toServer: PacedBytes
    private var toClient: PacedBytes
    private let cut: PostgresFaultProxy.Cut?
    private var discards: Set<Direction> = []
    private var isStalled = false
    private(set) var isClosed = false
    private(set) var wasCut = false
    private(set) var turns = 0
    /// How many bytes the client had been given when it last sent something.
    private var bytesAtTurn: Int?

    init(client: Int32, server: Int32, _ faults: PostgresFaultProxy.Faults) {
        self.client = RelaySocket(client)
        self.server = RelaySocket(server)
        cut = faults.cut
        func limit(_ direction: Direction) -> Int? { faults.cut?.direction == direction ? faults.cut?.offset : nil }
        toServer = PacedBytes(faults.toServer, limit: limit(.toServer), seed: faults.seed)
        toClient = PacedBytes(faults.toClient, limit: limit(.toClient), seed: ~faults.seed)
    }

    var bytesToServer: Int { toServer.forwarded }
    var bytesToClient: Int { toClient.forwarded }

    mutating func step(_ buffer: UnsafeMutableRawBufferPointer, at now: Instant) {
        if !wasCut { cutIfReached() }
        for direction in Direction.allCases where !isClosed && !isStalled { read(direction, buffer, now) }
        for direction in Direction.allCases where !isClosed && !isStalled { write(direction, now) }
        if !isClosed, client.isReadEnded, server.isReadEnded, client.isWriteEnded, server.isWriteEnded { close() }
    }

    /// When to step again though no socket has anything new.
    func nextTime(at now: Instant) -> Instant? {
        guard !isClosed, !isStalled else { return nil }
        return Direction.allCases.compactMap { direction -> Instant? in
            guard !discards.contains(direction), !sink(direction).isFull else { return nil }
            return stream(direction).nextTime(at: now)
        }.min()
    }

    // MARK: Polling

    private static let readHangUp = Int16(0x2000)  // POLLRDHUP, which <poll.h> declares under _GNU_SOURCE only.

    func pollEntries() -> [pollfd] { [pollEntry(.toServer), pollEntry(.toClient)] }

    /// The socket that a direction reads from.
    private func pollEntry(_ direction: Direction) -> pollfd {
        let socket = source(direction)
        var events: Int16 = 0
        if isStalled {
            events = Self.readHangUp
        } else {
            let wants = discards.contains(direction) || stream(direction).wantsMore
            if wants, !socket.isReadEnded { events |= Int16(POLLIN) }
            if socket.isFull { events |= Int16(POLLOUT) }
        }
        return pollfd(fd: socket.isHungUp ? -1 : socket.descriptor, events: events, revents: 0)
    }

    mutating func polled(_ direction: Direction, _ events: Int16) {
        let hangUp = events & Int16(POLLHUP | POLLERR | POLLNVAL) != 0
        if isStalled {
            if hangUp || events & Self.readHangUp != 0 { resetBoth() }
            return
        }
        switch direction {
        case .toServer:
            client.isHungUp = client.isHungUp || hangUp
            if hangUp || events & Int16(POLLOUT) != 0 { client.isFull = false }
        case .toClient:
            server.isHungUp = server.isHungUp || hangUp
            if hangUp || events & Int16(POLLOUT) != 0 { server.isFull = false }
        }
    }

    // MARK: Moving bytes

    private mutating func read(_ direction: Direction, _ buffer: UnsafeMutableRawBufferPointer, _ now: Instant) {
        while discards.contains(direction) || stream(direction).wantsMore {
            let result = direction == .toServer ? client.read(into: buffer) : server.read(into: buffer)
            switch result {
            case .bytes(let count):
                guard !discards.contains(direction) else { continue }
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
                if direction == .toServer {
                    if bytesAtTurn != toClient.forwarded {
                        turns += 1
                        bytesAtTurn = toClient.forwarded
                    }
                    toServer.receive(bytes, at: now)
                } else {
                    toClient.receive(bytes, at: now)
                }
            case .nothing, .end: return
            case .failed: return resetBoth()
            }
        }
    }

    private mutating func write(_ direction: Direction, _ now: Instant) {
        while !discards.contains(direction) {
            let piece = direction == .toServer ? toServer.due(at: now) : toClient.due(at: now)
            guard !piece.isEmpty else { break }
            let result = direction == .toServer ? server.write(piece) : client.write(piece)
            // Nobody reads it any more, but what the receiver had sent may still be of use to the other side.
            guard let count = result else {
                discards.insert(direction)
                break
            }
            guard count > 0 else { return }
            if direction == .toServer { toServer.wrote(count, at: now) } else { toClient.wrote(count, at: now) }
            cutIfReached()
            if isStalled || isClosed { return }
        }
        if source(direction).isReadEnded, discards.contains(direction) || stream(direction).isEmpty {
            if direction == .toServer { server.endWriting() } else { client.endWriting() }
        }
    }

    // MARK: Ends

    private mutating func cutIfReached() {
        guard let cut, !wasCut, !isClosed, stream(cut.direction).forwarded >= max(cut.offset, 0) else { return }
        end(cut.ending, cut.direction)
        wasCut = true
    }

    mutating func end(_ ending: PostgresFaultProxy.Ending, _ direction: Direction) {
        guard !isClosed else { return }
        switch ending {
        case .close:
            discards = [.toServer, .toClient]
            client.endWriting()
            server.endWriting()
        case .reset: resetBoth()
        case .halfClose:
            discards.insert(direction)
            if direction == .toServer { server.endWriting() } else { client.endWriting() }
        case .stall: isStalled = true
        }
    }

    private mutating func resetBoth() {
        client.reset()
        server.reset()
        isClosed = true
    }

    mutating func close() {
        client.close()
        server.close()
        isClosed = true
    }

    // MARK: Which is which

    private func stream(_ direction: Direction) -> PacedBytes { direction == .toServer ? toServer : toClient }
    private func source(_ direction: Direction) -> RelaySocket { direction == .toServer ? client : server }
    private func sink(_ direction: Direction) -> RelaySocket { direction == .toServer ? server : client }
}
