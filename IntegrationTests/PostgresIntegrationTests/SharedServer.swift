import Foundation
import Postgres
import PostgresTesting

/// A connection to the server that all tests of the process share.
func connect(
    over address: PostgresEphemeralServer.Address = .unixSocket,
    _ change: (inout PostgresConfiguration) -> Void = { _ in }
) async throws -> PostgresConnection {
    let server = try await PostgresEphemeralServer.shared()
    var configuration = try PostgresConfiguration(url: server.connectionURL(over: address))
    change(&configuration)
    return try await PostgresConnection.connect(configuration)
}

/// Runs blocking code on a thread of its own, away from the cooperative pool.
func onThread<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result { try work() }) }
    }
}
