/// Bytes that arrived and were not read yet. Grows with what really arrives, never on a promise in a length word.
package struct ReceiveBuffer: ~Copyable {
    // Owned by this value and freed in `deinit`.
    private var memory: UnsafeMutableRawPointer
    private var capacity: Int
    private var start = 0
    private var end = 0
    private let initialCapacity: Int

    package init(capacity: Int = 16384) {
        initialCapacity = max(capacity, 1024)
        self.capacity = initialCapacity
        memory = .allocate(byteCount: initialCapacity, alignment: 16)
    }

    deinit { memory.deallocate() }

    /// (A mutating getter: for a plain one the caller, in another module, copies the buffer's owner first.)
    @inline(__always) package var isEmpty: Bool { mutating get { start == end } }

    /// How many bytes wait to be read.
    @inline(__always) package var count: Int { end &- start }

    /// The waiting bytes; valid until the buffer is changed.
    @inline(__always) package var base: UnsafeRawPointer { UnsafeRawPointer(memory + start) }

    /// Where the next bytes belong; at least a few kilobytes. `received` says how many were put there.
    @inline(__always)
    package mutating func space() -> UnsafeMutableRawBufferPointer {
        if start == end {
            start = 0
            end = 0
            if capacity > ReceiveBuffer.keptCapacity { replace(by: initialCapacity) }
        } else if capacity &- end < ReceiveBuffer.minimumSpace {
            makeRoom()
        }
        return UnsafeMutableRawBufferPointer(start: memory + end, count: capacity &- end)
    }

    @inline(__always)
    package mutating func received(_ count: Int) {
        end &+= max(0, min(count, capacity &- end))
    }

    @inline(__always)
    package mutating func consume(_ count: Int) {
        start &+= max(0, min(count, end &- start))
    }

    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let target = space()
            let count = min(target.count, rest.count)
            target.copyMemory(from: UnsafeRawBufferPointer(rebasing: rest.prefix(count)))
            received(count)
            rest = rest.dropFirst(count)
        }
    }

    package mutating func removeAll() {
        start = 0
        end = 0
    }

    /// Doubles after a read that filled everything: the peer has more to say.
    package mutating func growIfFull(_ received: Int, of offered: Int) {
        if received == offered, capacity < ReceiveBuffer.keptCapacity { replace(by: capacity &* 2) }
    }

    private static let minimumSpace = 4096
    /// What an empty buffer may keep after one large message.
    private static let keptCapacity = 131_072

    @inline(never)
    private mutating func makeRoom() {
        if start > 0 {
            memory.copyMemory(from: memory + start, byteCount: end &- start)
            end &-= start
            start = 0
        }
        if capacity &- end < ReceiveBuffer.minimumSpace { replace(by: capacity &* 2) }
    }

    private mutating func replace(by size: Int) {
        let other = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
        let count = min(end &- start, size)
        other.copyMemory(from: memory + start, byteCount: count)
        memory.deallocate()
        memory = other
        capacity = size
        start = 0
        end = count
    }
}

// One value owns the memory and cannot be copied; it may move to another thread.
extension ReceiveBuffer: @unchecked Sendable {}
