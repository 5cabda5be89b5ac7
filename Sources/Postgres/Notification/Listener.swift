/// What has come for one listener and was not read yet.
///
/// Safe to share: its variables are used under the connection's lock only.
final class Listener: @unchecked Sendable {
    /// Each once, or what comes there would come twice.
    let channels: [String]
    let limit: Int
    /// Why nothing more will come.
    private(set) var error: PostgresError?
    var consumer = InFlight.Waiter.unclaimed
    private var waiting: [PostgresNotification] = []
    private var first = 0

    init(channels: [String], limit: Int) {
        var known: Set<[UInt8]> = []
        self.channels = channels.filter { known.insert(Array($0.utf8)).inserted }
        self.limit = max(1, limit)
    }

    /// Takes a notification, or ends because there are too many.
    ///
    /// - Returns: who is to be woken.
    func add(_ notification: PostgresNotification) -> InFlight.Waiter {
        guard error == nil else { return .unclaimed }
        if waiting.count &- first < limit {
            waiting.append(notification)
        } else {
            error = .notificationsLost(limit)
        }
        return takeConsumer()
    }

    func takeConsumer() -> InFlight.Waiter {
        defer { consumer = .unclaimed }
        return consumer
    }

    func takeFirst() -> PostgresNotification? {
        guard first < waiting.count else { return nil }
        defer {
            first &+= 1
            if first == waiting.count {
                waiting.removeAll(keepingCapacity: waiting.count <= 64)
                first = 0
            } else if first >= 512 {
                // Read ones must not pile up in front of a listener that is never quite done.
                waiting.removeFirst(first)
                first = 0
            }
        }
        return waiting[first]
    }

    var hasSomething: Bool { first < waiting.count || error != nil }
}

/// Who listens to what on one connection. Names are compared by their bytes, as the server does: for `String` two forms of a
/// letter are one.
struct Listeners: Sendable {
    private var byChannel: [[UInt8]: [Listener]] = [:]

    var isEmpty: Bool { byChannel.isEmpty }

    func contains(_ channel: String) -> Bool { byChannel[Array(channel.utf8)] != nil }

    func listeners(to channel: String) -> [Listener] { byChannel[Array(channel.utf8)] ?? [] }

    mutating func add(_ listener: Listener) {
        for channel in listener.channels { byChannel[Array(channel.utf8), default: []].append(listener) }
    }

    mutating func remove(_ listener: Listener) {
        for channel in listener.channels {
            let key = Array(channel.utf8)
            guard var others = byChannel[key] else { continue }
            others.removeAll { $0 === listener }
            byChannel[key] = others.isEmpty ? nil : others
        }
    }

    /// Everybody who waits.
    func takeConsumers() -> [InFlight.Waiter] {
        byChannel.values.joined().map { $0.takeConsumer() }
    }
}

extension PostgresError {
    static func notificationsLost(_ limit: Int) -> PostgresError {
        PostgresError(
            code: .notificationsLost,
            message: "more than \(limit) notifications were waiting to be read; those that came after them are lost",
            hint: "read them faster, or listen with a larger bufferingUpTo")
    }
}
