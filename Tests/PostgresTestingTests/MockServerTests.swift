import Glibc
import TestTurns
import Testing

@testable import PostgresTesting

/// The mock server held to its own word, by a client of bare bytes.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockServerTests {
    /// A blocking client of a mock server.
    final class Client {
        private let descriptor: Int32

        init(_ server: PostgresMockServer) {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(truncatingIfNeeded: server.port).bigEndian
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            withUnsafePointer(to: &address) { pointer in
                _ = pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }

        deinit { close(descriptor) }

        func send(_ bytes: [UInt8]) { _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

        /// Everything until the server closes; nil if it resets the connection.
        func receiveAll() -> [UInt8]? {
            var all: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = recv(descriptor, &chunk, chunk.count, 0)
                if count < 0 { return nil }
                if count == 0 { return all }
                all += chunk[..<count]
            }
        }
    }

    static let startup: [UInt8] = [0, 0, 0, 16, 0, 3, 0, 0] + Array("user\0x\0\0".utf8)
    static let query: [UInt8] = [UInt8(ascii: "Q"), 0, 0, 0, 6] + Array("x\0".utf8)

    @Test func `a script that is followed is no failure`() async throws {
        let server = try PostgresMockServer(script: [.acceptTrust(), .expect(.query), .send(.readyForQuery()), .close])
        do {
            let client = Client(server)
            client.send(Self.startup + Self.query)
            let expected = (PostgresMockServer.Message.startupComplete() + [.readyForQuery()]).flatMap(\.bytes)
            #expect(client.receiveAll() == expected)
        }
        try await server.finish()
        #expect(server.messages().map(\.kind) == [.startup, .query])
        #expect(server.messages()[0].strings == ["user", "x", ""])
        #expect(server.messages()[1].strings == ["x"])
        #expect(server.bytes() == Self.startup + Self.query)
    }

    @Test(arguments: [
        (Self.startup + Self.query, "Parse was expected, Query came"),
        (Self.startup, "the client closed the connection"),
        (Self.startup + [UInt8(ascii: "?"), 0, 0, 0, 4], "unknown type"),
        ([0, 0, 0, 3, 0, 0, 0, 0], "impossible length"),
        ([0, 0, 0, 8, 0, 2, 0, 0], "unknown type"),
    ])
    func `what a client does otherwise is a failure that says so`(bytes: [UInt8], message: String) async throws {
        let server = try PostgresMockServer(script: [.expect([.startup, .parse])])
        do {
            let client = Client(server)
            client.send(bytes)
        }
        let failure = await #expect(throws: PostgresMockServer.Failure.self) { try await server.finish() }
        #expect(failure?.message.contains(message) == true)
        #expect(failure?.connection == 0)
    }

    @Test func `a message behind the last step is a failure`() async throws {
        let server = try PostgresMockServer(script: [.expect(.startup)])
        do {
            let client = Client(server)
            client.send(Self.startup + Self.query)
        }
        let failure = await #expect(throws: PostgresMockServer.Failure.self) { try await server.finish() }
        #expect(failure?.message.contains("Query came") == true)
    }

    @Test func `what does not come in time is a failure`() async throws {
        let server = try PostgresMockServer(timeout: .milliseconds(20), script: [.expect(.startup)])
        let client = Client(server)
        let failure = await #expect(throws: PostgresMockServer.Failure.self) { try await server.finish() }
        #expect(failure?.message.contains("in time") == true)
        // Reset, if the time was up before the client was let in.
        #expect((client.receiveAll() ?? []) == [])
    }

    @Test func `a connection without a script is a failure`() async throws {
        let server = try PostgresMockServer(scripts: [])
        let client = Client(server)
        #expect(client.receiveAll() == [])
        let failure = await #expect(throws: PostgresMockServer.Failure.self) { try await server.finish() }
        #expect(failure?.message.contains("no script") == true)
    }

    @Test func `reset, close and the end of one direction are told apart`() async throws {
        let server = try PostgresMockServer(scripts: [
            [.reset], [.close], [.send(bytes: [7]), .halfClose, .expect(.startup)],
        ])
        let reset = Client(server)
        let closed = Client(server)
        let half = Client(server)
        #expect(reset.receiveAll() == nil)
        #expect(closed.receiveAll() == [])
        #expect(half.receiveAll() == [7])
        half.send(Self.startup)
        await server.stop()
        #expect(server.failures.isEmpty)
    }

    @Test func `stopping ends every script where it stands`() async throws {
        let gate = PostgresMockServer.Gate()
        let server = try PostgresMockServer(scripts: [
            [.wait(for: gate)], [.delay(.seconds(1000))], [.expect(.startup)],
        ])
        let clients = (0..<3).map { _ in Client(server) }
        await server.stop()
        #expect(server.failures.isEmpty)
        for client in clients { #expect(client.receiveAll() != [1]) }
    }

    @Test func `a gate lets both sides wait`() async throws {
        let (reached, go) = (PostgresMockServer.Gate(), PostgresMockServer.Gate())
        let server = try PostgresMockServer(script: [.open(reached), .wait(for: go), .send(bytes: [1]), .close])
        let client = Client(server)
        await reached.opened()
        go.open()
        #expect(client.receiveAll() == [1])
        try await server.finish()
    }

    @Test func `a Unix socket's folder is gone when the server is`() async throws {
        var folder = ""
        do {
            let server = try PostgresMockServer(over: .unixSocket, script: [])
            folder = server.socketFolder ?? ""
            #expect(access("\(folder)/.s.PGSQL.\(server.port)", F_OK) == 0)
            await server.stop()
        }
        #expect(access(folder, F_OK) != 0)
    }
}
