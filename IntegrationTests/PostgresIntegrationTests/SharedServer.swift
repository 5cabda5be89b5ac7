import Foundation
import Glibc
import Postgres
import PostgresTesting
import Testing

/// A connection to the server that all tests of the process share. A busy machine is no reason for it to give up.
func connect(
    over address: PostgresEphemeralServer.Address = .unixSocket,
    _ change: (inout PostgresConfiguration) -> Void = { _ in }
) async throws -> PostgresConnection {
    let server = try await PostgresEphemeralServer.shared()
    var configuration = try PostgresConfiguration(url: server.connectionURL(over: address))
    configuration.cancelTimeout = .seconds(50)
    change(&configuration)
    return try await PostgresConnection.connect(configuration)
}

/// The error of an operation; an issue if there is none, or if it is of another type.
@discardableResult
func failure<Value>(
    _ sourceLocation: SourceLocation = #_sourceLocation, of operation: () async throws -> Value
) async -> PostgresError? {
    do {
        let value = try await operation()
        Issue.record("no error, but \(value)", sourceLocation: sourceLocation)
    } catch let error as PostgresError {
        return error
    } catch {
        Issue.record("an error of another type: \(error)", sourceLocation: sourceLocation)
    }
    return nil
}

/// That the connection still works, and is in step.
func expectUsable(_ db: PostgresConnection, _ sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let token = Int.random(in: 0...Int.max)
    let got = try await db.query("SELECT \(token)::int8", as: Int.self).one()
    #expect(got == token, sourceLocation: sourceLocation)
}

/// The extension, once: two sessions that create it together meet in a unique index of the catalog, IF NOT EXISTS or not.
func createCitext(_ db: PostgresConnection) async throws {
    try await db.script(
        """
        BEGIN;
        SELECT pg_advisory_xact_lock(7779);
        CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
        COMMIT
        """)
}

/// A name that no other test of the shared server uses.
func uniqueName(_ prefix: String) -> String { "\(prefix)_\(UInt64.random(in: 0...UInt64.max))" }

/// Asks until the answer is yes, for what another process does in its own time.
func eventually(
    within limit: Duration = .seconds(20), _ what: Comment, _ sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async rethrows {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            Issue.record(what, sourceLocation: sourceLocation)
            return
        }
        try? await Task.sleep(for: .milliseconds(10))
    }
}

/// Waits until the server is inside of `pg_sleep` for a connection.
func untilSleeping(_ processID: Int32?) async throws {
    let pid = try #require(processID)
    let other = try await connect()
    defer { other.close() }
    try await eventually("sleeping") {
        try await other.query(
            "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = \(pid)", as: String.self
        ).one() == "PgSleep"
    }
}

func untilSleeping(_ db: PostgresConnection) async throws { try await untilSleeping(db.backendProcessID) }

/// How many sockets of this process lead to this port of this machine.
func openSockets(toPort port: Int) -> Int {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
    return names.compactMap { Int32($0) }.filter { descriptor in
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isConnected = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &size) == 0 }
        }
        return isConnected && address.sin_family == sa_family_t(AF_INET)
            && Int(UInt16(bigEndian: address.sin_port)) == port
    }.count
}
