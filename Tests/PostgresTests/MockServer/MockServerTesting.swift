import Glibc
import Testing

@testable import Postgres
@testable import PostgresTesting

typealias Step = PostgresMockServer.Step
typealias Message = PostgresMockServer.Message
typealias FrontendMessage = PostgresMockServer.FrontendMessage
typealias Gate = PostgresMockServer.Gate

extension PostgresMockServer {
    /// A configuration that reaches this server.
    func configuration(
        password: String? = nil, _ change: (inout PostgresConfiguration) -> Void = { _ in }
    ) -> PostgresConfiguration {
        var configuration = PostgresConfiguration(
            host: socketFolder ?? "127.0.0.1", port: port, user: "mock", password: password, sslmode: .disable)
        configuration.connectTimeout = .seconds(10)
        change(&configuration)
        return configuration
    }
}

/// Connects to a server that follows these steps after a start-up without proof, runs `body`, and holds the server to its script.
func withMock(
    _ steps: [Step], mayEndEarly: Bool = false, configure: (inout PostgresConfiguration) -> Void = { _ in },
    _ body: (PostgresConnection, PostgresMockServer) async throws -> Void
) async throws {
    let server = try PostgresMockServer(script: [.acceptTrust()] + steps)
    do {
        let db = try await PostgresConnection.connect(server.configuration(configure))
        try await body(db, server)
        db.close()
    } catch {
        await server.stop()
        throw error
    }
    // A client that refuses a message by its header does not wait for the rest of it.
    if mayEndEarly { await server.stop() } else { try await server.finish() }
}

/// The error of an operation; an issue if there is none.
func failure<Result>(
    _ sourceLocation: SourceLocation = #_sourceLocation, of operation: () async throws -> Result
) async -> PostgresError? {
    do {
        let result = try await operation()
        Issue.record("no error, but \(result)", sourceLocation: sourceLocation)
    } catch let error as PostgresError {
        return error
    } catch {
        Issue.record("an error of another type: \(error)", sourceLocation: sourceLocation)
    }
    return nil
}

/// The kinds of a first execution, and of those that follow it.
let firstExecution: [FrontendMessage.Kind] = [.parse, .describe, .bind, .execute, .sync]
let nextExecution: [FrontendMessage.Kind] = [.bind, .execute, .sync]

extension Step {
    /// Answers one execution of `SELECT ... AS n`, with an int4 in binary.
    static func answer(_ number: Int32) -> Step {
        .steps([.expect(firstExecution), .send(Message.reply(columns: [.int4], rows: [[number.bytes]]))])
    }

    /// Answers an execution of a statement that is known by now.
    static func answerAgain(_ number: Int32) -> Step {
        .steps([.expect(nextExecution), .send(Message.boundReply(rows: [[number.bytes]]))])
    }
}

extension Message.Column {
    static let int4 = Message.Column("n", type: 23)
}

extension Int32 {
    /// In network byte order.
    var bytes: [UInt8] { withUnsafeBytes(of: bigEndian, Array.init) }
}

extension PostgresConfiguration {
    /// Whether a caller that is alone reads its own reply; off, every query suspends and the loop reads.
    var callersMayRead: Bool {
        get { callerReadsBelowLatency > .zero }
        set { callerReadsBelowLatency = newValue ? .microseconds(200) : .zero }
    }
}

extension PostgresConnection {
    /// The statement that the scripts answer.
    func number() async throws(PostgresError) -> Int32 { try await query("SELECT 1 AS n", as: Int32.self).one() }
}

/// Runs the statement that the scripts answer.
func expectNumber(
    _ expected: Int32, _ db: PostgresConnection, _ sourceLocation: SourceLocation = #_sourceLocation
) async throws {
    let number = try await db.number()
    #expect(number == expected, sourceLocation: sourceLocation)
}

/// How many sockets of this process are connected to this port of this machine: those of a client, not those of the mock.
func openSockets(toPort port: Int) -> Int {
    guard let folder = opendir("/proc/self/fd") else { return -1 }
    defer { closedir(folder) }
    var count = 0
    while let entry = readdir(folder) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        guard let descriptor = Int32(name) else { continue }
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isConnected = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &size) == 0 }
        }
        if isConnected, Int(UInt16(bigEndian: address.sin_port)) == port { count += 1 }
    }
    return count
}

/// Waits until a condition holds; an issue if it never does, so that no test spins for ever.
func eventually(
    _ sourceLocation: SourceLocation = #_sourceLocation, _ condition: () -> Bool
) async {
    let deadline = ContinuousClock.now + .seconds(50)
    while !condition() {
        if ContinuousClock.now > deadline {
            Issue.record("the condition never came true", sourceLocation: sourceLocation)
            return
        }
        await Task.yield()
    }
}
