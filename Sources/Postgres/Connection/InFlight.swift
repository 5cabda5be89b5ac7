import PostgresProtocol
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A request in the queue, and who waits for it.
struct InFlight: Sendable {
    var request: Request
    var formats: ResultFormats
    /// How many bytes had been written to this connection before it: so it is known whether anything of it was sent.
    var startOffset: Int
    var waiter = Waiter.unclaimed
    var collector = Collector.none

    enum Waiter: Sendable {
        /// Nobody waits yet: the caller reads for itself, or is about to suspend.
        case unclaimed
        /// Cancelled before its caller suspended.
        case cancelled
        case continuation(UnsafeContinuation<Reply, Never>)
        case thread(BlockedThread)
        /// Nobody wants the reply any more; it is read and thrown away.
        case abandoned
        /// The same, because its deadline has passed: see `ConnectionCore+Overdue`.
        case overdue

        /// Whether somebody has suspended for the reply.
        var isWaiting: Bool {
            switch self {
            case .continuation, .thread: true
            case .unclaimed, .cancelled, .abandoned, .overdue: false
            }
        }

        /// Whether somebody waits, or is about to.
        var isUnanswered: Bool {
            if case .unclaimed = self { true } else { isWaiting }
        }

        /// Whether a task waits, and this is it, and it was cancelled. A thread of the blocking API waits in any case.
        var isCancelledTask: Bool {
            if case .continuation = self { Task.isCancelled } else { false }
        }
    }

    enum Collector: Sendable {
        case none
        case flight(Flight)
        case stream(RowStream)
        /// The reset of a pooled session, ahead of its next user's first request.
        case reset
    }
}

/// Several requests that are one element of the queue: a pipeline, or a script. Its caller is woken once.
///
/// Safe to share: made by the caller before it is queued, changed by the holder of the reader role while it is in flight, and
/// read by the caller after it was woken, or under the lock while nobody reads; the connection's lock lies between.
final class Flight: @unchecked Sendable {
    struct Item: Sendable {
        let request: Request
        let formats: ResultFormats
    }

    private(set) var items: [Item]
    private(set) var index = 0
    var replies: [Reply] = []
    /// Of a piece of a pipeline: its request in the queue. Set before it is there.
    var number = Int.max
    /// The first piece of the same pipeline; nil if this is it.
    var firstPiece: Flight?
    /// Of the first piece: the group that it begins has no end yet. Used under the connection's lock only.
    var isUnfinished = false

    init(_ items: [Item]) {
        self.items = items
        replies.reserveCapacity(items.count)
    }

    /// The only request of a script or the like, known when it is encoded.
    func begin(_ request: Request, _ formats: ResultFormats) { items = [Item(request: request, formats: formats)] }

    /// The connection is gone: everything that has no reply yet gets this one.
    func fail(_ reason: PostgresError, _ outcome: PostgresError.Outcome) {
        while replies.count < items.count { replies.append(Reply(error: reason.with(outcome: outcome))) }
    }

    /// The request whose reply comes next; nil when all are done.
    func advance() -> Item? {
        index &+= 1
        return index < items.count ? items[index] : nil
    }
}

/// A thread of the blocking API that waits for a reply which another thread reads.
///
/// Safe to share: `reply` is written once before `post` and read once after `wait`.
final class BlockedThread: @unchecked Sendable {
    private let semaphore: UnsafeMutablePointer<sem_t>
    private var reply: Reply?

    init() {
        semaphore = .allocate(capacity: 1)
        sem_init(semaphore, 0, 0)
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func resume(returning reply: Reply) {
        self.reply = reply
        sem_post(semaphore)
    }

    func wait() -> Reply {
        while sem_wait(semaphore) != 0 {}
        return reply ?? Reply(error: .internalFailure("a thread was woken without a reply"))
    }
}

extension PostgresError {
    /// What the library believes cannot happen; reported, never trapped on.
    static func internalFailure(_ what: String) -> PostgresError {
        PostgresError(code: .brokenProtocol, message: "internal: \(what)", outcome: .unknown)
    }
}
