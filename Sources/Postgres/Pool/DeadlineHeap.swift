/// The earliest of many deadlines: a binary heap, in which each is not later than the two below it.
struct DeadlineHeap: Sendable {
    struct Entry: Sendable {
        let time: PoolStateMachine.Time
        let id: WaiterQueue.ID
    }

    /// In no order but the heap's.
    private(set) var entries: [Entry]

    init(_ entries: [Entry] = []) {
        self.entries = entries
        for index in (0..<entries.count / 2).reversed() { sink(index) }
    }

    var count: Int { entries.count }
    var first: Entry? { entries.first }

    /// Deadlines mostly grow with time: then this is one comparison.
    mutating func insert(_ entry: Entry) {
        entries.append(entry)
        var index = entries.count - 1
        while index > 0 {
            let above = (index - 1) / 2
            guard entries[index].time < entries[above].time else { return }
            entries.swapAt(index, above)
            index = above
        }
    }

    mutating func removeFirst() {
        guard let last = entries.popLast(), !entries.isEmpty else { return }
        entries[0] = last
        sink(0)
    }

    private mutating func sink(_ start: Int) {
        var index = start
        while true {
            var earliest = index
            for below in 2 * index + 1...2 * index + 2
            where below < entries.count && entries[below].time < entries[earliest].time {
                earliest = below
            }
            if earliest == index { return }
            entries.swapAt(index, earliest)
            index = earliest
        }
    }
}
