import Glibc
import Testing

@testable import PostgresTransport

@Suite(.timeLimit(.minutes(1))) struct ConnectorTests {
    private let soon = Deadline(after: .milliseconds(60))
    private let later = Deadline(after: .seconds(30))

    private func path(_ name: String) -> String { "/tmp/postgres-transport-\(getpid())-\(name)" }

    @Test func connectsOverTCPAndUnixSockets() async throws {
        for listener in [try Listener(), try Listener(unixPath: path("connects"))] {
            let socket = try await Connector.connect(to: listener.endpoint, deadline: later)
            #expect(socket.peerDescription == listener.endpoint.description)
            let peer = try listener.acceptOne()
            defer { close(peer) }
            #expect(try socket.send([1, 2]) == 2)
            var buffer = [UInt8](repeating: 0, count: 2)
            #expect(recv(peer, &buffer, 2, Int32(MSG_WAITALL)) == 2)
            #expect(buffer == [1, 2])
            // A second connection to the very same address.
            let second = try await Connector.connect(to: socket.remoteAddress, deadline: later)
            #expect(second.remoteAddress == socket.remoteAddress)
        }
    }

    @Test func aRefusedPortNamesTheAddressAndTheReason() async throws {
        let address = try Listener.refusedAddress()
        let error = await #expect(throws: TransportError.self) {
            try await Connector.connect(to: .tcp(host: "127.0.0.1", port: address.port), deadline: later)
        }
        #expect(error == .connect([ConnectAttempt(address: address, errno: ECONNREFUSED)]))
    }

    @Test func aMissingUnixSocketIsNamed() async throws {
        let error = await #expect(throws: TransportError.self) {
            try await Connector.connect(to: .unix(path: "/nonexistent/socket"), deadline: later)
        }
        #expect(error?.description == "could not connect: /nonexistent/socket: No such file or directory")
    }

    @Test(arguments: [
        Endpoint.unix(path: String(repeating: "x", count: 200)), .unix(path: ""), .unix(path: "/a\0b"),
        .tcp(host: "", port: 1), .tcp(host: "a\0b", port: 1),
    ])
    func invalidEndpointsAreRefused(_ endpoint: Endpoint) async {
        let error = await #expect(throws: TransportError.self) {
            try await Connector.connect(to: endpoint, deadline: later)
        }
        guard case .invalidAddress = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func aNameThatCannotExistIsAResolveError() async {
        let error = await #expect(throws: TransportError.self) {
            // A label longer than 63 bytes: refused without asking a name server.
            try await Connector.connect(
                to: .tcp(host: String(repeating: "a", count: 70), port: 1), deadline: later)
        }
        guard case .resolve(let host, let message) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(host.count == 70)
        #expect(!message.isEmpty)
    }

    @Test func namesAreLookedUp() async throws {
        let listener = try Listener()
        let socket = try await Connector.connect(
            to: .tcp(host: "localhost", port: listener.address.port), deadline: later)
        #expect(socket.remoteAddress == listener.address)
    }

    @Test func everyAddressOfANameIsTried() async throws {
        let refused = [try Listener.refusedAddress(), try SocketAddress(unixPath: "/nonexistent/socket")]
        let listener = try Listener()
        let socket = try await Connector.connect(
            to: refused + [listener.address], options: SocketOptions(), deadline: later, loop: .shared, what: "test")
        #expect(socket.remoteAddress == listener.address)

        let error = await #expect(throws: TransportError.self) {
            try await Connector.connect(
                to: refused, options: SocketOptions(), deadline: later, loop: .shared, what: "test")
        }
        #expect(
            error
                == .connect([
                    ConnectAttempt(address: refused[0], errno: ECONNREFUSED),
                    ConnectAttempt(address: refused[1], errno: ENOENT),
                ]))
    }

    @Test func aListenerThatDoesNotAnswerTimesOut() async throws {
        let (listener, filling) = try Listener.full()
        let error = await #expect(throws: TransportError.self) {
            try await Connector.connect(to: listener.endpoint, deadline: soon)
        }
        #expect(
            error
                == .timedOut(
                    what: "connecting to \(listener.address) (\(listener.address): Connection timed out)"))
        _ = filling
    }

    @Test func anAddressThatDoesNotAnswerLeavesTimeForTheNext() async throws {
        let (silent, filling) = try Listener.full()
        let listener = try Listener()
        // The silent one gets a fortieth, half a second; what is left is ample on the busiest machine.
        let addresses = [silent.address] + Array(repeating: listener.address, count: 39)
        let socket = try await Connector.connect(
            to: addresses, options: SocketOptions(), deadline: Deadline(after: .seconds(20)), loop: .shared,
            what: "test")
        #expect(socket.remoteAddress == listener.address)
        _ = filling
    }

    @Test func aUnixListenerWithAFullQueueIsWaitedFor() async throws {
        let listener = try Listener(unixPath: path("full"), backlog: 0)
        let first = try await Connector.connect(to: listener.endpoint, deadline: later)
        let error = await #expect(throws: TransportError.self) {
            try await Connector.connect(to: listener.endpoint, deadline: soon)
        }
        guard case .timedOut = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        async let second = Connector.connect(to: listener.endpoint, deadline: later)
        // Not on this thread: it is one of the pool's, and the second connection may need it.
        let peer = try await BackgroundThread.run {
            Result {
                close(try listener.acceptOne())
                return try listener.acceptOne()
            }
        }.get()
        defer { close(peer) }
        #expect(try await second.remoteAddress == first.remoteAddress)
    }

    @Test func connectingCanBeCancelled() async throws {
        let (listener, filling) = try Listener.full()
        let task = Task { () async -> TransportError? in
            do throws(TransportError) {
                _ = try await Connector.connect(to: listener.endpoint, deadline: .never)
                return nil
            } catch {
                return error
            }
        }
        task.cancel()
        #expect(await task.value == .cancelled)
        _ = filling
    }

    /// Other tests open descriptors of their own meanwhile, but not hundreds.
    @Test func failedConnectionsLeaveNoDescriptor() async throws {
        let refused = try Listener.refusedAddress()
        let (full, filling) = try Listener.full()
        let before = try openDescriptors()
        for _ in 0..<500 {
            await #expect(throws: TransportError.self) {
                try await Connector.connect(to: .tcp(host: "127.0.0.1", port: refused.port), deadline: later)
            }
            await #expect(throws: TransportError.self) {
                try await Connector.connect(to: .unix(path: "/nonexistent/socket"), deadline: later)
            }
            await #expect(throws: TransportError.self) {
                try await Connector.connect(to: full.endpoint, deadline: Deadline(after: .microseconds(100)))
            }
            let cancelled = Task {
                _ = try? await Connector.connect(to: full.endpoint, deadline: .never)
            }
            cancelled.cancel()
            await cancelled.value
        }
        #expect(try openDescriptors() - before < 250)
        _ = filling
    }

    private func openDescriptors() throws -> Int {
        guard let folder = opendir("/proc/self/fd") else { throw TestFailure("opendir") }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return count
    }
}
