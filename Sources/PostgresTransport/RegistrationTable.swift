/// Who gets the events of which registration.
///
/// A slot is used again, but with another generation: an event that the kernel had already queued for the previous
/// descriptor of that number, or that sits later in the batch being dispatched, finds no handler.
struct RegistrationTable {
    private struct Slot {
        weak var weakHandler: (any EventHandler)?
        var strongHandler: (any EventHandler)?
        var generation: UInt32 = 0
    }

    private var slots: [Slot] = []
    private var free: [UInt32] = []

    mutating func insert(_ handler: any EventHandler, holding hold: EventLoop.Hold) -> Registration {
        let slot: UInt32
        if let reused = free.popLast() {
            slot = reused
        } else {
            slot = UInt32(truncatingIfNeeded: slots.count)
            slots.append(Slot())
        }
        let index = Int(slot)
        switch hold {
        case .weak: slots[index].weakHandler = handler
        case .strong: slots[index].strongHandler = handler
        }
        return Registration(slot: slot, generation: slots[index].generation)
    }

    func handler(of registration: Registration) -> (any EventHandler)? {
        let index = Int(registration.slot)
        guard index < slots.count, slots[index].generation == registration.generation else { return nil }
        return slots[index].strongHandler ?? slots[index].weakHandler
    }

    /// - Returns: what was held, for the caller to release after it has given up its lock; nil if there was nothing.
    mutating func remove(_ registration: Registration) -> (removed: Bool, handler: (any EventHandler)?) {
        let index = Int(registration.slot)
        guard index < slots.count, slots[index].generation == registration.generation else { return (false, nil) }
        let handler = slots[index].strongHandler
        slots[index].strongHandler = nil
        slots[index].weakHandler = nil
        slots[index].generation &+= 1
        free.append(registration.slot)
        return (true, handler)
    }
}
