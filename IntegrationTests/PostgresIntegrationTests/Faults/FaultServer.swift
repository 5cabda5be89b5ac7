import Foundation
import Glibc
import Postgres
import PostgresTesting
import Synchronization
import Testing

/// The server behind the fault proxies, with the table that the sessions write.
struct FaultServer: Sendable {
    let server: PostgresEphemeralServer
    private let keys: KeySource

    static let shared = Task {
        var options = PostgresEphemeralServer.Options()
        options.tls = try .generated()
        options.roles = [.init("scram", password: "secret"), .init("plain", attributes: ["LOGIN", "SUPERUSER"])]
        options.hbaRules = [
            .hostssl(user: "plain", method: "trust"), .hostnossl(user: "scram", method: "scram-sha-256"),
            .hostnossl(user: "plain", method: "trust"),
        ]
        options.maxConnections = 300
        let server = try await PostgresEphemeralServer.start(options)
        try await server.runSQL("CREATE TABLE faults (key int8 PRIMARY KEY, n int8 NOT NULL)")
        return FaultServer(server: server, keys: KeySource())
    }

    /// As many digits each: the length of a script does not depend on the run.
    private final class KeySource: Sendable {
        let next = Mutex(Int64(1_000_000_000_000))
    }

    func newKeys(_ count: Int64) -> Int64 {
        keys.next.withLock { next in
            defer { next += count }
            return next
        }
    }

    func configuration(_ session: FaultSession, port: Int) throws -> PostgresConfiguration {
        var configuration = PostgresConfiguration(
            host: "127.0.0.1", port: port, user: session.usesSCRAM ? "scram" : "plain",
            password: session.usesSCRAM ? "secret" : nil, database: "postgres",
            sslmode: session.usesTLS ? .verifyFull : .disable)
        if session.usesTLS { configuration.sslrootcert = server.rootCertificateFile }
        // A session whose client is gone is not to sleep on.
        if session.cancels { configuration.parameters["client_connection_check_interval"] = "100" }
        return configuration
    }

    /// A connection that no proxy is in the way of.
    func connect() async throws -> PostgresConnection {
        let plain = FaultSession(name: "")
        return try await PostgresConnection.connect(configuration(plain, port: server.port))
    }
}

/// What the environment says of the extent of these tests.
enum FaultPlan {
    /// `POSTGRES_FAULTS=all`: every offset.
    static let isComplete = ProcessInfo.processInfo.environment["POSTGRES_FAULTS"] == "all"
    /// `POSTGRES_FAULTS_SEED` repeats a run.
    static let seed =
        ProcessInfo.processInfo.environment["POSTGRES_FAULTS_SEED"].flatMap { UInt64($0) }
        ?? UInt64.random(in: 0...UInt64(UInt32.max))
}

/// The answer of `work`, or nil if it takes longer than `limit`; then it is left to itself.
func bounded<Value: Sendable>(
    by limit: Duration, _ work: @escaping @Sendable () async -> Value
) async -> Value? {
    let first = FirstAnswer<Value>()
    return await withCheckedContinuation { continuation in
        first.continuation.withLock { $0 = continuation }
        let timer = Task {
            try await Task.sleep(for: limit)
            first.resume(nil)
        }
        Task {
            let value = await work()
            first.resume(value)
            timer.cancel()
        }
    }
}

private final class FirstAnswer<Value: Sendable>: Sendable {
    let continuation = Mutex<CheckedContinuation<Value?, Never>?>(nil)

    func resume(_ value: Value?) {
        let waiting = continuation.withLock { continuation in
            defer { continuation = nil }
            return continuation
        }
        waiting?.resume(returning: value)
    }
}

/// TCP sockets of this process that lead to one of these ports, or to nobody any more: those of a connection that broke and was
/// not closed.
func strandedSockets(toPorts ports: Set<Int>) -> Int {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
    return names.compactMap { Int32($0) }.filter { descriptor in
        var information = [UInt8](repeating: 0, count: 256)
        var length = socklen_t(information.count)
        guard getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &information, &length) == 0, length > 0 else {
            return false
        }
        // tcpi_state is the first byte; 7 is TCP_CLOSE.
        if information[0] == 7 { return true }
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isConnected = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &size) == 0 }
        }
        return isConnected && address.sin_family == sa_family_t(AF_INET)
            && ports.contains(Int(UInt16(bigEndian: address.sin_port)))
    }.count
}
