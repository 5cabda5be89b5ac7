#if DEBUG
    import CPostgresSystem
    import Synchronization

    /// `Mutex`, told to the thread sanitizer.
    ///
    /// A contended `Mutex` is handed from thread to thread by the kernel, inside a library that the sanitizer does not see;
    /// it would take everything the lock guards for a race. A release build has the bare `Mutex`.
    package struct Lock<Value: ~Copyable>: ~Copyable, Sendable {
        private final class Token: Sendable {}

        private let mutex: Mutex<Value>
        private let token = Token()

        package init(_ value: consuming sending Value) { mutex = Mutex(value) }

        package borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result {
            let address = Unmanaged.passUnretained(token).toOpaque()
            return try mutex.withLock { value throws(Failure) in
                postgres_tsan_acquire(address)
                defer { postgres_tsan_release(address) }
                return try body(&value)
            }
        }
    }
#else
    package import Synchronization

    package typealias Lock = Mutex
#endif
