/// What comes first goes first, in constant time on the average.
struct Fifo<Element> {
    // Taken from `start` on; what lies before it is empty and cut off from time to time.
    private var elements: [Element?] = []
    private var start = 0

    var isEmpty: Bool { start == elements.count }
    var count: Int { elements.count &- start }

    /// What `popFirst` would take.
    var first: Element? { isEmpty ? nil : elements[start] }

    mutating func append(_ element: Element) { elements.append(element) }

    /// Drops all but those.
    mutating func keep(_ isKept: (Element) -> Bool) {
        elements = elements[start...].filter { $0.map(isKept) ?? false }
        start = 0
    }

    mutating func popFirst() -> Element? {
        guard start < elements.count else { return nil }
        let element = elements[start]
        elements[start] = nil
        start &+= 1
        if start == elements.count {
            elements.removeAll(keepingCapacity: start <= 4096)
            start = 0
        } else if start >= 1024, start &* 2 >= elements.count {
            elements.removeFirst(start)
            start = 0
        }
        return element
    }
}

extension Fifo: Sendable where Element: Sendable {}
