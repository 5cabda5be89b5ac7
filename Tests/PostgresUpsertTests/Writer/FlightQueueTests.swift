import Postgres
import Synchronization
import Testing

@testable import PostgresUpsert

@Suite struct FlightQueueTests {
    private typealias Queue = FlightQueue<Int, Int>

    private func entry(_ queue: inout Queue, _ row: Int) -> Queue.Entry {
        Queue.Entry(number: queue.number(), row: row, since: .now)
    }

    private func rows(_ step: Queue.Step) -> [Int]? {
        if case .fly(let entries) = step { entries.map(\.row) } else { nil }
    }

    @Test func onePilotIsCalledUntilItRests() {
        var queue = Queue()
        #expect(queue.add(entry(&queue, 1)) { _ in })
        #expect(!queue.add(entry(&queue, 2)) { _ in })
        #expect(rows(queue.next(atMost: 10)) == [1, 2])
        #expect(!queue.add(entry(&queue, 3)) { _ in })
        #expect(rows(queue.next(atMost: 10)) == [3])
        guard case .rest = queue.next(atMost: 10) else {
            Issue.record("something flew")
            return
        }
        #expect(queue.add(entry(&queue, 4)) { _ in })
    }

    @Test func aMarkPassesOnlyWhenEverythingBeforeItHasFlown() {
        var queue = Queue()
        _ = queue.add(entry(&queue, 1)) { _ in }
        _ = queue.mark(queue.number()) {}
        _ = queue.add(entry(&queue, 2)) { _ in }
        #expect(rows(queue.next(atMost: 10)) == [1])
        guard case .passed = queue.next(atMost: 10) else {
            Issue.record("the mark did not pass")
            return
        }
        #expect(rows(queue.next(atMost: 10)) == [2])
    }

    @Test func postponedRowsComeFirstAndInTheirOrder() {
        var queue = Queue()
        for row in 1...4 { _ = queue.add(entry(&queue, row)) { _ in } }
        guard case .fly(let flight) = queue.next(atMost: 3) else {
            Issue.record("nothing flew")
            return
        }
        #expect(flight.map(\.row) == [1, 2, 3])
        queue.postpone([flight[1], flight[2]])
        #expect(queue.flying == 1)
        #expect(queue.waiting == 3)
        #expect(rows(queue.next(atMost: 10)) == [2, 3, 4])
    }

    /// Whatever happens in whatever order: each row lands once or leaves once, rows of a flight are in the order in which they
    /// came, and the counts are those of a plain list.
    @Test func randomEventsLoseNothing() {
        var generator = SystemRandomNumberGenerator()
        var queue = Queue()
        var waiting: [Int] = []
        var flight: [Queue.Entry] = []
        var left: Set<Int> = []
        var ended: [Int: Int] = [:]
        var added = 0
        for _ in 0..<100_000 {
            switch Int.random(in: 0..<10, using: &generator) {
            case 0..<4:
                let new = entry(&queue, added)
                _ = queue.add(new) { _ in }
                waiting.append(new.number)
                added += 1
            case 4 where flight.isEmpty, 5 where flight.isEmpty:
                if case .fly(let entries) = queue.next(atMost: Int.random(in: 1...7, using: &generator)) {
                    flight = entries
                    #expect(entries.map(\.number) == Array(waiting.prefix(entries.count)))
                    waiting.removeFirst(entries.count)
                } else {
                    #expect(waiting.isEmpty)
                }
            case 6 where flight.count > 1:
                let postponed = Array(flight.suffix(flight.count / 2))
                flight.removeLast(postponed.count)
                queue.postpone(postponed)
                waiting = postponed.map(\.number).filter { !left.contains($0) } + waiting
            case 7, 8:
                for entry in flight {
                    let isThere = queue.land(entry.number) != nil
                    #expect(isThere == !left.contains(entry.number))
                    if isThere { ended[entry.number, default: 0] += 1 }
                }
                flight = []
            default:
                guard let number = (waiting + flight.map(\.number)).randomElement(using: &generator),
                    !left.contains(number)
                else { continue }
                guard let (_, isFlying) = queue.leave(number) else {
                    Issue.record("row \(number) was gone")
                    return
                }
                #expect(isFlying == flight.contains { $0.number == number })
                left.insert(number)
                waiting.removeAll { $0 == number }
                ended[number, default: 0] += 1
            }
            #expect(queue.waiting == waiting.count)
            #expect(queue.flying == flight.count)
        }
        #expect(ended.values.allSatisfy { $0 == 1 })
        #expect(ended.count == added - waiting.count - flight.filter { !left.contains($0.number) }.count)
    }
}
