import CPostgresSystem
import Glibc

// Blocking waits, on the calling thread. An end or a failure of the connection counts as ready: the next call reports it.
extension Socket {
    /// Waits without bound.
    ///
    /// - Returns: false if a signal came in between.
    package func waitReadable() -> Bool { postgres_poll(descriptor, Int16(POLLIN), -1) > 0 }

    /// - Returns: false if the time ran out, or a signal came in between.
    package func waitReadable(microseconds: Int) -> Bool {
        postgres_poll(descriptor, Int16(POLLIN), Socket.nanoseconds(microseconds)) > 0
    }

    /// - Returns: false if the time ran out, or a signal came in between.
    package func waitWritable(microseconds: Int) -> Bool {
        postgres_poll(descriptor, Int16(POLLOUT), Socket.nanoseconds(microseconds)) > 0
    }

    /// For a thread that is to receive as well, and does that first.
    ///
    /// - Returns: false if there is something to be received, the time ran out, or a signal came in between.
    package func waitWritableUnlessReadable(microseconds: Int) -> Bool {
        let found = postgres_poll(descriptor, Int16(POLLIN | POLLOUT), Socket.nanoseconds(microseconds))
        return found > 0 && found & POLLIN == 0
    }

    /// - Returns: false if the deadline passed.
    package func waitReadable(until deadline: Deadline) -> Bool { !wait(for: .readable, until: deadline).isEmpty }

    /// - Returns: false if the deadline passed.
    package func waitWritable(until deadline: Deadline) -> Bool { !wait(for: .writable, until: deadline).isEmpty }

    /// For a thread that both sends and receives: whichever is possible first.
    ///
    /// - Returns: empty if the deadline passed.
    package func wait(for interest: Interest, until deadline: Deadline) -> Readiness {
        var events: Int16 = 0
        if interest.contains(.readable) { events |= Int16(POLLIN) }
        if interest.contains(.writable) { events |= Int16(POLLOUT) }
        while true {
            let found = postgres_poll(descriptor, events, deadline.isNever ? -1 : deadline.remainingNanoseconds)
            if found == 0 { return [] }
            if found < 0 {
                if errno == EINTR { continue }
                return [.readable, .writable, .hangup]
            }
            if found & (POLLERR | POLLHUP | POLLNVAL) != 0 { return [.readable, .writable, .hangup] }
            var readiness: Readiness = []
            if found & POLLIN != 0 { readiness.insert(.readable) }
            if found & POLLOUT != 0 { readiness.insert(.writable) }
            return readiness
        }
    }

    /// At most a quarter of an hour, so that nothing overflows.
    private static func nanoseconds(_ microseconds: Int) -> Int64 {
        Int64(clamping: max(0, min(microseconds, 900_000_000))) * 1000
    }
}

// Asynchronous waits through the loop, for start-up: the descriptor must not be registered by anybody else.
extension Socket {
    package func readable(until deadline: Deadline) async throws(TransportError) {
        try await wait(for: .readable, until: deadline, "waiting for an answer from")
    }

    package func writable(until deadline: Deadline) async throws(TransportError) {
        try await wait(for: .writable, until: deadline, "sending to")
    }

    func wait(for interest: Interest, until deadline: Deadline, _ what: String) async throws(TransportError) {
        if Task.isCancelled { throw .cancelled }
        // On a loopback or Unix socket it is often so already.
        if !wait(for: interest, until: .now).isEmpty { return }
        if deadline.hasPassed { throw .timedOut(what: "\(what) \(peerDescription)") }
        let waiter = Waiter()
        let registration = try loop.register(waiter, descriptor: descriptor, holding: .strong)
        defer { loop.deregister(registration, descriptor: descriptor) }
        let timer = loop.schedule(at: deadline) { waiter.completion.finish(.failure(.timedOut(what: ""))) }
        defer { loop.cancel(timer) }
        loop.setInterest([interest, .once], of: registration, descriptor: descriptor)
        do {
            try await waiter.completion.value()
        } catch .timedOut {
            throw .timedOut(what: "\(what) \(peerDescription)")
        }
    }

    private final class Waiter: EventHandler {
        let completion = Completion<Void>()
        func ready(_ readiness: Readiness) { completion.finish(.success(())) }
        func turn() {}
    }
}
