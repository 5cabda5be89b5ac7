import PostgresProtocol
import Testing

struct RequestQueueTests {
    @Test func `elements come out in order, by numbers that never change`() {
        var queue = RequestQueue<Int>()
        var random = SeededGenerator(seed: 3)
        var model: [(number: Int, value: Int)] = []
        for step in 0..<10_000 {
            if Bool.random(using: &random) || model.isEmpty {
                model.append((queue.nextNumber, step))
                queue.append(step)
            } else {
                let first = queue.first
                let popped = queue.popFirst()
                #expect(popped == model.first?.value && first == popped)
                model.removeFirst()
            }
            let (count, isEmpty) = (queue.count, queue.isEmpty)
            #expect(count == model.count && isEmpty == model.isEmpty)
            if let (number, value) = model.randomElement(using: &random) {
                let found = queue.update(number) { $0 }
                #expect(found == value)
            }
        }
    }

    @Test func `a number that is no longer in flight, or not yet, is not found`() {
        var queue = RequestQueue<Int>()
        for value in 0..<40 { queue.append(value) }
        for _ in 0..<30 { _ = queue.popFirst() }
        let found = [-1, 0, 29, 30, 39, 40, 1000].map { queue.update($0) { $0 } }
        #expect(found == [nil, nil, nil, 30, 39, nil, nil])
        let changed: Void? = queue.update(35) { $0 = -35 }
        #expect(changed != nil)
        for _ in 30..<35 { _ = queue.popFirst() }
        let popped = queue.popFirst()
        #expect(popped == -35)
    }

    @Test func `an empty queue gives nothing`() {
        var queue = RequestQueue<Int>()
        let popped = queue.popFirst()
        let first = queue.first
        #expect(popped == nil && first == nil)
        let isEmpty = queue.isEmpty
        #expect(isEmpty)
    }

    @Test func `elements are released with the queue`() {
        final class Element {}
        weak var last: Element?
        weak var popped: Element?
        do {
            var queue = RequestQueue<Element>()
            for index in 0..<100 {
                let element = Element()
                if index == 0 { popped = element }
                last = element
                queue.append(element)
            }
            _ = queue.popFirst()
            #expect(popped == nil)
            #expect(last != nil)
        }
        #expect(last == nil)
    }
}

struct ReceiveBufferTests {
    private func count(_ buffer: borrowing ReceiveBuffer) -> Int { buffer.count }

    private func contents(_ buffer: borrowing ReceiveBuffer) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: buffer.base, count: buffer.count))
    }

    @Test func `bytes come out as they went in`() {
        var buffer = ReceiveBuffer(capacity: 1024)
        var random = SeededGenerator(seed: 11)
        var model: [UInt8] = []
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0...3000, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            bytes.withUnsafeBytes { buffer.append($0) }
            model += bytes
            #expect(count(buffer) == model.count)
            let count = Int.random(in: 0...min(model.count, 4000), using: &random)
            #expect(contents(buffer).prefix(count) == model.prefix(count))
            buffer.consume(count)
            model.removeFirst(count)
        }
        #expect(contents(buffer) == model)
    }

    @Test func `there is always room for a few kilobytes`() {
        var buffer = ReceiveBuffer(capacity: 1024)
        for _ in 0..<100 {
            let count = buffer.space().count
            #expect(count >= 1024)
            buffer.received(min(count, 900))
        }
        #expect(count(buffer) == 90_000)
    }

    @Test func `an empty buffer gives back what one large message needed`() {
        var buffer = ReceiveBuffer(capacity: 1024)
        let large = [UInt8](repeating: 1, count: 1 << 20)
        large.withUnsafeBytes { buffer.append($0) }
        buffer.consume(large.count)
        #expect(buffer.space().count == 1024)
    }

    @Test func `a full read makes the next one larger, up to a bound`() {
        var buffer = ReceiveBuffer(capacity: 1024)
        var largest = 0
        for _ in 0..<20 {
            let count = buffer.space().count
            largest = max(largest, count)
            buffer.received(count)
            buffer.growIfFull(count, of: count)
            buffer.consume(buffer.count)
        }
        #expect(largest == 131_072)
    }

    @Test func `counts beyond the ends are cut`() {
        var buffer = ReceiveBuffer(capacity: 1024)
        buffer.received(.max)
        #expect(count(buffer) == 1024)
        buffer.consume(.max)
        buffer.consume(-1)
        #expect(count(buffer) == 0)
    }
}
