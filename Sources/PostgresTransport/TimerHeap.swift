extension EventLoop {
    /// One action at one time.
    ///
    /// Safe to share: `position` and `action` are touched only inside ``TimerHeap``, under the loop's lock.
    package final class Timer: @unchecked Sendable {
        fileprivate let deadline: Deadline
        fileprivate var action: (@Sendable () -> Void)?
        /// Where the heap has it; nil when it has run or was cancelled.
        fileprivate var position: Int?

        init(_ deadline: Deadline, _ action: @escaping @Sendable () -> Void) {
            self.deadline = deadline
            self.action = action
        }
    }
}

/// A binary heap whose entries know their place, so that cancelling one takes it out at once: most timers are cancelled
/// long before their time, and must not pile up until then.
struct TimerHeap {
    private var entries: [EventLoop.Timer] = []

    var earliest: Deadline? { entries.first?.deadline }
    var isEmpty: Bool { entries.isEmpty }

    mutating func insert(_ timer: EventLoop.Timer) {
        entries.append(timer)
        timer.position = entries.count - 1
        rise(entries.count - 1)
    }

    /// - Returns: the action that will not run, or nil if it has run, is about to, or was cancelled before.
    mutating func remove(_ timer: EventLoop.Timer) -> (@Sendable () -> Void)? {
        guard let position = timer.position, position < entries.count, entries[position] === timer else { return nil }
        let last = entries.count - 1
        if position != last { swap(position, last) }
        entries.removeLast()
        timer.position = nil
        if position < entries.count {
            rise(position)
            sink(position)
        }
        defer { timer.action = nil }
        return timer.action
    }

    mutating func popDue(at now: Deadline) -> (@Sendable () -> Void)? {
        guard let first = entries.first, first.deadline <= now else { return nil }
        return remove(first)
    }

    private mutating func swap(_ left: Int, _ right: Int) {
        entries.swapAt(left, right)
        entries[left].position = left
        entries[right].position = right
    }

    private mutating func rise(_ start: Int) {
        var child = start
        while child > 0 {
            let parent = (child - 1) / 2
            guard entries[child].deadline < entries[parent].deadline else { return }
            swap(child, parent)
            child = parent
        }
    }

    private mutating func sink(_ start: Int) {
        var parent = start
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < entries.count {
                if entries[child].deadline < entries[least].deadline { least = child }
            }
            guard least != parent else { return }
            swap(parent, least)
            parent = least
        }
    }
}
