/// What comes first goes first, in constant time on the average.
struct Fifo<Element> {
    // Taken from `first` on; what lies before it is empty and cut off from time to time.
    private var elements: [Element?] = []
    private var first = 0

    var isEmpty: Bool { first == elements.count }

    mutating func append(_ element: Element) { elements.append(element) }

    mutating func popFirst() -> Element? {
        guard first < elements.count else { return nil }
        let element = elements[first]
        elements[first] = nil
        first &+= 1
        if first == elements.count {
            elements.removeAll(keepingCapacity: first <= 4096)
            first = 0
        } else if first >= 1024, first &* 2 >= elements.count {
            elements.removeFirst(first)
            first = 0
        }
        return element
    }
}

extension Fifo: Sendable where Element: Sendable {}
