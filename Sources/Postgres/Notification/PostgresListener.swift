import PostgresTransport

/// Listens to channels on a connection of its own, and connects again whenever that breaks.
///
/// ```swift
/// for try await event in PostgresListener(configuration, channels: "jobs") {
///     switch event {
///     case .notification(let notification): run(notification.payload)
///     case .gap: catchUp()  // read from the tables what may have been missed
///     }
/// }
/// ```
/// The server keeps no notifications for who is away. So after every loss there is one `gap` as soon as it listens again:
/// whatever was committed before it may be missed, whatever is committed after it comes.
///
/// It connects when its iterator is asked for the first time, and ends with it. Each iterator has a connection of its own.
public struct PostgresListener: AsyncSequence, Sendable {
    public enum Element: Sendable {
        case notification(PostgresNotification)
        /// It listens again; notifications may have been lost before.
        case gap(Gap)
    }
    public typealias Failure = PostgresError

    /// A time in which nobody listened.
    public struct Gap: Sendable {
        /// When the loss was noticed. It may have happened before.
        public let since: ContinuousClock.Instant
        /// Why.
        public let cause: PostgresError
    }

    /// When to connect again.
    public struct Backoff: Sendable, Hashable {
        /// The longest pause before the second attempt; it doubles with each. The first attempt comes at once.
        public var initial: Duration
        /// No pause is longer.
        public var maximum: Duration
        /// Attempts in a row after which the last error is thrown; nil goes on for ever.
        public var attempts: Int?

        /// Each pause is a random part of its bound, so that a thousand clients do not come back at the same moment.
        public init(
            initial: Duration = .milliseconds(100), maximum: Duration = .seconds(30), attempts: Int? = nil
        ) {
            self.initial = initial
            self.maximum = maximum
            self.attempts = attempts
        }

        /// The bound of the pause before an attempt, from 1.
        func bound(before attempt: Int) -> Duration {
            guard attempt > 1 else { return .zero }
            var bound = Swift.min(initial, maximum)
            for _ in 2..<Swift.max(2, Swift.min(attempt, 64)) {
                if bound >= maximum / 2 { return maximum }
                bound *= 2
            }
            return Swift.max(.zero, bound)
        }

        func pause(before attempt: Int) -> Duration { bound(before: attempt) * Double.random(in: 0...1) }
    }

    let configuration: PostgresConfiguration
    let channels: [String]
    let limit: Int
    let backoff: Backoff

    /// - Parameters:
    ///   - configuration: how to reach the server.
    ///   - channels: as for ``PostgresConnection/listen(to:bufferingUpTo:)-(String...,_)``.
    ///   - limit: how many notifications are kept for a consumer that does not read; more of them make a gap.
    ///   - backoff: when to connect again.
    public init(
        _ configuration: PostgresConfiguration, channels: String..., bufferingUpTo limit: Int = 1024,
        backoff: Backoff = Backoff()
    ) {
        self.init(configuration, channels: channels, bufferingUpTo: limit, backoff: backoff)
    }

    /// Listens to any number of channels.
    public init(
        _ configuration: PostgresConfiguration, channels: [String], bufferingUpTo limit: Int = 1024,
        backoff: Backoff = Backoff()
    ) {
        self.configuration = configuration
        self.channels = channels
        self.limit = limit
        self.backoff = backoff
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        private let listener: PostgresListener
        private var connection: PostgresConnection?
        private var notifications: PostgresNotifications.AsyncIterator?
        private var loss: Gap?
        private var attempt = 0
        private var listeningSince = ContinuousClock.now

        init(_ listener: PostgresListener) { self.listener = listener }

        /// The next notification or gap.
        ///
        /// ``withPostgresTimeout(_:_:)`` bounds it: waiting for notifications, connecting again, and the pauses before.
        ///
        /// - Throws: `cancelled`, or `timedOut` at the caller's deadline, after which it can be asked again; the error of the first
        ///   attempt ever; and what trying again does not change, such as a wrong password. Any other error makes a gap.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(PostgresError) -> Element? {
            while true {
                if var current = notifications {
                    do throws(PostgresError) {
                        if let notification = try await current.next() { return .notification(notification) }
                    } catch {
                        if error.isOfCaller { throw error }
                        loss = Gap(since: .now, cause: error)
                        // A server that ends sessions as soon as they listen is not to be hurried.
                        if ContinuousClock.now - listeningSince > listener.backoff.maximum { attempt = 0 }
                    }
                    notifications = nil
                }
                do throws(PostgresError) {
                    try await listen()
                } catch {
                    if error.isOfCaller || loss == nil || error.isPermanent { throw error }
                    if let attempts = listener.backoff.attempts, attempt >= attempts { throw error }
                    connection?.close()
                    connection = nil
                    continue
                }
                listeningSince = .now
                if let gap = loss {
                    loss = nil
                    return .gap(gap)
                }
            }
        }

        public mutating func next() async throws(PostgresError) -> Element? { try await next(isolation: #isolation) }

        /// On the connection there is, if only its buffer was full, or on a new one.
        private mutating func listen() async throws(PostgresError) {
            attempt &+= 1
            try await sleep(listener.backoff.pause(before: attempt))
            let current: PostgresConnection
            if let connection, !connection.isClosed {
                current = connection
            } else {
                current = try await PostgresConnection.connect(listener.configuration)
                connection = current
            }
            notifications = try await current.listen(to: listener.channels, bufferingUpTo: listener.limit)
                .makeAsyncIterator()
        }

        private func sleep(_ pause: Duration) async throws(PostgresError) {
            let left = PostgresScope.current?.deadline.remaining
            let time = Swift.min(pause, left ?? pause)
            if time > .zero {
                do {
                    try await Task.sleep(for: time)
                } catch {
                    throw PostgresError(
                        code: .cancelled, message: "the task was cancelled while the listener waited to connect again")
                }
            }
            if time < pause {
                throw PostgresError(
                    code: .timedOut, message: "the deadline passed while the listener waited to connect again",
                    underlying: loss?.cause)
            }
        }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(self) }
}

extension PostgresError {
    /// Whether it is the caller whose patience is at its end.
    fileprivate var isOfCaller: Bool { code == .cancelled || (code == .timedOut && PostgresScope.hasEnded) }

    /// Whether the same attempt will fail in the same way until somebody changes something.
    fileprivate var isPermanent: Bool {
        switch code {
        case .authentication, .invalidConfiguration, .invalidArgument, .invalidPassword,
            .invalidAuthorizationSpecification, .invalidCatalogName, .insufficientPrivilege:
            true
        default: false
        }
    }
}
