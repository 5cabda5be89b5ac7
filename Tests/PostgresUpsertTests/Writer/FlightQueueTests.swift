import Foundation
import Postgres
import Synchronization
import Testing

@testable import PostgresUpsert

@Suite struct FlightQueueTests {
    /// A queue whose rows are known by the order in which they came.
    private struct Queue {
        var queue: FlightQueue
        private var guests: [FlightQueue.Guest] = []

        init(limit: Int) { queue = FlightQueue(limit: limit) }

        /// - Returns: the row's number, and whether a pilot is needed.
        mutating func add(
            _ key: UInt8? = nil, entered: FlightQueue.Signal? = nil, told: @escaping @Sendable () -> Void = {}
        ) -> (number: Int, needsPilot: Bool) {
            let guest = FlightQueue.Guest(key: key.map { [$0] })
            let needsPilot = queue.add(guest, entered: entered, told: told)
            guests.append(guest)
            #expect(guest.order == guests.count)
            return (guests.count, needsPilot)
        }

        mutating func fly(atMost limit: Int = 100) -> [Int] { queue.next(atMost: limit).map(\.order) }

        @discardableResult
        mutating func land(_ number: Int) -> Bool { queue.land(guests[number - 1]) }

        @discardableResult
        mutating func leave(_ number: Int) -> Bool? { queue.leave(guests[number - 1]) }

        mutating func signal() { for signal in queue.takeSignals() { signal() } }
    }

    /// - Returns: the rows' numbers.
    @discardableResult
    private func add(_ queue: inout Queue, _ keys: [UInt8?]) -> [Int] { keys.map { queue.add($0).number } }

    private func land(_ queue: inout Queue, _ numbers: [Int]) {
        for number in numbers {
            let isTold = queue.land(number)
            #expect(isTold)
        }
    }

    @Test func onePilotIsCalledUntilItRests() {
        var queue = Queue(limit: 10)
        #expect(queue.add().needsPilot)
        #expect(!queue.add().needsPilot)
        #expect(queue.fly(atMost: 10) == [1, 2])
        #expect(!queue.add().needsPilot)
        #expect(queue.fly(atMost: 10) == [3])
        #expect(queue.fly(atMost: 10).isEmpty)
        #expect(queue.add().needsPilot)
    }

    @Test func aMarkPassesOnlyWhenEverythingBeforeItHasEnded() {
        var queue = Queue(limit: 2)
        let passed = Atomic(false)
        func hasPassed() -> Bool { passed.load(ordering: .relaxed) }
        let before = add(&queue, [nil, nil, nil])
        queue.queue.mark(queue.queue.markNumber()) { passed.store(true, ordering: .relaxed) }
        add(&queue, [nil])
        land(&queue, queue.fly())
        queue.leave(before[2])
        queue.signal()
        #expect(hasPassed())
        #expect(queue.queue.waiting == 1)
    }

    @Test func whoFliesWithoutAWaiterIsStillWaitedFor() {
        var queue = Queue(limit: 10)
        let passed = Atomic(false)
        func hasPassed() -> Bool { passed.load(ordering: .relaxed) }
        let row = add(&queue, [nil])[0]
        #expect(queue.fly() == [row])
        queue.leave(row)
        queue.queue.mark(queue.queue.markNumber()) { passed.store(true, ordering: .relaxed) }
        queue.signal()
        #expect(!hasPassed())
        // It has landed, and nobody is to be told.
        let isTold = queue.land(row)
        #expect(!isTold)
        queue.signal()
        #expect(hasPassed())
    }

    @Test func rowsOfOneKeyFlyOneAfterAnotherAndBeforeOthers() {
        var queue = Queue(limit: 100)
        let rows = add(&queue, [1, 2, 1, 1, nil])
        #expect(queue.fly() == [rows[0], rows[1], rows[4]])
        let late = add(&queue, [1, 2, nil])
        land(&queue, [rows[0], rows[1], rows[4]])
        #expect(queue.fly() == [rows[2], late[1], late[2]])
        land(&queue, [rows[2], late[1], late[2]])
        // Who leaves is passed over.
        queue.leave(rows[3])
        #expect(queue.fly() == [late[0]])
        // The second, the third, and the one that came while two were still to fly.
        #expect(queue.queue.postponed == 3)
    }

    /// What waited for a row of its key goes before those that came behind it, and before no others.
    @Test func aBacklogOfAKeyHoldsUpNobodyWhoCameBefore() {
        var queue = Queue(limit: 100)
        let rows = add(&queue, [1, 1, nil, 1, 2, 1])
        var flown: [Int] = []
        for step in rows.indices {
            let flight = queue.fly(atMost: 1)
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
        #expect(queue.fly() == held)
        let staying = add(&queue, [1, nil, 2])
        for key: UInt8? in [1, nil, 2, 3] {
            for _ in 0..<1000 {
                // Inside and, with the rest of them, in line.
                for number in add(&queue, [key, key, key, key]) { queue.leave(number) }
                _ = queue.queue.takeSignals()
            }
        }
        #expect(queue.queue.rowsKept <= 2 * (held.count + staying.count))
        land(&queue, held)
        #expect(queue.fly() == staying)
        land(&queue, staying)
        #expect(queue.fly().isEmpty)
    }

    @Test func whoIsToFlyFirstAndLeavesMakesRoomForTheNextOfItsKey() {
        var queue = Queue(limit: 100)
        let rows = add(&queue, [1, 1])
        queue.leave(rows[0])
        #expect(queue.fly() == [rows[1]])
        land(&queue, [rows[1]])
        let next = add(&queue, [1])
        #expect(queue.fly() == next)
    }

    @Test func onlySoManyAreInside() {
        var queue = Queue(limit: 2)
        let entered = Lock<[Int]>([])
        var numbers: [Int] = []
        for row in 0..<5 {
            numbers.append(queue.add(entered: { entered.withLock { $0.append(row) } }).number)
        }
        func whoEntered() -> [Int] {
            queue.signal()
            return entered.withLock { $0 }
        }
        #expect(whoEntered() == [0, 1])
        #expect(queue.queue.waiting == 5)
        #expect(queue.fly() == Array(numbers[..<2]))
        #expect(whoEntered() == [0, 1])
        land(&queue, [numbers[1]])
        #expect(whoEntered() == [0, 1, 2])
        // Who leaves the line makes no room, who leaves from inside does.
        queue.leave(numbers[3])
        #expect(whoEntered() == [0, 1, 2])
        queue.leave(numbers[2])
        #expect(whoEntered() == [0, 1, 2, 4])
        // Room is made by a row that flies when it lands, not when it is left alone.
        let last = add(&queue, [nil])[0]
        let left = [queue.leave(numbers[0]), queue.leave(numbers[0])]
        #expect(left == [true, nil])
        #expect(queue.fly() == [numbers[4]])
        let isTold = [queue.land(numbers[0]), queue.land(numbers[0])]
        #expect(isTold == [false, false])
        #expect(queue.fly() == [last])
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
                let key = Bool.random(using: &generator) ? UInt8.random(in: 0..<4, using: &generator) : nil
                added += 1
                let number = added
                keys[number] = key
                _ = queue.add(key, told: { told.withLock { $0[number, default: 0] += 1 } })
                waiting.append(number)
            case 5, 6:
                guard flight.isEmpty else { return }
                flight = queue.fly(atMost: Int.random(in: 1...7, using: &generator))
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
                let isTold = queue.land(number)
                #expect(isTold != left.contains(number))
                flight.removeAll { $0 == number }
                for mark in marks.keys { marks[mark]?.remove(number) }
            case 8:
                guard let number = (waiting + flight).randomElement(using: &generator), !left.contains(number) else {
                    return
                }
                let flies = flight.contains(number)
                let isFlying = queue.leave(number)
                #expect(isFlying == flies)
                left.insert(number)
                guard !flies else { return }
                waiting.removeAll { $0 == number }
                for mark in marks.keys { marks[mark]?.remove(number) }
            default:
                let number = queue.queue.markNumber()
                marks[number] = Set(waiting + flight)
                queue.queue.mark(number) { passed.withLock { $0[number, default: 0] += 1 } }
            }
        }
        func check() {
            queue.signal()
            #expect(queue.queue.waiting == waiting.count)
            #expect(queue.queue.flying == flight.count)
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
