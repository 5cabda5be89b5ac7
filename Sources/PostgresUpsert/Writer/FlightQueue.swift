import Postgres

/// The rows that a writer has taken, in the order in which they came. Pure: no task, no clock, no lock.
///
/// Theory of operation. A row is *in line* while as many rows as may be are inside, then *inside*, where it is ready to fly, or stands
/// *behind* a row of the same key, then *flying*, and at last it has *ended*: it has landed, or whoever waited for it left before it
/// flew. When a row ends, the one behind it is ready, and the first in line comes inside. So a flight never holds two rows of one key,
/// each row's key is looked at once however many rows share it, and rows of one key fly in the order in which they came.
///
/// Whoever is to be told of something is put among the `signals`, which are called without the writer's lock.
struct FlightQueue<Row: Sendable, Output: Sendable>: Sendable {
    typealias Landing = @Sendable (Result<Output?, PostgresError>) -> Void
    typealias Signal = @Sendable () -> Void

    struct Entry: Sendable {
        let number: Int
        let row: Row
        /// Rows of equal keys must not fly together; nil for one that may fly with any.
        var key: [UInt8]?
        let since: ContinuousClock.Instant
    }

    /// A row that has not ended.
    private struct Guest {
        let entry: Entry
        /// The how manieth row it is.
        let order: Int
        /// Nil when nobody waits any more for a row that flies.
        var land: Landing?
        /// Told when the row comes inside.
        var enter: Signal?
        var isInside = false
        var isFlying = false
    }

    /// The rows of one key that are inside.
    private struct Chain {
        /// The one that is ready, or flies.
        var head: Int
        var isFlying = false
        var behind = Fifo<Int>()

        /// - Returns: whether another is to fly before it.
        mutating func add(_ number: Int) -> Bool {
            defer { behind.append(number) }
            return !isFlying || !behind.isEmpty
        }
    }

    /// Passed when the rows that came before it have ended.
    private struct Mark {
        let order: Int
        var remaining: Int
        let pass: Signal
    }

    private let limit: Int
    private var guests: [Int: Guest] = [:]
    private var inside = 0
    private var line = Fifo<Int>()
    private var ready = Fifo<Int>()
    /// Ready, too: they waited for a row of their key. Apart, as they mostly came before all that are in `ready`.
    private var released = Fifo<Int>()
    private var chains: [[UInt8]: Chain] = [:]
    private var marks: [Int: Mark] = [:]
    private var order = 0
    private var nextNumber = 0
    private var hasPilot = false
    private var signals: [Signal] = []
    /// How many left since the queues were last cleared of them.
    private var gone = 0
    /// How many rows wait, in line or inside.
    private(set) var waiting = 0
    /// How many rows are on their way.
    private(set) var flying = 0
    /// How many rows came inside while another of their key was still to fly.
    private(set) var postponed = 0

    /// - Parameter limit: how many rows are inside at most.
    init(limit: Int) { self.limit = max(1, limit) }

    mutating func number() -> Int {
        nextNumber &+= 1
        return nextNumber
    }

    /// How many numbers the queues hold, of those who left as well.
    var numbersKept: Int { chains.values.reduce(line.count + ready.count + released.count) { $0 + $1.behind.count } }

    mutating func takeSignals() -> [Signal] {
        defer { signals = [] }
        return signals
    }

    /// - Parameter enter: called when the row is inside.
    /// - Returns: whether a pilot is needed.
    mutating func add(_ entry: Entry, enter: Signal? = nil, land: @escaping Landing) -> Bool {
        order &+= 1
        guests[entry.number] = Guest(entry: entry, order: order, land: land, enter: enter)
        waiting &+= 1
        line.append(entry.number)
        admit()
        if hasPilot { return false }
        hasPilot = true
        return true
    }

    private mutating func admit() {
        while inside < limit, let number = line.popFirst() {
            // Who left is in line no longer.
            guard let guest = guests[number] else { continue }
            inside &+= 1
            guests[number]?.isInside = true
            guests[number]?.enter = nil
            if let enter = guest.enter { signals.append(enter) }
            guard let key = guest.entry.key else {
                ready.append(number)
                continue
            }
            if let isPostponed = chains[key]?.add(number) {
                if isPostponed { postponed &+= 1 }
            } else {
                chains[key] = Chain(head: number)
                ready.append(number)
            }
        }
    }

    /// Called by the pilot when nothing of its last flight is in the air.
    ///
    /// - Returns: the rows of the next flight; empty when the pilot goes home.
    mutating func next(atMost limit: Int) -> [Entry] {
        var flight: [Entry] = []
        while flight.count < max(limit, 1), let entry = nextReady() {
            guests[entry.number]?.isFlying = true
            if let key = entry.key { chains[key]?.isFlying = true }
            flight.append(entry)
        }
        waiting &-= flight.count
        flying &+= flight.count
        if flight.isEmpty { hasPilot = false }
        return flight
    }

    /// Whichever came first of those that are ready: behind each row of a key that never ends there is another one released.
    private mutating func nextReady() -> Entry? {
        let early = Self.first(of: &released, guests)
        let other = Self.first(of: &ready, guests)
        if let early, other.map({ early.order < $0.order }) ?? true {
            _ = released.popFirst()
            return early.entry
        }
        if other != nil { _ = ready.popFirst() }
        return other?.entry
    }

    /// The first that has not left.
    private static func first(of queue: inout Fifo<Int>, _ guests: [Int: Guest]) -> Guest? {
        while let number = queue.first {
            if let guest = guests[number] { return guest }
            _ = queue.popFirst()
        }
        return nil
    }

    /// The row has landed; whoever still waits for it is told.
    mutating func land(_ number: Int, _ result: Result<Output?, PostgresError>) {
        guard let guest = guests[number], guest.isFlying else { return }
        flying &-= 1
        if let land = guest.land { signals.append { land(result) } }
        end(guest)
    }

    /// Whoever waits for the row leaves, and is told.
    ///
    /// - Parameter result: by whether the row may have been sent.
    mutating func leave(_ number: Int, _ result: (_ isFlying: Bool) -> Result<Output?, PostgresError>) {
        guard let guest = guests[number], let land = guest.land else { return }
        let result = result(guest.isFlying)
        signals.append { land(result) }
        if guest.isFlying {
            guests[number]?.land = nil
        } else {
            waiting &-= 1
            end(guest)
            gone &+= 1
            if gone > guests.count { forgetTheGone() }
        }
    }

    /// Queues pass over those who left only when their turn comes, which may be never while a flight hangs.
    private mutating func forgetTheGone() {
        gone = 0
        line.keep { guests[$0] != nil }
        ready.keep { guests[$0] != nil }
        released.keep { guests[$0] != nil }
        for key in Array(chains.keys) { chains[key]?.behind.keep { guests[$0] != nil } }
    }

    private mutating func end(_ guest: Guest) {
        guests[guest.entry.number] = nil
        for (number, mark) in marks where guest.order <= mark.order {
            if mark.remaining == 1 { leaveMark(number) } else { marks[number]?.remaining &-= 1 }
        }
        guard guest.isInside else { return }
        inside &-= 1
        if let key = guest.entry.key { release(key, behind: guest.entry.number) }
        admit()
    }

    /// The next row of this key is ready, if it was the first that has ended.
    private mutating func release(_ key: [UInt8], behind number: Int) {
        guard chains[key]?.head == number else { return }
        while let next = chains[key]?.behind.popFirst() {
            guard guests[next] != nil else { continue }
            chains[key]?.head = next
            chains[key]?.isFlying = false
            released.append(next)
            return
        }
        chains[key] = nil
    }

    /// A mark behind all rows that have not ended; `pass` is called when they have.
    mutating func mark(_ number: Int, pass: @escaping Signal) {
        if guests.isEmpty { return signals.append(pass) }
        marks[number] = Mark(order: order, remaining: guests.count, pass: pass)
    }

    /// The mark is passed, or whoever waits for it leaves.
    mutating func leaveMark(_ number: Int) {
        if let mark = marks.removeValue(forKey: number) { signals.append(mark.pass) }
    }
}
