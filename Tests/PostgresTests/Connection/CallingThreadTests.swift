import Foundation
import PostgresProtocol
import PostgresTransport
import Synchronization
import TestTurns
import Testing

@testable import Postgres

/// Asynchronous code on a thread that waits for it.
struct CallingThreadTests {
    private actor Counter {
        private(set) var count = 0
        func add() { count += 1 }
    }

    /// Suspends, and is resumed by another thread.
    private func suspend() async {
        await withCheckedContinuation { continuation in Thread.detachNewThread { continuation.resume() } }
    }

    @Test func everyPartRunsOnTheThreadThatWaits() async throws {
        try await onThread {
            let own = pthread_self()
            // Not sendable: nothing that the body captures leaves its thread.
            var threads: [pthread_t] = []
            let result = try CallingThread.wait { () async throws(PostgresError) -> Int in
                threads.append(pthread_self())
                await suspend()
                threads.append(pthread_self())
                async let child = pthread_self()
                threads.append(await child)
                await Task.yield()
                threads.append(pthread_self())
                return 7
            }
            #expect(result == 7)
            #expect(threads == [own, own, own, own])
        }
    }

    @Test func anErrorArrives() async throws {
        let code = try await onThread { () -> PostgresError.Code? in
            do throws(PostgresError) {
                try CallingThread.wait { () async throws(PostgresError) in
                    await suspend()
                    throw PostgresError(code: .rowCount, message: "own")
                }
                return nil
            } catch { return error.code }
        }
        #expect(code == .rowCount)
    }

    @Test func oneInsideOfAnother() async throws {
        let sum = try await onThread {
            try CallingThread.wait { () async throws(PostgresError) -> Int in
                await suspend()
                let inner = try CallingThread.wait { () async throws(PostgresError) -> Int in
                    await suspend()
                    return 1
                }
                return inner + 1
            }
        }
        #expect(sum == 2)
    }

    /// An actor that works on the waiting thread is not left behind when that goes.
    @Test func anActorServesOthersToo() async throws {
        let counter = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    try await onThread {
                        for _ in 0..<200 {
                            try CallingThread.wait { () async throws(PostgresError) in await counter.add() }
                        }
                    }
                }
                group.addTask { for _ in 0..<200 { await counter.add() } }
            }
            try await group.waitForAll()
        }
        let count = await counter.count
        #expect(count == 1600)
    }

    /// So that what would wait for itself is found, whichever form it has.
    @Test func theTaskActsForItsThread() async throws {
        let callers = try await onThread {
            let thread = Caller.current
            let (inside, inner, made) = try CallingThread.wait {
                () async throws(PostgresError) -> (Caller, Caller, Caller) in
                await suspend()
                let inner = try CallingThread.wait { () async throws(PostgresError) in Caller.current }
                return (Caller.current, inner, await Task { Caller.current }.value)
            }
            return (thread: thread, inside: inside, inner: inner, made: made)
        }
        #expect(callers.inside == callers.thread)
        #expect(callers.inner == callers.thread)
        // It may wait: it is nobody's who waits for it.
        #expect(callers.made != callers.thread)
    }

    @Test func onTheLoopsThreadItIsRefused() async throws {
        let code = await Task(executorPreference: EventLoop.shared) { () -> PostgresError.Code? in
            do throws(PostgresError) {
                return try Nowhere().wait { (_) async throws(PostgresError) -> PostgresError.Code? in nil }
            } catch { return error.code }
        }.value
        #expect(code == .unsupported)
    }
}

/// Reaches no server.
private struct Nowhere: PostgresBlockingExecutor, PostgresExecutor {
    var asynchronous: Nowhere { self }

    private var unreachable: PostgresError { PostgresError(code: .unsupported, message: "no server") }

    func query<Row>(_ query: PostgresQuery.Typed<Row>) throws(PostgresError) -> PostgresRows<Row> { throw unreachable }
    func execute(_ query: PostgresQuery) throws(PostgresError) -> Int { throw unreachable }
    func run(_ pipeline: PostgresPipeline) throws(PostgresError) -> PostgresPipeline.Results { throw unreachable }
}
