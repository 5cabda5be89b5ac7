import Glibc
import PostgresTransport
import Synchronization
public import Testing

/// Lets only so many tests of the process run at once, of all the suites that have this trait: those with time limits.
///
/// Swift Testing starts all tests of a process together, on a pool with as many threads as the machine has processors. With
/// hundreds of them, a test that was begun waits for its next turn for longer than its servers and time limits allow. The
/// wait for a turn counts for no time limit.
public struct InTurn: SuiteTrait, TestTrait, TestScoping {
    public var isRecursive: Bool { true }

    /// Once for each test function, around all its cases: the time limit is within, each case's own.
    public func scopeProvider(for test: Test, testCase: Test.Case?) -> InTurn? {
        testCase == nil && !test.isSuite ? self : nil
    }

    @concurrent public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        await Turns.take()
        defer { Turns.giveBack() }
        try await function()
    }
}

extension Trait where Self == InTurn {
    /// Waits until few enough of these tests run.
    public static var inTurn: Self { Self() }
}

private enum Turns {
    private struct State {
        var free = 2 * max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private static let state = Lock(State())

    static func take() async {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                if state.free == 0 {
                    state.waiting.append(continuation)
                    return false
                }
                state.free -= 1
                return true
            }
            if isFree { continuation.resume() }
        }
    }

    static func giveBack() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if state.waiting.isEmpty {
                state.free += 1
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }
}
