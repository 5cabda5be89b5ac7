/// What a descriptor is ready for.
package struct Readiness: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let readable = Readiness(rawValue: 1)
    package static let writable = Readiness(rawValue: 2)
    /// The connection is over in both directions, or has an error. Always together with `readable` and `writable`,
    /// so that whichever side looks next meets the failure.
    package static let hangup = Readiness(rawValue: 4)
}

/// What a registration wants to be told of.
package struct Interest: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let readable = Interest(rawValue: 1)
    package static let writable = Interest(rawValue: 2)
    /// The interest becomes empty with the first event. (Re-arming costs a system call each time; for start-up only.)
    static let once = Interest(rawValue: 4)
}

/// All methods are called on the loop's thread.
package protocol EventHandler: AnyObject, Sendable {
    /// May come late: after the interest was changed by another thread, or (``Readiness/hangup`` only, once) while it is
    /// empty. The handler checks its own state.
    func ready(_ readiness: Readiness)
    /// What ``EventLoop/scheduleTurn(_:)`` asked for.
    func turn()
    /// The pause that ``EventLoop/pause(_:)`` asked for is over.
    func pauseOver()
}

extension EventHandler {
    package func pauseOver() {}
}

/// Names one registration of one descriptor; never used again for another.
package struct Registration: Sendable, Hashable {
    let slot: UInt32
    let generation: UInt32

    init(slot: UInt32, generation: UInt32) {
        self.slot = slot
        self.generation = generation
    }

    /// What epoll hands back with each event.
    var eventData: UInt64 { UInt64(generation) << 32 | UInt64(slot) }

    init(eventData: UInt64) {
        slot = UInt32(truncatingIfNeeded: eventData)
        generation = UInt32(truncatingIfNeeded: eventData >> 32)
    }
}
