/// The rows that a writer has taken, in the order in which they came. Pure: no task, no clock, no lock.
///
/// Theory of operation. A row is *in line* while as many rows as may be are inside, then *inside*, where it is ready to fly, or stands
/// *behind* a row of the same key, then *flying*, and at last it has *ended*: it has landed, or whoever waited for it left before it
/// flew. When a row ends, the one behind it is ready, and the first in line comes inside. So a flight never holds two rows of one key,
/// each row's key is looked at once however many rows share it, and rows of one key fly in the order in which they came.
///
/// Whoever is to be told of something is put among the `signals`, which are called without the writer's lock.
struct FlightQueue: Sendable {
    typealias Signal = @Sendable () -> Void

    /// A row, and who is to be told of it. What the row is, only the writer knows: so nothing here is generic, and nothing that is
    /// done under the writer's lock goes through the tables of a type that is unknown when the library is compiled.
    ///
    /// Safe to share: its variables are the queue's, which is behind the writer's lock.
    class Guest: @unchecked Sendable {
        fileprivate enum Place {
            case outside, inLine, inside, flying, ended
        }

        /// Rows of equal keys must not fly together; nil for one that may fly with any.
        let key: [UInt8]?
        let since = ContinuousClock.now
        fileprivate var place = Place.outside
        /// The how manieth row it is.
        fileprivate(set) var order = 0
        /// Nil when nobody waits any more.
        fileprivate var told: Signal?
        /// Told when the row comes inside.
        fileprivate var entered: Signal?

        init(key: [UInt8]?) { self.key = key }
    }

    /// The rows of one key that are inside.
    private struct Chain {
        /// The one that is ready, or flies.
        var head: Guest
        var isFlying = false
        var behind = Fifo<Guest>()

        /// - Returns: whether another is to fly before it.
        mutating func add(_ guest: Guest) -> Bool {
            defer { behind.append(guest) }
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
    /// How many rows have come and not ended.
    private var present = 0
    private var inside = 0
    private var line = Fifo<Guest>()
    private var ready = Fifo<Guest>()
    /// Ready, too: they waited for a row of their key. Apart, as they mostly came before all that are in `ready`.
    private var released = Fifo<Guest>()
    private var chains: [[UInt8]: Chain] = [:]
    private var marks: [Int: Mark] = [:]
    private var nextMark = 0
    private var order = 0
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

    /// How many rows the queues hold, those who left as well: of these not more than there are others.
    var rowsKept: Int { chains.values.reduce(line.count + ready.count + released.count) { $0 + $1.behind.count } }

    mutating func takeSignals() -> [Signal] {
        if signals.isEmpty { return [] }
        defer { signals = [] }
        return signals
    }

    /// - Parameters:
    ///   - entered: called when the row is inside.
    ///   - told: called once, when it has landed or was left.
    /// - Returns: whether a pilot is needed.
    mutating func add(_ guest: Guest, entered: Signal? = nil, told: @escaping Signal) -> Bool {
        order &+= 1
        guest.order = order
        guest.told = told
        guest.entered = entered
        guest.place = .inLine
        present &+= 1
        waiting &+= 1
        line.append(guest)
        admit()
        if hasPilot { return false }
        hasPilot = true
        return true
    }

    private mutating func admit() {
        while inside < limit, let guest = line.popFirst() {
            // Who left is in line no longer.
            guard guest.place == .inLine else { continue }
            inside &+= 1
            guest.place = .inside
            if let entered = guest.entered.take() { signals.append(entered) }
            guard let key = guest.key else {
                ready.append(guest)
                continue
            }
            if let isPostponed = chains[key]?.add(guest) {
                if isPostponed { postponed &+= 1 }
            } else {
                chains[key] = Chain(head: guest)
                ready.append(guest)
            }
        }
    }

    /// Called by the pilot when nothing of its last flight is in the air.
    ///
    /// - Returns: the rows of the next flight; empty when the pilot goes home.
    mutating func next(atMost limit: Int) -> [Guest] {
        var flight: [Guest] = []
        flight.reserveCapacity(min(limit, ready.count &+ released.count))
        while flight.count < max(limit, 1), let guest = nextReady() {
            guest.place = .flying
            if let key = guest.key { chains[key]?.isFlying = true }
            flight.append(guest)
        }
        waiting &-= flight.count
        flying &+= flight.count
        if flight.isEmpty { hasPilot = false }
        return flight
    }

    /// Whichever came first of those that are ready: behind each row of a key that never ends there is another one released.
    private mutating func nextReady() -> Guest? {
        let early = Self.first(of: &released)
        let other = Self.first(of: &ready)
        if let early, other.map({ early.order < $0.order }) ?? true {
            _ = released.popFirst()
            return early
        }
        if other != nil { _ = ready.popFirst() }
        return other
    }

    /// The first that has not left.
    private static func first(of queue: inout Fifo<Guest>) -> Guest? {
        while let guest = queue.first {
            if guest.place != .ended { return guest }
            _ = queue.popFirst()
        }
        return nil
    }

    /// The row has landed; whoever still waits for it is told.
    ///
    /// - Returns: whether somebody does.
    mutating func land(_ guest: Guest) -> Bool {
        guard guest.place == .flying else { return false }
        flying &-= 1
        let told = guest.told.take()
        if let told { signals.append(told) }
        end(guest)
        return told != nil
    }

    /// Whoever waits for the row leaves, and is told.
    ///
    /// - Returns: whether the row may have been sent; nil if nobody waits for it.
    mutating func leave(_ guest: Guest) -> Bool? {
        guard let told = guest.told.take() else { return nil }
        signals.append(told)
        if guest.place == .flying { return true }
        waiting &-= 1
        end(guest)
        gone &+= 1
        if gone > present { forgetTheGone() }
        return false
    }

    /// Queues pass over those who left only when their turn comes, which may be never while a flight hangs.
    private mutating func forgetTheGone() {
        gone = 0
        line.keep { $0.place != .ended }
        ready.keep { $0.place != .ended }
        released.keep { $0.place != .ended }
        for key in Array(chains.keys) { chains[key]?.behind.keep { $0.place != .ended } }
    }

    private mutating func end(_ guest: Guest) {
        let wasInside = guest.place != .inLine
        guest.place = .ended
        guest.entered = nil
        present &-= 1
        for (number, mark) in marks where guest.order <= mark.order {
            if mark.remaining == 1 { leaveMark(number) } else { marks[number]?.remaining &-= 1 }
        }
        guard wasInside else { return }
        inside &-= 1
        if let key = guest.key { release(key, behind: guest) }
        admit()
    }

    /// The next row of this key is ready, if it was the first that has ended.
    private mutating func release(_ key: [UInt8], behind guest: Guest) {
        guard chains[key]?.head === guest else { return }
        while let next = chains[key]?.behind.popFirst() {
            guard next.place != .ended else { continue }
            chains[key]?.head = next
            chains[key]?.isFlying = false
            released.append(next)
            return
        }
        chains[key] = nil
    }

    mutating func markNumber() -> Int {
        nextMark &+= 1
        return nextMark
    }

    /// A mark behind all rows that have not ended; `pass` is called when they have.
    mutating func mark(_ number: Int, pass: @escaping Signal) {
        if present == 0 { return signals.append(pass) }
        marks[number] = Mark(order: order, remaining: present, pass: pass)
    }

    /// The mark is passed, or whoever waits for it leaves.
    mutating func leaveMark(_ number: Int) {
        if let mark = marks.removeValue(forKey: number) { signals.append(mark.pass) }
    }
}
