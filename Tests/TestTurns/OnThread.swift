import Foundation
import PostgresTransport

/// Runs what blocks, or computes for long, on a thread of its own: those of the pool are for the tests that wait for something.
public func onThread<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    defer { Handover.resumed() }
    return try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
            let result = Result { try work() }
            Handover.resumes()
            continuation.resume(with: result)
        }
    }
}
