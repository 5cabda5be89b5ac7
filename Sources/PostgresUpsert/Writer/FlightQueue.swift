import Postgres

/// The rows that wait for a writer's next flight, in the order in which they came. Pure: no task, no clock, no lock.
///
/// Whoever waits for a row is known by the row's number. A row whose waiter is gone is left out of flights.
struct FlightQueue<Row: Sendable, Output: Sendable>: Sendable {
    typealias Landing = @Sendable (Result<Output?, PostgresError>) -> Void

    struct Entry: Sendable {
        let number: Int
        let row: Row
        let since: ContinuousClock.Instant
    }

    /// What to do next.
    enum Step: Sendable {
        /// Nothing waits; the pilot goes home.
        case rest
        case fly([Entry])
        /// Everything that came before this mark has landed.
        case passed(@Sendable () -> Void)
    }

    private enum Element {
        case row(Entry)
        case mark(number: Int)
    }

    private struct Waiter {
        let land: Landing
        var isFlying = false
    }

    // Taken from `first` on; what lies before it is empty and cut off from time to time.
    private var elements: [Element?] = []
    private var first = 0
    private var waiters: [Int: Waiter] = [:]
    private var marks: [Int: @Sendable () -> Void] = [:]
    private var nextNumber = 0
    private var hasPilot = false
    /// How many rows wait, those whose waiter left not counted.
    private(set) var waiting = 0
    /// How many rows are on their way.
    private(set) var flying = 0

    mutating func number() -> Int {
        nextNumber &+= 1
        return nextNumber
    }

    /// - Returns: whether a pilot is needed.
    mutating func add(_ entry: Entry, land: @escaping Landing) -> Bool {
        waiters[entry.number] = Waiter(land: land)
        elements.append(.row(entry))
        waiting &+= 1
        return callPilot()
    }

    /// A mark behind everything that waits or flies now.
    ///
    /// - Returns: whether a pilot is needed.
    mutating func mark(_ number: Int, pass: @escaping @Sendable () -> Void) -> Bool {
        marks[number] = pass
        elements.append(.mark(number: number))
        return callPilot()
    }

    private mutating func callPilot() -> Bool {
        if hasPilot { return false }
        hasPilot = true
        return true
    }

    /// Called by the pilot when nothing of its last flight is in the air.
    mutating func next(atMost limit: Int) -> Step {
        var flight: [Entry] = []
        while first < elements.count, flight.count < max(limit, 1) {
            guard let element = elements[first] else {
                first &+= 1
                continue
            }
            if case .mark(let number) = element {
                guard flight.isEmpty else { break }
                advance()
                if let pass = marks.removeValue(forKey: number) { return .passed(pass) }
            } else if case .row(let entry) = element {
                advance()
                guard waiters[entry.number] != nil else { continue }
                waiters[entry.number]?.isFlying = true
                flight.append(entry)
            }
        }
        waiting &-= flight.count
        flying &+= flight.count
        guard flight.isEmpty else { return .fly(flight) }
        hasPilot = false
        return .rest
    }

    private mutating func advance() {
        elements[first] = nil
        first &+= 1
        if first == elements.count {
            elements.removeAll(keepingCapacity: first <= 4096)
            first = 0
        } else if first >= 1024, first &* 2 >= elements.count {
            elements.removeFirst(first)
            first = 0
        }
    }

    /// These rows of the flight wait again, before all others and in this order.
    mutating func postpone(_ entries: [Entry]) {
        flying &-= entries.count
        // Those whose waiter left meanwhile are not sent at all.
        let wanted = entries.filter { waiters[$0.number] != nil }
        for entry in wanted { waiters[entry.number]?.isFlying = false }
        waiting &+= wanted.count
        elements.replaceSubrange(0..<first, with: wanted.map { .row($0) })
        first = 0
    }

    /// The row has landed; its waiter, if it still waits.
    mutating func land(_ number: Int) -> Landing? {
        flying &-= 1
        return waiters.removeValue(forKey: number)?.land
    }

    /// Whoever waits for the row leaves.
    ///
    /// - Returns: how to tell it, and whether the row may have been sent; nil if it has landed.
    mutating func leave(_ number: Int) -> (land: Landing, isFlying: Bool)? {
        guard let waiter = waiters.removeValue(forKey: number) else { return nil }
        if !waiter.isFlying { waiting &-= 1 }
        return (waiter.land, waiter.isFlying)
    }

    /// Whoever waits for the mark leaves.
    mutating func leaveMark(_ number: Int) -> (@Sendable () -> Void)? { marks.removeValue(forKey: number) }
}
