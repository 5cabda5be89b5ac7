#if DEBUG
    import CPostgresSystem
#endif

/// What a debug build tells the thread sanitizer of continuations; nothing in a release build.
///
/// The concurrency runtime tells it that a task goes on behind what resumed it, but not where the continuation was resumed before
/// the task had come to suspend: then it takes a value that was made on another thread for a race.
package enum Handover {
    /// Before a continuation is resumed that another thread may be about to wait for.
    @inlinable @inline(__always)
    package static func resumes() {
        #if DEBUG
            release()
        #endif
    }

    /// Behind the `await` of a continuation.
    @inlinable @inline(__always)
    package static func resumed() {
        #if DEBUG
            acquire()
        #endif
    }

    #if DEBUG
        private final class Token: Sendable {}
        // Its address is a name for the sanitizer: nothing is read through it, and it lives as long as the program.
        private static let token = Token()

        @usableFromInline package static func release() {
            postgres_tsan_release(Unmanaged.passUnretained(token).toOpaque())
        }

        @usableFromInline package static func acquire() {
            postgres_tsan_acquire(Unmanaged.passUnretained(token).toOpaque())
        }
    #endif
}
