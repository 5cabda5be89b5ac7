import PostgresTransport
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Exclusive use: between `lease` and `endLease` nobody else's requests get into the queue.
///
/// A transaction, a COPY or a cursor is more than one request, and what comes between them from another task would become part
/// of it. What was queued before stays before it, and is not waited for. Other tasks wait as they do when the queue is full.
extension ConnectionCore {
    /// Waits until nobody else has the connection for itself.
    ///
    /// - Returns: the number to pass as `writer` with each request, and to `endLease`.
    nonisolated(nonsending) func lease() async throws(PostgresError) -> Int {
        let number = nextWriter()
        if try takeLease(number) { return number }
        let deadline = waitLimits().deadline
        while true {
            if Task.isCancelled { throw .cancelled(.notSent) }
            if try takeLease(number) { return number }
            try await waitForRoom(until: deadline)
        }
    }

    func leaseBlocking() throws(PostgresError) -> Int {
        let number = nextWriter()
        let deadline = waitLimits().deadline
        while try !takeLease(number) { try waitForRoomBlocking(until: deadline) }
        return number
    }

    private func takeLease(_ number: Int) throws(PostgresError) -> Bool {
        try state.withLock { state throws(PostgresError) in
            if let closed = state.closed { throw closed.with(outcome: .notSent) }
            guard state.exclusiveWriter == nil else { return false }
            state.exclusiveWriter = number
            return true
        }
    }

    /// Hands a lease on to another number: requests that still come with the old one are refused.
    ///
    /// - Returns: false if the lease was not `old`'s.
    func moveLease(from old: Int, to new: Int) -> Bool {
        let woken = state.withLock { state -> [ConnectionState.RoomWaiter]? in
            // While a statement of the lease is being cancelled, the lease is set aside.
            if let gate = state.cancelGate, gate.lease == old {
                state.cancelGate?.lease = new
                return []
            }
            guard state.exclusiveWriter == old else { return nil }
            state.exclusiveWriter = new
            return state.takeRoomWaiters()
        }
        if let woken { wake(woken) }
        return woken != nil
    }

    func endLease(_ number: Int) {
        let woken = state.withLock { state -> [ConnectionState.RoomWaiter] in
            // While a statement of the lease is being cancelled, the lease is set aside.
            if state.cancelGate?.lease == number { state.cancelGate?.lease = nil }
            guard state.exclusiveWriter == number else { return [] }
            state.exclusiveWriter = nil
            return state.takeRoomWaiters()
        }
        wake(woken)
    }

    /// Why a caller may not write: it has to wait, or never may.
    func refuse(_ state: inout ConnectionState, _ writer: Int?) throws(PostgresError) -> Begun {
        if let closed = state.closed { throw closed.with(outcome: .notSent) }
        if let writer, state.exclusiveWriter != writer, state.cancelGate?.lease != writer { throw .leaseEnded }
        return .noRoom
    }

    /// A task that holds the lease would wait for itself.
    func refuseToWaitForItself(as writer: Int?) throws(PostgresError) {
        // While a statement of the lease is being cancelled, the lease is set aside.
        let (holder, user) = state.withLock { ($0.cancelGate?.lease ?? $0.exclusiveWriter, $0.leaseUser) }
        guard let holder, holder != writer else { return }
        if let own = OwnTransaction.current, own.holds(holder, of: self) {
            throw .wouldWaitForItself(
                "inside the body of its own transaction", hint: "use the transaction that the body is given")
        }
        guard let user, user.lease == holder, user.caller == Caller.current else { return }
        throw .wouldWaitForItself(user.use.place, hint: user.use.hint)
    }

    /// Whoever calls is in the midst of something that has the connection for itself, and would wait for its end in vain.
    func noteUser(of lease: Int, _ use: LeaseUser.Use) {
        let caller = Caller.current
        state.withLock { $0.leaseUser = LeaseUser(lease: lease, use: use, caller: caller) }
    }

    /// Nobody uses it any more, and its end is about to be sent: it ends by itself, and whoever comes waits for that.
    func noteLeaving(_ lease: Int) {
        state.withLock { state in
            if state.leaseUser?.lease == lease { state.leaseUser = nil }
            state.endingLease = lease
        }
    }
}

/// Who has the connection for itself, beside transactions, which know their tasks: see `OwnTransaction`.
struct LeaseUser: Sendable {
    enum Use: Sendable {
        case cursor
        case copy

        var place: String {
            switch self {
            case .cursor: "inside the loop over its own cursor"
            case .copy: "inside the body of its own COPY"
            }
        }

        var hint: String {
            switch self {
            case .cursor: "use another connection, a cursor with hold, or a cursor of a transaction"
            case .copy: "use another connection"
            }
        }
    }

    let lease: Int
    let use: Use
    let caller: Caller
}

/// A task, or a thread that runs none.
///
/// A task is known by its address, which another may have when it has ended; so whatever is noted of a task is forgotten no later
/// than with it: a COPY's body runs in its task, and a cursor ends with its iterator. A thread has a number that is its own for good.
enum Caller: Sendable, Equatable {
    case task(Int)
    case thread(Int)

    static var current: Caller {
        guard let task = currentTask else { return .thread(threadNumber) }
        if let lent = lent.get(), lent.task == task { return lent.caller }
        return .task(task)
    }

    private static let lastThread = Atomic<Int>(0)
    /// Where each thread keeps its number; nil if the system has no place for one.
    private static let place: pthread_key_t? = {
        var key = pthread_key_t()
        return pthread_key_create(&key, nil) == 0 ? key : nil
    }()

    private static var threadNumber: Int {
        guard let place else { return pthread_self().hashValue }
        if let number = pthread_getspecific(place) { return Int(bitPattern: number) }
        let number = lastThread.add(1, ordering: .relaxed).newValue
        pthread_setspecific(place, UnsafeRawPointer(bitPattern: number))
        return number
    }

    private static var currentTask: Int? { withUnsafeCurrentTask { $0?.hashValue } }

    /// For whom the current task does its work; not so the tasks that it makes.
    private struct Lent: Sendable {
        let task: Int
        let caller: Caller
    }

    private static let lent = TaskLocal<Lent?>(wrappedValue: nil)

    /// Runs a body as if it were this caller who does so: it waits for the current task.
    func lend(_ body: () async -> Void) async {
        guard let task = Caller.currentTask else { return await body() }
        await Caller.lent.withValue(Lent(task: task, caller: self), operation: body)
    }
}

extension PostgresError {
    static var leaseEnded: PostgresError {
        PostgresError(
            code: .transactionEnded,
            message: "the transaction, or whatever had the connection for itself, has ended")
    }

    fileprivate static func wouldWaitForItself(_ place: String, hint: String) -> PostgresError {
        PostgresError(
            code: .unsupported,
            message: "a statement on the connection itself, \(place), would wait for ever", hint: hint)
    }
}
