import Glibc
import PostgresTesting

/// Whether the process exists and is not a zombie, whoever its parent is.
func isRunning(_ processID: Int32) -> Bool {
    guard let file = fopen("/proc/\(processID)/stat", "re") else { return false }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 512)
    guard fgets(&line, 512, file) != nil else { return false }
    let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    guard let state = text.split(separator: ") ").last?.first else { return false }
    return state != "Z" && state != "X"
}

/// Whether somebody listens on the port of 127.0.0.1.
func canConnect(toPort port: Int) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(truncatingIfNeeded: port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
            connect(descriptor, pointer, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
    }
}

/// Asks until the answer is yes, for at most 60 seconds.
func eventually(_ condition: () async -> Bool) async -> Bool {
    let deadline = ContinuousClock.now + .seconds(60)
    while await !condition() {
        guard ContinuousClock.now < deadline else { return false }
        try? await Task.sleep(for: .milliseconds(5))
    }
    return true
}

/// Waits until a session of somebody else runs a statement with this text.
func waitForQuery(_ text: String, on server: PostgresEphemeralServer) async throws {
    let deadline = ContinuousClock.now + .seconds(30)
    let question = """
        SELECT count(*) FROM pg_stat_activity
        WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%\(text)%'
        """
    while try await server.runSQL(question) == "0" {
        if ContinuousClock.now > deadline { throw NotInTime() }
    }
}

struct NotInTime: Error {}

/// Whether `psql` failed, and with this in its words.
func says(_ text: String, _ error: any Error) -> Bool {
    guard let failure = error as? PostgresEphemeralServer.Failure else { return false }
    return failure.code == .sqlFailed && failure.message.contains(text)
}
