/// The requests in flight, oldest first. One rule explains pipelining: replies come in the order of requests, so a reply
/// belongs to the head, and a reply without a head is a broken server.
///
/// A ring. Each element has a number that never changes while the queue lives, so that it can be found again, to abandon it,
/// wherever it has moved to.
///
/// Public, in a module that is no product, because only public generic code is specialized across modules: with package
/// access every element would be copied through value witnesses.
public struct RequestQueue<Element>: ~Copyable {
    // Slots from `head` to `tail` are initialized; the memory is freed in `deinit`.
    @usableFromInline var slots: UnsafeMutablePointer<Element>
    @usableFromInline var mask: Int
    @usableFromInline var head = 0
    @usableFromInline var tail = 0

    @inlinable public init() {
        slots = .allocate(capacity: 16)
        mask = 15
    }

    @inlinable deinit {
        var index = head
        while index != tail {
            (slots + (index & mask)).deinitialize(count: 1)
            index &+= 1
        }
        slots.deallocate()
    }

    @inlinable @inline(__always) public var isEmpty: Bool { head == tail }
    @inlinable @inline(__always) public var count: Int { tail &- head }
    /// The number that the next element gets.
    @inlinable @inline(__always) public var nextNumber: Int { tail }

    @inlinable @inline(__always)
    public mutating func append(_ element: consuming Element) {
        if tail &- head > mask { grow() }
        (slots + (tail & mask)).initialize(to: element)
        tail &+= 1
    }

    @inlinable @inline(__always)
    public mutating func popFirst() -> Element? {
        guard head != tail else { return nil }
        let element = (slots + (head & mask)).move()
        head &+= 1
        return element
    }

    /// Takes the oldest out and leaves it where it is until `body` has seen it: elements are large, and only a part is wanted.
    @inlinable @inline(__always)
    public mutating func removeFirst<Result>(_ body: (borrowing Element) -> Result) -> Result? {
        guard head != tail else { return nil }
        let slot = slots + (head & mask)
        let result = body(slot.pointee)
        slot.deinitialize(count: 1)
        head &+= 1
        return result
    }

    @inlinable @inline(__always)
    public var first: Element? { head == tail ? nil : slots[head & mask] }

    /// Changes the element of that number, if it is still in flight.
    @inlinable
    public mutating func update<Result>(_ number: Int, _ body: (inout Element) -> Result) -> Result? {
        guard number &- head >= 0, tail &- number > 0 else { return nil }
        return body(&slots[number & mask])
    }

    @usableFromInline
    mutating func grow() {
        let size = mask &+ 1
        let larger = UnsafeMutablePointer<Element>.allocate(capacity: size &* 2)
        let newMask = size &* 2 &- 1
        // Numbers stay: each element goes to the slot of its own number.
        for index in head..<tail {
            (larger + (index & newMask)).initialize(to: (slots + (index & mask)).move())
        }
        slots.deallocate()
        slots = larger
        mask = newMask
    }
}

// One value owns the memory and cannot be copied; it may move to another thread with its elements.
extension RequestQueue: @unchecked Sendable where Element: Sendable {}
