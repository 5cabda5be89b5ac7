/// Those who wait for a connection, first come first served.
///
/// Each has a number that grows with each one that came, so that one who gives up is found at once; its place is left empty and
/// skipped. Only bookkeeping: the tasks themselves are the driver's.
struct WaiterQueue: Sendable {
    typealias ID = UInt64

    struct Waiter: Sendable {
        let id: ID
        let kind: PoolStateMachine.Use
        let since: PoolStateMachine.Time
        let deadline: PoolStateMachine.Time
    }

    private var places: [Waiter?] = []
    private var head = 0
    private var nextID: ID = 0
    /// Without those who gave up.
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// The one who has waited longest. They all wait equally long, so its deadline is the earliest.
    var first: Waiter? {
        mutating get {
            while head < places.count {
                if let waiter = places[head] { return waiter }
                head += 1
            }
            return nil
        }
    }

    mutating func append(_ kind: PoolStateMachine.Use, since: UInt64, deadline: UInt64) -> ID {
        if head > 32, head * 2 > places.count {
            places.removeFirst(head)
            head = 0
        }
        let id = nextID
        nextID += 1
        places.append(Waiter(id: id, kind: kind, since: since, deadline: deadline))
        count += 1
        return id
    }

    mutating func popFirst() -> Waiter? {
        guard let waiter = first else { return nil }
        places[head] = nil
        head += 1
        count -= 1
        return waiter
    }

    /// Whether it waited still.
    mutating func remove(_ id: ID) -> Bool {
        let behind = nextID &- id
        guard id < nextID, behind <= UInt64(places.count - head) else { return false }
        let index = places.count - Int(behind)
        guard places[index] != nil else { return false }
        places[index] = nil
        count -= 1
        return true
    }
}
