#if DEBUG
    internal import PostgresTransport
#else
    internal import Synchronization
#endif

/// `Mutex`, told to the thread sanitizer in debug builds.
///
/// What does the telling is the transport's lock: all that is taken from below `Postgres`, and not in a release build.
struct Lock<Value: ~Copyable>: ~Copyable, Sendable {
    #if DEBUG
        private let lock: PostgresTransport.Lock<Value>
        init(_ value: consuming sending Value) { lock = PostgresTransport.Lock(value) }
    #else
        private let lock: Mutex<Value>
        init(_ value: consuming sending Value) { lock = Mutex(value) }
    #endif

    borrowing func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result { try lock.withLock(body) }
}

/// What a debug build tells the thread sanitizer of continuations: see the transport's `Handover`.
enum Handover {
    static func resumes() {
        #if DEBUG
            PostgresTransport.Handover.resumes()
        #endif
    }

    static func resumed() {
        #if DEBUG
            PostgresTransport.Handover.resumed()
        #endif
    }
}
