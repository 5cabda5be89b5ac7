import Glibc
import TestTurns
import Testing

@testable import PostgresTransport

@Suite(.inTurn, .timeLimit(.minutes(1))) struct SocketTests {
    @Test func aFullBufferTakesAPartAndTheRestGoesLater() throws {
        let pair = try SocketPair(sendBufferSize: 4096)
        let message = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        var sent = 0
        var received: [UInt8] = []
        var wouldBlock = 0
        while sent < message.count {
            let count = try pair.socket.send(Array(message[sent...]))
            sent += count
            if count == 0 {
                wouldBlock += 1
                #expect(!pair.socket.waitWritable(microseconds: 0))
                received += pair.peerReads(atMost: 1 << 20)
                #expect(pair.socket.waitWritable(until: Deadline(after: .seconds(10))))
            }
        }
        while received.count < message.count { received += pair.peerReads(atMost: 1 << 20) }
        #expect(wouldBlock > 0)
        // Not in the expectation: the difference of two long arrays takes minutes.
        let isEqual = received == message
        #expect(isEqual)
    }

    @Test func bytesInThreePlacesLeaveAsOneStream() throws {
        let pair = try SocketPair(sendBufferSize: 4096)
        let message = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        var sent = 0
        var received: [UInt8] = []
        while sent < message.count {
            // Cut in another place each time: the socket's end comes in the one, in the other, and between them.
            let cut = min(sent + 1000 + received.count % 7000, message.count)
            let next = min(cut + received.count % 3000, message.count)
            let count = try message.withUnsafeBytes {
                try pair.socket.send(
                    ScatteredBytes(
                        UnsafeRawBufferPointer(rebasing: $0[sent..<cut]),
                        UnsafeRawBufferPointer(rebasing: $0[cut..<next]), UnsafeRawBufferPointer(rebasing: $0[next...])
                    ))
            }
            sent += count
            if count == 0 { received += pair.peerReads(atMost: 3000) }
        }
        while received.count < message.count { received += pair.peerReads(atMost: 1 << 20) }
        let isEqual = received == message
        #expect(isEqual)
        pair.closePeer()
        #expect(throws: TransportError.system(call: "send", errno: EPIPE)) {
            try message.withUnsafeBytes {
                try pair.socket.send(ScatteredBytes(UnsafeRawBufferPointer(rebasing: $0[..<5]), $0))
            }
        }
    }

    @Test func whatIsToBeReceivedComesBeforeWaitingToSend() throws {
        let pair = try SocketPair(sendBufferSize: 4096)
        #expect(pair.socket.waitWritableUnlessReadable(microseconds: 0))
        try pair.peerWrites([1])
        #expect(!pair.socket.waitWritableUnlessReadable(microseconds: 10_000_000), "at once, and not for that long")
        #expect(try pair.socket.receive(atMost: 10) == [1])
        #expect(pair.socket.waitWritableUnlessReadable(microseconds: 0))
        while try pair.socket.send([UInt8](repeating: 0, count: 4096)) > 0 {}
        #expect(!pair.socket.waitWritableUnlessReadable(microseconds: 0))
    }

    @Test func receiveWouldBlockWhenThereIsNothing() throws {
        let pair = try SocketPair()
        #expect(try pair.socket.receive(atMost: 10) == [])
        #expect(!pair.socket.waitReadable(microseconds: 1))
        try pair.peerWrites([1, 2, 3])
        #expect(pair.socket.waitReadable(microseconds: 1_000_000))
        #expect(try pair.socket.receive(atMost: 2) == [1, 2])
        #expect(try pair.socket.receive(atMost: 2) == [3])
        #expect(try pair.socket.receive(atMost: 2) == [])
    }

    @Test func aClosedPeerIsEndOfFileAfterItsLastBytes() throws {
        let pair = try SocketPair()
        #expect(pair.socket.waiting == .nothing)
        try pair.peerWrites([9])
        pair.closePeer()
        #expect(pair.socket.waiting == .bytes, "unread bytes come before the end")
        #expect(try pair.socket.receive(atMost: 10) == [9])
        #expect(pair.socket.waiting == .end)
        #expect(pair.socket.waitReadable(microseconds: 0), "an end is something to receive")
        #expect(throws: TransportError.endOfFile) { try pair.socket.receive(atMost: 10) }
    }

    @Test func sendingToAClosedPeerIsAnErrorAndNoSignal() throws {
        let pair = try SocketPair()
        pair.closePeer()
        #expect(throws: TransportError.system(call: "send", errno: EPIPE)) { try pair.socket.send([1]) }
    }

    @Test func aResetIsASystemError() async throws {
        let listener = try Listener()
        let socket = try await Connector.connect(to: listener.endpoint, deadline: Deadline(after: .seconds(10)))
        let peer = try listener.acceptOne()
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
        close(peer)
        #expect(socket.waitReadable(until: Deadline(after: .seconds(10))))
        #expect(socket.waiting == .end)
        // Looking took the error away; what is left is an end.
        #expect(throws: TransportError.self) { try socket.receive(atMost: 1) }
    }

    @Test func shutdownOfTheWritingSideLeavesTheReadingSide() throws {
        let pair = try SocketPair()
        pair.socket.shutdownWrite()
        #expect(pair.peerReads(atMost: 1) == [])
        try pair.peerWrites([5])
        #expect(try pair.socket.receive(atMost: 1) == [5])
    }

    @Test func shutdownWakesAThreadThatWaits() async throws {
        let pair = try SocketPair()
        let socket = pair.socket
        async let woken = BackgroundThread.run { socket.waitReadable(until: .never) }
        socket.shutdownBoth()
        #expect(await woken)
    }

    @Test func theDescriptorIsClosedExactlyOnce() throws {
        var pair: SocketPair? = try SocketPair()
        let number = try #require(pair).socket.descriptor
        let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(null) }
        #expect(fcntl(number, F_GETFD) >= 0)
        pair?.socket.close()
        // Takes the number over, unless another test was quicker.
        let heir = fcntl(null, F_DUPFD_CLOEXEC, number)
        defer { close(heir) }
        pair?.socket.close()
        pair = nil
        #expect(fcntl(heir, F_GETFD) >= 0, "the second close must not hit the new owner of the number")
    }

    @Test func deinitClosesTheDescriptor() throws {
        var ends: [Int32] = [-1, -1]
        #expect(socketpair(AF_UNIX, Int32(bitPattern: SOCK_STREAM.rawValue), 0, &ends) == 0)
        defer { close(ends[1]) }
        var socket: Socket? = Socket(
            adopting: ends[0], remoteAddress: try SocketAddress(unixPath: "/x"), loop: .shared)
        #expect(socket?.descriptor == ends[0])
        socket = nil
        var byte: UInt8 = 0
        #expect(read(ends[1], &byte, 1) == 0, "the other end sees the close")
    }

    @Test func waitingReadableEndsWithTheFirstByte() async throws {
        let pair = try SocketPair()
        async let waiting: Void = pair.socket.readable(until: .never)
        try pair.peerWrites([1])
        try await waiting
        #expect(try pair.socket.receive(atMost: 4) == [1])
        // The registration is gone, so a second wait is possible.
        pair.closePeer()
        try await pair.socket.readable(until: .never)
    }

    @Test func waitingReadableTimesOut() async throws {
        let pair = try SocketPair()
        let error = await #expect(throws: TransportError.self) {
            try await pair.socket.readable(until: Deadline(after: .milliseconds(5)))
        }
        #expect(error == .timedOut(what: "waiting for an answer from /peer"))
    }

    @Test func waitingReadableCanBeCancelled() async throws {
        let pair = try SocketPair()
        let socket = pair.socket
        let task = Task { () async -> TransportError? in
            do throws(TransportError) {
                try await socket.readable(until: .never)
                return nil
            } catch {
                return error
            }
        }
        task.cancel()
        #expect(await task.value == .cancelled)
    }

    @Test func optionsAreSet() async throws {
        let listener = try Listener()
        let options = SocketOptions(
            keepalive: .init(idle: .seconds(77), interval: .seconds(7), count: 3), tcpUserTimeout: .milliseconds(2500),
            sendBufferSize: 40_000, receiveBufferSize: 50_000)
        let socket = try await Connector.connect(
            to: listener.endpoint, options: options, deadline: Deadline(after: .seconds(10)))
        func option(_ level: Int32, _ name: Int32) -> Int32 {
            var value: Int32 = -1
            var length = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(socket.descriptor, level, name, &value, &length)
            return value
        }
        let tcp = Int32(IPPROTO_TCP)
        #expect(option(tcp, TCP_NODELAY) == 1)
        #expect(option(SOL_SOCKET, SO_KEEPALIVE) == 1)
        #expect(option(tcp, TCP_KEEPIDLE) == 77)
        #expect(option(tcp, TCP_KEEPINTVL) == 7)
        #expect(option(tcp, TCP_KEEPCNT) == 3)
        #expect(option(tcp, TCP_USER_TIMEOUT) == 2500)
        // Linux doubles what it is asked for.
        #expect(option(SOL_SOCKET, SO_SNDBUF) == 80_000)
        #expect(option(SOL_SOCKET, SO_RCVBUF) == 100_000)
        #expect(fcntl(socket.descriptor, F_GETFD) & FD_CLOEXEC != 0)
        #expect(fcntl(socket.descriptor, F_GETFL) & O_NONBLOCK != 0)
    }

    @Test func aPlainChannelCountsItsCalls() throws {
        let pair = try SocketPair()
        let channel = ByteChannel(pair.socket)
        #expect(try [UInt8](repeating: 1, count: 5).withUnsafeBytes { try channel.send($0) } == 5)
        #expect(!channel.hasUnsentBytes)
        try pair.peerWrites([1, 2, 3])
        #expect(channel.waitReadable(microseconds: 1_000_000))
        var buffer = [UInt8](repeating: 0, count: 8)
        #expect(try buffer.withUnsafeMutableBytes { try channel.receive(into: $0) } == 3)
        #expect(channel.senderCounters.sendCalls == 1)
        #expect(channel.senderCounters.bytesSent == 5)
        #expect(channel.readerCounters.receiveCalls == 1)
        #expect(channel.readerCounters.waitCalls == 1)
        #expect(channel.readerCounters.bytesReceived == 3)
        #expect(!channel.isEncrypted)
        #expect(channel.serverCertificateHash() == nil)
    }
}

@Suite struct AddressTests {
    @Test func aPathThatDoesNotFitIsRefusedBeforeAnyCall() {
        #expect(throws: Never.self) { try SocketAddress(unixPath: String(repeating: "a", count: 107)) }
        #expect(throws: TransportError.self) { try SocketAddress(unixPath: String(repeating: "a", count: 108)) }
        #expect(throws: TransportError.self) { try SocketAddress(unixPath: "") }
        #expect(throws: TransportError.self) { try SocketAddress(unixPath: "/tmp/a\0b") }
    }

    @Test(arguments: [
        ("127.0.0.1", "127.0.0.1:5432"), ("::1", "[::1]:5432"), ("0x7f.1", "127.0.0.1:5432"),
    ])
    func numericAddressesAreDescribed(_ host: String, _ description: String) async throws {
        let addresses = try await Resolver.addresses(
            of: .tcp(host: host, port: 5432), deadline: .never, loop: .shared)
        #expect(addresses.map(\.description) == [description])
    }

    @Test func aUnixPathIsDescribedByItself() throws {
        #expect(try SocketAddress(unixPath: "/run/x/.s.1").description == "/run/x/.s.1")
    }

    @Test func errorsSayWhatHappenedAndWhere() throws {
        let address = try SocketAddress(unixPath: "/run/x")
        let error = TransportError.connect([ConnectAttempt(address: address, errno: ENOENT)])
        #expect(error.description == "could not connect: /run/x: No such file or directory")
        #expect(TransportError.system(call: "send", errno: EPIPE).description == "send failed: Broken pipe")
    }
}
