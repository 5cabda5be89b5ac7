extension PostgresFaultProxy {
    /// A way through the proxy.
    public enum Direction: Sendable, Hashable, CaseIterable {
        /// What the client sends.
        case toServer
        /// What the server sends.
        case toClient
    }

    /// How a connection ends.
    public enum Ending: Sendable, Hashable, CaseIterable {
        /// In order, on both sides: each reads what was forwarded, then the end. What it sends afterwards goes nowhere.
        case close
        /// By a RST on both sides. A Unix socket has none: its peers read the end, or ECONNRESET when they had sent something
        /// that was not read.
        case reset
        /// Only in this direction: its receiver reads the end and may go on sending, which is forwarded.
        case halfClose
        /// Nothing more is forwarded either way, and nothing closed, until a peer closes: a link that went dead.
        case stall
    }

    /// The end of a connection, at a byte of one direction.
    public struct Cut: Sendable, Hashable {
        /// The direction whose bytes are counted.
        public var direction: Direction
        /// How many bytes of it are forwarded before the end: 0 ends the connection as soon as it is there.
        public var offset: Int
        /// How it ends.
        public var ending: Ending

        /// Ends a connection behind `offset` bytes of `direction`.
        public init(_ ending: Ending, after offset: Int, of direction: Direction) {
            self.direction = direction
            self.offset = offset
            self.ending = ending
        }
    }

    /// How the bytes of one direction are handed on; the default is at once, as they come.
    public struct Pace: Sendable, Hashable {
        /// How long each byte is on its way; bytes behind it are not held up by it.
        public var delay: Duration = .zero
        /// The bytes of each write: of `1...1`, every byte has its own. Of a range, each size is drawn. Nil: as they come.
        ///
        /// A receiver that does not keep up reads several writes at once all the same; `pause` gives it time.
        public var pieceSize: ClosedRange<Int>?
        /// How long to wait between two writes; of a range, each is drawn.
        public var pause: ClosedRange<Duration> = .zero ... .zero
        /// Holds bytes back until none has come for so long, then writes them together.
        public var coalescing: Duration = .zero
        /// The rate of a slow link. Nil: no limit.
        public var bytesPerSecond: Int?

        /// As they come, at once.
        public init() {}

        /// Every write is one byte.
        public static var byteByByte: Pace {
            var pace = Pace()
            pace.pieceSize = 1...1
            return pace
        }
    }

    /// What is done to a connection.
    public struct Faults: Sendable, Hashable {
        /// The pace of what the client sends.
        public var toServer = Pace()
        /// The pace of what the server sends.
        public var toClient = Pace()
        /// Where the connection ends; nil where its peers want it.
        public var cut: Cut?
        /// What sizes and pauses are drawn by: the same seed draws the same.
        public var seed: UInt64 = 0

        /// Nothing: all is forwarded at once, as it comes.
        public init() {}

        /// Nothing but a cut.
        public init(cut: Cut) { self.cut = cut }

        /// Splits, pauses up to 200 microseconds, delays up to 3 milliseconds and coalescing, as the seed draws them.
        public static func random(seed: UInt64) -> Faults {
            var generator = SeededGenerator(seed: seed)
            var faults = Faults()
            faults.seed = generator.next()
            faults.toServer = .random(using: &generator)
            faults.toClient = .random(using: &generator)
            return faults
        }
    }

    /// What became of a connection.
    public struct Connection: Sendable, Hashable {
        /// The bytes that were forwarded to the server.
        public internal(set) var bytesToServer = 0
        /// The bytes that were forwarded to the client.
        public internal(set) var bytesToClient = 0
        /// How often the client sent something, for the first time or since bytes of the server last reached it: its round trips
        /// if it waits for each reply.
        public internal(set) var turns = 0
        /// Whether the cut that was asked for was reached.
        public internal(set) var wasCut = false
        /// Whether the server could be reached; if not, the client's connection was reset.
        public internal(set) var reachedServer = true
        /// Whether the proxy still has sockets of it open.
        public internal(set) var isOpen = true

        /// The bytes that were forwarded in a direction.
        public func bytes(_ direction: Direction) -> Int { direction == .toServer ? bytesToServer : bytesToClient }
    }
}

extension PostgresFaultProxy.Pace {
    static func random(using generator: inout SeededGenerator) -> Self {
        var pace = Self()
        if Bool.random(using: &generator) {
            let least = Int.random(in: 1...16, using: &generator)
            pace.pieceSize = least...Int.random(in: least...(least * 32), using: &generator)
            if Bool.random(using: &generator) {
                pace.pause = .zero ... .microseconds(Int.random(in: 0...200, using: &generator))
            }
        }
        if Int.random(in: 0..<3, using: &generator) == 0 {
            pace.delay = .microseconds(Int.random(in: 0...3000, using: &generator))
        }
        if Int.random(in: 0..<3, using: &generator) == 0 {
            pace.coalescing = .microseconds(Int.random(in: 0...3000, using: &generator))
        }
        return pace
    }
}

/// SplitMix64: the same numbers for the same seed, on every system.
struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
