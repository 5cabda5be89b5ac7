import CPostgresSystem
import Glibc
import PostgresTransport
import Synchronization

extension PostgresMockServer {
    /// Lets a script and a test wait for each other, so that no test has to sleep. It opens once, and stays open.
    public final class Gate: Sendable {
        private struct State {
            var isOpen = false
            var waiting: [CheckedContinuation<Void, Never>] = []
        }

        private let state = Lock(State())
        /// Readable once the gate is open, for a script that waits for it and for the server's end at once.
        let descriptor = eventfd(0, postgres_EFD_FLAGS)

        /// A closed gate.
        public init() {}

        deinit { if descriptor >= 0 { Glibc.close(descriptor) } }

        /// Whether `open()` was called.
        public var isOpen: Bool { state.withLock { $0.isOpen } }

        /// Lets through whoever waits, and everybody after; a gate is not closed again.
        public func open() {
            let waiting = state.withLock { state in
                state.isOpen = true
                defer { state.waiting = [] }
                return state.waiting
            }
            var one: UInt64 = 1
            _ = write(descriptor, &one, 8)
            for continuation in waiting { continuation.resume() }
        }

        /// Waits until it is open.
        public func opened() async {
            await withCheckedContinuation { continuation in
                let isOpen = state.withLock { state in
                    if !state.isOpen { state.waiting.append(continuation) }
                    return state.isOpen
                }
                if isOpen { continuation.resume() }
            }
        }
    }
}
