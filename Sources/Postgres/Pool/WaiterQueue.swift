/// Those who wait for a connection, first come first served, each until its own deadline.
///
/// Each has a number that grows with each one that came, by which one who gives up is found; its place is left empty and skipped,
/// and the empty ones are taken out when they are too many. Who was served in vain, by a connection that turned out to be dead, is put back in front of all who came after it.
/// Only bookkeeping: the tasks themselves are the driver's.
struct WaiterQueue: Sendable {
    typealias ID = UInt64
    typealias Time = PoolStateMachine.Time

    struct Deadline: Sendable {
        let time: Time
        let limit: PoolStateMachine.TimeLimit
    }

    struct Waiter: Sendable {
        let id: ID
        let kind: PoolStateMachine.Use
        /// When it asked.
        let since: Time
        let deadline: Deadline
    }

    struct Place: Sendable {
        let id: ID
        /// nil once served, or gone.
        var waiter: Waiter?
    }

    /// In the order of their numbers; those before `head` are empty.
    private(set) var places: [Place] = []
    private var head = 0
    private var nextID: ID = 0
    /// Those who were put back, the one that asked first first: all of them before anybody in `places`.
    private var returned: [Waiter] = []
    /// Of everybody who waits, and of some who do not any more: those are skipped, and taken out when they are too many.
    private(set) var deadlines = DeadlineHeap()
    /// Without those who gave up.
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// The one whose turn is next.
    var first: Waiter? {
        mutating get {
            if let waiter = returned.first { return waiter }
            while head < places.count {
                if let waiter = places[head].waiter { return waiter }
                head += 1
            }
            return nil
        }
    }

    mutating func append(_ kind: PoolStateMachine.Use, since: Time, until deadline: Deadline) -> ID {
        let waiter = Waiter(id: nextID, kind: kind, since: since, deadline: deadline)
        add(waiter)
        places.append(Place(id: waiter.id, waiter: waiter))
        return waiter.id
    }

    /// Whether one who asked at `since`, and has been served in vain, would be the first.
    func putsBackInFront(_ since: Time) -> Bool { returned.first.map { since < $0.since } ?? true }

    /// One who asked at `since`, and has been in vain at the head of the queue, or before there was one.
    mutating func putBack(_ kind: PoolStateMachine.Use, since: Time, until deadline: Deadline) -> ID {
        let waiter = Waiter(id: nextID, kind: kind, since: since, deadline: deadline)
        add(waiter)
        returned.insert(waiter, at: returned.firstIndex { $0.since > since } ?? returned.endIndex)
        return waiter.id
    }

    private mutating func add(_ waiter: Waiter) {
        if places.count > 2 * count + 64 {
            places.removeAll { $0.waiter == nil }
            head = 0
        }
        nextID += 1
        count += 1
        if waiter.deadline.time == PoolStateMachine.never { return }
        if deadlines.count > 2 * count + 64 {
            deadlines = DeadlineHeap(deadlines.entries.filter { isPresent($0.id) })
        }
        deadlines.insert(DeadlineHeap.Entry(time: waiter.deadline.time, id: waiter.id))
    }

    mutating func popFirst() -> Waiter? { first.flatMap { take($0.id) } }

    /// Whether it waited still.
    mutating func remove(_ id: ID) -> Bool { take(id) != nil }

    /// When the first of them is to give up.
    var earliestDeadline: Time {
        mutating get {
            while let next = deadlines.first {
                if isPresent(next.id) { return next.time }
                deadlines.removeFirst()
            }
            return PoolStateMachine.never
        }
    }

    /// Somebody whose time is up.
    mutating func popExpired(_ now: Time) -> Waiter? {
        guard earliestDeadline <= now, let next = deadlines.first else { return nil }
        deadlines.removeFirst()
        return take(next.id)
    }

    private mutating func take(_ id: ID) -> Waiter? {
        let waiter: Waiter
        if let index = place(of: id), let found = places[index].waiter {
            places[index].waiter = nil
            waiter = found
        } else if let index = returned.firstIndex(where: { $0.id == id }) {
            waiter = returned.remove(at: index)
        } else {
            return nil
        }
        count -= 1
        return waiter
    }

    private func isPresent(_ id: ID) -> Bool {
        if let index = place(of: id), places[index].waiter != nil { return true }
        return returned.contains { $0.id == id }
    }

    /// Mostly it is the first, whose turn it is.
    private func place(of id: ID) -> Int? {
        var low = head
        var high = places.count
        while low < high {
            let middle = low == head ? head : low + (high - low) / 2
            if places[middle].id == id { return middle }
            if places[middle].id < id { low = middle + 1 } else { high = middle }
        }
        return nil
    }
}
