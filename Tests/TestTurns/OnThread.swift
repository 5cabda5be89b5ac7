import Foundation

/// Runs what blocks, or computes for long, on a thread of its own: those of the pool are for the tests that wait for something.
public func onThread<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result { try work() }) }
    }
}
