import Foundation
import Postgres
import Synchronization
import Testing

@testable import PostgresUpsert

@Suite struct FlightQueueTests {
    private typealias Queue = FlightQueue<Int, Int>

    private func entry(_ queue: inout Queue, _ row: Int, key: UInt8? = nil) -> Queue.Entry {
        Queue.Entry(number: queue.number(), row: row, key: key.map { [$0] }, since: .now)
    }

    /// - Returns: the rows' numbers.
    @discardableResult
    private func add(_ queue: inout Queue, _ keys: [UInt8?]) -> [Int] {
        keys.map { key in
            let new = entry(&queue, 0, key: key)
            _ = queue.add(new) { _ in }
            return new.number
        }
    }

    private func fly(_ queue: inout Queue, atMost limit: Int = 100) -> [Int] {
        queue.next(atMost: limit).map(\.number)
    }

    private func land(_ queue: inout Queue, _ numbers: [Int]) {
        for number in numbers { queue.land(number, .success(1)) }
    }

    @Test func onePilotIsCalledUntilItRests() {
        var queue = Queue(limit: 10)
        let first = entry(&queue, 1)
        #expect(queue.add(first) { _ in })
        let second = entry(&queue, 2)
        #expect(!queue.add(second) { _ in })
        #expect(queue.next(atMost: 10).map(\.row) == [1, 2])
        let third = entry(&queue, 3)
        #expect(!queue.add(third) { _ in })
        #expect(queue.next(atMost: 10).map(\.row) == [3])
        #expect(queue.next(atMost: 10).isEmpty)
        let fourth = entry(&queue, 4)
        #expect(queue.add(fourth) { _ in })
    }

    @Test func aMarkPassesOnlyWhenEverythingBeforeItHasEnded() {
        var queue = Queue(limit: 2)
        let passed = Atomic(false)
        func hasPassed() -> Bool { passed.load(ordering: .relaxed) }
        let before = add(&queue, [nil, nil, nil])
        queue.mark(queue.number()) { passed.store(true, ordering: .relaxed) }
        add(&queue, [nil])
        land(&queue, fly(&queue))
        queue.leave(before[2]) { _ in .success(nil) }
        for signal in queue.takeSignals() { signal() }
        #expect(hasPassed())
        #expect(queue.waiting == 1)
    }

    @Test func whoFliesWithoutAWaiterIsStillWaitedFor() {
        var queue = Queue(limit: 10)
        let passed = Atomic(false)
        func hasPassed() -> Bool { passed.load(ordering: .relaxed) }
        let row = add(&queue, [nil])[0]
        #expect(fly(&queue) == [row])
        queue.leave(row) { _ in .success(nil) }
        queue.mark(queue.number()) { passed.store(true, ordering: .relaxed) }
        for signal in queue.takeSignals() { signal() }
        #expect(!hasPassed())
        land(&queue, [row])
        for signal in queue.takeSignals() { signal() }
        #expect(hasPassed())
    }

    @Test func rowsOfOneKeyFlyOneAfterAnotherAndBeforeOthers() {
        var queue = Queue(limit: 100)
        let rows = add(&queue, [1, 2, 1, 1, nil])
        #expect(fly(&queue) == [rows[0], rows[1], rows[4]])
        let late = add(&queue, [1, 2, nil])
        land(&queue, [rows[0], rows[1], rows[4]])
        #expect(fly(&queue) == [rows[2], late[1], late[2]])
        land(&queue, [rows[2], late[1], late[2]])
        // Who leaves is passed over.
        queue.leave(rows[3]) { _ in .success(nil) }
        #expect(fly(&queue) == [late[0]])
        // The second, the third, and the one that came while two were still to fly.
        #expect(queue.postponed == 3)
    }

    /// What waited for a row of its key goes before those that came behind it, and before no others.
    @Test func aBacklogOfAKeyHoldsUpNobodyWhoCameBefore() {
        var queue = Queue(limit: 100)
        let rows = add(&queue, [1, 1, nil, 1, 2, 1])
        var flown: [Int] = []
        for step in rows.indices {
            let flight = fly(&queue, atMost: 1)
            flown += flight
            land(&queue, flight)
            // There is always more of the hot key.
            if step < 3 { add(&queue, [1]) }
        }
        #expect(flown == rows)
    }

    /// While a flight hangs, callers come and go: of those who left nothing is kept.
    @Test func whoLeavesIsForgottenThoughNothingLands() {
        var queue = Queue(limit: 8)
        let held = add(&queue, [1, nil])
        #expect(fly(&queue) == held)
        let staying = add(&queue, [1, nil, 2])
        for key: UInt8? in [1, nil, 2, 3] {
            for _ in 0..<1000 {
                // Inside and, with the rest of them, in line.
                for number in add(&queue, [key, key, key, key]) { queue.leave(number) { _ in .success(nil) } }
                _ = queue.takeSignals()
            }
        }
        #expect(queue.numbersKept <= 2 * (held.count + staying.count))
        land(&queue, held)
        #expect(fly(&queue) == staying)
        land(&queue, staying)
        #expect(fly(&queue).isEmpty)
    }

    @Test func whoIsToFlyFirstAndLeavesMakesRoomForTheNextOfItsKey() {
        var queue = Queue(limit: 100)
        let rows = add(&queue, [1, 1])
        queue.leave(rows[0]) { _ in .success(nil) }
        #expect(fly(&queue) == [rows[1]])
        land(&queue, [rows[1]])
        let next = add(&queue, [1])
        #expect(fly(&queue) == next)
    }

    @Test func onlySoManyAreInside() {
        var queue = Queue(limit: 2)
        let entered = Lock<[Int]>([])
        var numbers: [Int] = []
        for row in 0..<5 {
            let new = entry(&queue, row)
            numbers.append(new.number)
            _ = queue.add(new, enter: { entered.withLock { $0.append(row) } }, land: { _ in })
        }
        func whoEntered() -> [Int] {
            for signal in queue.takeSignals() { signal() }
            return entered.withLock { $0 }
        }
        #expect(whoEntered() == [0, 1])
        #expect(queue.waiting == 5)
        #expect(fly(&queue) == Array(numbers[..<2]))
        #expect(whoEntered() == [0, 1])
        land(&queue, [numbers[1]])
        #expect(whoEntered() == [0, 1, 2])
        // Who leaves the line makes no room, who leaves from inside does.
        queue.leave(numbers[3]) { _ in .success(nil) }
        #expect(whoEntered() == [0, 1, 2])
        queue.leave(numbers[2]) { _ in .success(nil) }
        #expect(whoEntered() == [0, 1, 2, 4])
        // Room is made by a row that flies when it lands, not when it is left alone.
        let last = add(&queue, [nil])[0]
        queue.leave(numbers[0]) { _ in .success(nil) }
        #expect(fly(&queue) == [numbers[4]])
        land(&queue, [numbers[0]])
        #expect(fly(&queue) == [last])
    }

    /// Whatever happens in whatever order: each row is told of once, no flight holds a key twice, rows of a key fly in their order, no
    /// more are inside than may be, a mark passes when all before it have ended, and in the end nothing is left. A failure names its
    /// seed, which `POSTGRES_QUEUE_SEED` repeats.
    @Test(arguments: [1, 3, 20], queueSeeds) func randomEventsLoseNothing(_ limit: Int, _ seed: UInt64) {
        var generator = SeededNumbers(state: seed)
        var queue = Queue(limit: limit)
        let told = Lock<[Int: Int]>([:])
        let passed = Lock<[Int: Int]>([:])
        var keys: [Int: UInt8] = [:]
        var added = 0
        var waiting: [Int] = []
        var flight: [Int] = []
        var left: Set<Int> = []
        var lastOfKey: [UInt8: Int] = [:]
        /// For each mark the rows that must end before.
        var marks: [Int: Set<Int>] = [:]
        func step(_ choice: Int) {
            switch choice {
            case 0..<5:
                let number = queue.number()
                let key = Bool.random(using: &generator) ? UInt8.random(in: 0..<4, using: &generator) : nil
                keys[number] = key
                added += 1
                let row = Queue.Entry(number: number, row: 0, key: key.map { [$0] }, since: .now)
                _ = queue.add(row) { _ in told.withLock { $0[number, default: 0] += 1 } }
                waiting.append(number)
            case 5, 6:
                guard flight.isEmpty else { return }
                flight = fly(&queue, atMost: Int.random(in: 1...7, using: &generator))
                #expect(flight.isEmpty == waiting.isEmpty)
                #expect(flight.count <= limit)
                let flown = flight.compactMap { keys[$0] }
                #expect(Set(flown).count == flown.count)
                for number in flight {
                    #expect(waiting.contains(number))
                    guard let key = keys[number] else { continue }
                    #expect(number > lastOfKey[key, default: 0])
                    lastOfKey[key] = number
                }
                waiting.removeAll { flight.contains($0) }
            case 7:
                guard let number = flight.randomElement(using: &generator) else { return }
                queue.land(number, .success(1))
                flight.removeAll { $0 == number }
                for mark in marks.keys { marks[mark]?.remove(number) }
            case 8:
                guard let number = (waiting + flight).randomElement(using: &generator), !left.contains(number) else {
                    return
                }
                let flies = flight.contains(number)
                queue.leave(number) { isFlying in
                    #expect(isFlying == flies)
                    return .success(nil)
                }
                left.insert(number)
                guard !flies else { return }
                waiting.removeAll { $0 == number }
                for mark in marks.keys { marks[mark]?.remove(number) }
            default:
                let number = queue.number()
                marks[number] = Set(waiting + flight)
                queue.mark(number) { passed.withLock { $0[number, default: 0] += 1 } }
            }
        }
        func check() {
            for signal in queue.takeSignals() { signal() }
            #expect(queue.waiting == waiting.count)
            #expect(queue.flying == flight.count)
            let ended = marks.filter { $0.value.isEmpty }.keys
            let passings = passed.withLock { $0 }
            #expect(passings.count == ended.count)
            #expect(ended.allSatisfy { passings[$0] == 1 })
        }
        for _ in 0..<1000 {
            step(Int.random(in: 0..<10, using: &generator))
            check()
        }
        while !waiting.isEmpty || !flight.isEmpty {
            step(flight.isEmpty ? 5 : 7)
            check()
        }
        let tellings = told.withLock { $0 }
        #expect(tellings.count == added)
        #expect(tellings.values.allSatisfy { $0 == 1 })
        #expect(marks.values.allSatisfy { $0.isEmpty })
    }
}

private let queueSeeds: [UInt64] = {
    let given = ProcessInfo.processInfo.environment["POSTGRES_QUEUE_SEED"].flatMap { UInt64($0) }
    return given.map { [$0] } ?? [1, 2, .random(in: 3...UInt64.max)]
}()

/// SplitMix64: the same numbers for the same seed.
private struct SeededNumbers: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
