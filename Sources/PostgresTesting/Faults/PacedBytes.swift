/// The bytes of one direction between their read and their write: when may how many of them go on.
///
/// It has no socket and no clock: the time is handed in. Bytes are due at their arrival plus the delay or, with coalescing, once
/// nothing has arrived for so long. A write takes at most a piece of what is due, and not past `limit`; after it nothing may go
/// before `nextWrite`, which holds the pause and the rate.
struct PacedBytes {
    typealias Instant = ContinuousClock.Instant

    /// No more is read while so much waits: a slow pace is felt by the sender, as over a slow link.
    private static let capacity = 256 << 10

    private let pace: PostgresFaultProxy.Pace
    private var generator: SeededGenerator
    private var bytes: [UInt8] = []
    /// How many of `bytes` are gone.
    private var taken = 0
    /// What arrived when, as the count of bytes since the start; only kept for a delay.
    private var arrivals: [(end: Int, due: Instant)] = []
    private var lastArrival: Instant?
    private var nextWrite: Instant?
    private var piece: Int?
    /// The bytes that went on since the start.
    private(set) var forwarded = 0
    /// How many may go on in all.
    let limit: Int

    init(_ pace: PostgresFaultProxy.Pace, limit: Int?, seed: UInt64) {
        self.pace = pace
        self.limit = max(limit ?? Int.max, 0)
        generator = SeededGenerator(seed: seed)
    }

    var isEmpty: Bool { taken == bytes.count }
    var wantsMore: Bool { bytes.count - taken < Self.capacity }

    mutating func receive(_ new: UnsafeRawBufferPointer, at now: Instant) {
        if taken == bytes.count {
            bytes.removeAll(keepingCapacity: true)
            taken = 0
        } else if taken > Self.capacity {
            bytes.removeFirst(taken)
            taken = 0
        }
        bytes.append(contentsOf: new)
        lastArrival = now
        if pace.delay > .zero { arrivals.append((forwarded + bytes.count - taken, now + pace.delay)) }
    }

    /// What may be written now; empty if nothing, and then `nextTime` says when to ask again.
    mutating func due(at now: Instant) -> ArraySlice<UInt8> {
        if let nextWrite, nextWrite > now { return [] }
        let count = min(dueCount(at: now), limit - forwarded)
        guard count > 0 else { return [] }
        return bytes[taken..<(taken + min(count, nextPiece()))]
    }

    mutating func wrote(_ count: Int, at now: Instant) {
        taken += count
        forwarded += count
        piece = nil
        while let first = arrivals.first, first.end <= forwarded { arrivals.removeFirst() }
        var wait = pace.pause.lowerBound
        if pace.pause.upperBound > wait {
            let spread = (pace.pause.upperBound - wait) / .nanoseconds(1)
            wait += .nanoseconds(Int64.random(in: 0...Int64(spread), using: &generator))
        }
        if let rate = pace.bytesPerSecond, rate > 0 { wait += .seconds(1) * count / rate }
        nextWrite = wait > .zero ? now + wait : nil
    }

    /// When there may be something due that is not yet; nil while it depends on more bytes to come.
    func nextTime(at now: Instant) -> Instant? {
        guard !isEmpty, forwarded < limit else { return nil }
        var time = now
        if let nextWrite { time = max(time, nextWrite) }
        if let first = arrivals.first { time = max(time, first.due) }
        if pace.coalescing > .zero, let lastArrival { time = max(time, lastArrival + pace.coalescing) }
        return time
    }

    private func dueCount(at now: Instant) -> Int {
        if pace.coalescing > .zero, let lastArrival, lastArrival + pace.coalescing > now, wantsMore { return 0 }
        guard pace.delay > .zero else { return bytes.count - taken }
        return (arrivals.last { $0.due <= now }?.end ?? forwarded) - forwarded
    }

    /// Drawn once for each write, however often it is tried.
    private mutating func nextPiece() -> Int {
        if let piece { return piece }
        var next = Int.max
        if let sizes = pace.pieceSize { next = max(Int.random(in: sizes, using: &generator), 1) }
        // A hundred writes a second.
        if let rate = pace.bytesPerSecond, rate > 0 { next = min(next, max(rate / 100, 1)) }
        piece = next
        return next
    }
}
