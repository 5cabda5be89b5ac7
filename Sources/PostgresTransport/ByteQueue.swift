/// Bytes that are appended at one end and taken away at the other.
struct ByteQueue: ~Copyable {
    // Owned by this value, and freed in `deinit`; lent out only for the span of one call.
    private var base: UnsafeMutableRawPointer
    private var capacity: Int
    private var head = 0
    private var tail = 0

    init(capacity: Int) {
        self.capacity = max(capacity, 64)
        base = .allocate(byteCount: self.capacity, alignment: 16)
    }

    deinit { base.deallocate() }

    var count: Int { tail &- head }
    var isEmpty: Bool { tail == head }

    /// Valid until the queue is changed.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + head, count: count) }

    /// Makes room for `size` more bytes, to be filled and then made part of the queue by ``commit(_:)``.
    mutating func reserve(_ size: Int) -> UnsafeMutableRawBufferPointer {
        if capacity &- tail < size {
            let used = count
            if capacity &- used >= size {
                base.copyMemory(from: base + head, byteCount: used)
            } else {
                capacity = max(capacity &* 2, used &+ size)
                let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
                larger.copyMemory(from: base + head, byteCount: used)
                base.deallocate()
                base = larger
            }
            head = 0
            tail = used
        }
        return UnsafeMutableRawBufferPointer(start: base + tail, count: capacity &- tail)
    }

    mutating func commit(_ size: Int) { tail = min(tail &+ max(0, size), capacity) }

    mutating func consume(_ size: Int) {
        head = min(head &+ max(0, size), tail)
        if head == tail { removeAll() }
    }

    mutating func removeAll() {
        head = 0
        tail = 0
    }
}
