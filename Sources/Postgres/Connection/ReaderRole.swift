import PostgresTransport
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Who reads from the socket.
enum Reader: Sendable {
    /// The event loop: the socket is armed.
    case loop
    /// The thread of a caller, inside a bounded poll.
    case caller
    /// Nobody: nothing is in flight, and the socket is disarmed.
    case nobody
}

/// When a caller may read its own reply instead of suspending (io design, "hybrid connection").
///
/// Reading for oneself saves two thread switches, which cost more than everything else a query does on this side. It is worth
/// it while replies are fast and nobody else is on the connection; a slow server must not sit in threads of the cooperative
/// pool. So there is an estimate of the latency, hysteresis against callers that overlap, and a number of threads of the
/// process that may poll at once.
struct ReaderPolicy: Sendable {
    /// The longest that one caller polls. Shorter ones cost more in a virtual machine: the timer is programmed anew.
    static let pollMicroseconds = 5000
    /// A full socket is left to the loop so many times after a caller has waited for it in vain.
    static let sendsAfterVain = 16
    /// So many requests alone on the connection make the next one take the role from an armed loop.
    static let aloneBeforeReading = 4
    /// Reading for oneself this long without a suspension gives other tasks of the pool a turn: as long as one poll may take. A yield
    /// costs a thread switch, so every millisecond would be felt.
    static let nanosecondsBeforeYield: UInt64 = 5_000_000

    /// Above this average, callers suspend.
    var latencyLimit: UInt64 = 200_000
    /// Average time from sending to the reply, in nanoseconds, the newest weighing an eighth.
    var latency: UInt64 = 50_000
    /// Requests in a row that were alone; negative after any overlap.
    var streak = 0

    /// One outlier, as when the server's process has to wait for a processor, must not send the next dozen callers to the slower way;
    /// a server that really is slow gets above the limit within five.
    mutating func measured(_ nanoseconds: UInt64) {
        latency = (latency &* 7 &+ min(nanoseconds, latencyLimit &* 2)) / 8
    }

    /// A poll ran out.
    mutating func waitedInVain() {
        latency = min(latency &+ latencyLimit / 2, latencyLimit &* 2)
        streak = -16
    }

    mutating func overlapped() { streak = -16 }

    var isFast: Bool { latency < latencyLimit }
}

/// When the loop lets replies gather before it reads on ("read moderation" of the io design).
///
/// The server sends the reply to each Sync by itself, so that behind a deep queue the loop is woken for nearly every one: two
/// system calls and a thread switch, which cost more than the reply. A pause of a tenth of a millisecond brings a dozen at once.
/// Only replies inside a deep queue come later for it, never a lone one; large replies, which fill a read by themselves, and a
/// server that is slower than the pause are read as they come.
enum ReadPause {
    /// Replies that are owed still.
    static let deepQueue = 16
    /// A read of more than this had gathered enough.
    static let smallRead = 4096
    /// Reads without a pause after one that brought nothing.
    static let afterVain = 16
}

/// When a reader lets the blocks of a long result gather.
///
/// The server sends rows in blocks of 8 KiB (its `PQ_SEND_BUFFER_SIZE`), and each of them wakes a reader that is faster than it:
/// a thread switch that costs more than to decode the rows of a block. A pause of a tenth of a millisecond brings several at once.
/// Only in the middle of a long result: what comes in smaller pieces, or rarely, is read as it comes.
struct BlockPause {
    static let microseconds = 100
    /// So many blocks come first.
    static let blocksBefore = 8
    /// A read of less is no block: the server has no more, or sends each row by itself.
    static let block = 4096
    /// A pause that brings less than two blocks was in vain, and so many reads go without one.
    static let gathered = 16_384
    static let afterVain = 16

    /// Of a read that filled as much as this there is more at hand, and a pause would be for nothing.
    static let muchSpace = 65_536

    private var isMuch = false
    private var blocks = 0
    private var readsWithoutPause = 0
    private var isAfterPause = false

    var isDue: Bool { blocks >= BlockPause.blocksBefore && readsWithoutPause == 0 && !isMuch }

    /// Whatever came before, nothing is known of what the next result will be like.
    @inline(__always)
    mutating func resultBegins() {
        blocks = 0
        isAfterPause = false
    }

    mutating func paused() { isAfterPause = true }

    @inline(__always)
    mutating func received(_ count: Int, of space: Int) {
        if count >= BlockPause.block { return receivedBlock(count, of: space) }
        if isAfterPause { readsWithoutPause = BlockPause.afterVain }
        isAfterPause = false
        isMuch = false
        blocks = 0
    }

    @inline(never)
    private mutating func receivedBlock(_ count: Int, of space: Int) {
        isMuch = count == space && count >= BlockPause.muchSpace
        blocks = min(blocks &+ 1, BlockPause.blocksBefore)
        if readsWithoutPause > 0 { readsWithoutPause &-= 1 }
        if isAfterPause, count < BlockPause.gathered, count < space { readsWithoutPause = BlockPause.afterVain }
        isAfterPause = false
    }
}

/// How many threads of the process may sit in a bounded poll at once: half the processors, and none on a machine with one,
/// where a polling thread is the whole cooperative pool.
enum PollPermit {
    private static let inUse = Atomic<Int>(0)
    private static let limit = usableProcessorCount / 2

    @inline(__always)
    static func take() -> Bool {
        if inUse.load(ordering: .relaxed) >= limit { return false }
        if inUse.wrappingAdd(1, ordering: .acquiring).newValue <= limit { return true }
        inUse.wrappingSubtract(1, ordering: .releasing)
        return false
    }

    @inline(__always)
    static func giveBack() { inUse.wrappingSubtract(1, ordering: .releasing) }
}

@inline(__always)
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
}

extension Duration {
    /// Not negative, and at most an hour.
    var clampedNanoseconds: UInt64 {
        if self <= .zero { return 0 }
        if self >= .seconds(3600) { return 3_600_000_000_000 }
        let parts = components
        return UInt64(parts.seconds) &* 1_000_000_000 &+ UInt64(parts.attoseconds / 1_000_000_000)
    }
}
