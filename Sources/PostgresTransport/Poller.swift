import CPostgresSystem
import Glibc
import Synchronization

/// The loop's epoll descriptor, and the eventfd that wakes it.
///
/// Both are made on first need, and if the process is out of descriptors, asked for again the next time: until then
/// `wait` only sleeps a little, so that jobs and timers go on.
final class Poller: Sendable {
    /// The event data of the eventfd; no registration has it, since slots are counted from zero.
    static let wakeUpData = UInt64.max
    static let batch = 64

    private let opening = Lock(())
    private let epoll = Atomic<Int32>(-1)
    private let wake = Atomic<Int32>(-1)

    deinit {
        for descriptor in [epoll.load(ordering: .acquiring), wake.load(ordering: .acquiring)] where descriptor >= 0 {
            close(descriptor)
        }
    }

    func open() throws(TransportError) {
        try opening.withLock { _ throws(TransportError) in
            guard wake.load(ordering: .relaxed) < 0 else { return }
            var poll = epoll.load(ordering: .relaxed)
            if poll < 0 {
                poll = epoll_create1(postgres_EPOLL_CLOEXEC)
                guard poll >= 0 else { throw .system(call: "epoll_create1", errno: errno) }
                epoll.store(poll, ordering: .releasing)
            }
            let event = eventfd(0, postgres_EFD_FLAGS)
            guard event >= 0 else { throw .system(call: "eventfd", errno: errno) }
            // Edge-triggered: each write is one event, and nobody ever has to read the counter.
            let events = postgres_EPOLLIN | postgres_EPOLLET
            guard postgres_epoll_control(poll, EPOLL_CTL_ADD, event, events, Poller.wakeUpData) == 0 else {
                let reason = errno
                close(event)
                throw .system(call: "epoll_ctl", errno: reason)
            }
            wake.store(event, ordering: .releasing)
        }
    }

    func wakeUp() {
        let descriptor = wake.load(ordering: .acquiring)
        guard descriptor >= 0 else { return }
        var one: UInt64 = 1
        // Cannot fail but by a full counter, and then an event is already pending.
        _ = write(descriptor, &one, MemoryLayout<UInt64>.size)
    }

    func add(_ descriptor: Int32, _ data: UInt64) throws(TransportError) {
        guard postgres_epoll_control(loadEpoll(), EPOLL_CTL_ADD, descriptor, Poller.events(of: []), data) == 0 else {
            throw .system(call: "epoll_ctl(EPOLL_CTL_ADD)", errno: errno)
        }
    }

    func modify(_ descriptor: Int32, _ interest: Interest, _ data: UInt64) {
        _ = postgres_epoll_control(loadEpoll(), EPOLL_CTL_MOD, descriptor, Poller.events(of: interest), data)
    }

    func remove(_ descriptor: Int32) {
        _ = postgres_epoll_control(loadEpoll(), EPOLL_CTL_DEL, descriptor, 0, 0)
    }

    /// - Parameter milliseconds: negative to wait without bound.
    /// - Returns: how many events there are; none after an interruption.
    func wait(_ events: UnsafeMutablePointer<epoll_event>, milliseconds: Int32) -> Int {
        guard wake.load(ordering: .acquiring) >= 0 else {
            let pause = milliseconds < 0 ? 10 : min(milliseconds, 10)
            _ = poll(nil, 0, pause)
            return 0
        }
        return max(0, Int(epoll_wait(loadEpoll(), events, Int32(Poller.batch), milliseconds)))
    }

    /// As `wait(_:milliseconds:)`, for less than a millisecond. Where the system cannot do that, it does not wait at all.
    func wait(_ events: UnsafeMutablePointer<epoll_event>, nanoseconds: Int64) -> Int {
        guard wake.load(ordering: .acquiring) >= 0 else { return 0 }
        let count = postgres_epoll_wait(loadEpoll(), events, Int32(Poller.batch), nanoseconds)
        if count < 0, errno == ENOSYS { return wait(events, milliseconds: 0) }
        return max(0, Int(count))
    }

    private func loadEpoll() -> Int32 { epoll.load(ordering: .acquiring) }

    /// epoll reports errors and hang-ups whether asked or not. Level-triggered, a dead descriptor that nobody reads would
    /// keep the loop spinning; so an empty interest is edge-triggered, and hears of it once.
    private static func events(of interest: Interest) -> UInt32 {
        // Nor would anybody hear of a peer that only closes its own side, as TCP does, until the next call.
        guard !interest.isEmpty else { return postgres_EPOLLET | postgres_EPOLLRDHUP }
        var events: UInt32 = 0
        if interest.contains(.readable) { events |= postgres_EPOLLIN }
        if interest.contains(.writable) { events |= postgres_EPOLLOUT }
        if interest.contains(.once) { events |= postgres_EPOLLONESHOT }
        return events
    }

    static func readiness(of events: UInt32) -> Readiness {
        if events & (postgres_EPOLLERR | postgres_EPOLLHUP) != 0 { return [.readable, .writable, .hangup] }
        if events & postgres_EPOLLRDHUP != 0 { return [.readable, .hangup] }
        var readiness: Readiness = []
        if events & postgres_EPOLLIN != 0 { readiness.insert(.readable) }
        if events & postgres_EPOLLOUT != 0 { readiness.insert(.writable) }
        return readiness
    }
}
