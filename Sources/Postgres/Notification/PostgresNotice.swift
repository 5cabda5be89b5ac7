import PostgresProtocol
import PostgresTransport
import Synchronization

/// What the server remarks without an error: a notice, a warning, a debug message.
public struct PostgresNotice: Sendable, Hashable {
    /// The same fields as an error's.
    public let fields: PostgresError.Server
    /// How many notices before this one were dropped because the handler did not keep up.
    public let lostBefore: Int

    /// `WARNING`, `NOTICE`, `DEBUG`, `INFO` or `LOG`, not localized.
    public var severity: String { fields.severity }
    /// The five characters of the SQLSTATE; `00000` for a plain notice.
    public var sqlState: String { fields.sqlState }
    /// The primary message.
    public var message: String { fields.message }
    /// May quote row data.
    public var detail: String? { fields.detail }
    /// The server's advice.
    public var hint: String? { fields.hint }
}

extension PostgresNotice: CustomStringConvertible {
    /// `WARNING 25001: there is already a transaction in progress`
    public var description: String { "\(severity) \(sqlState): \(message)" }
}

/// A closure in a configuration, which is compared: two are equal if they are the same one.
final class NoticeHandler: Sendable, Hashable {
    let handle: @Sendable (PostgresNotice) -> Void

    init(_ handle: @escaping @Sendable (PostgresNotice) -> Void) { self.handle = handle }

    static func == (left: NoticeHandler, right: NoticeHandler) -> Bool { left === right }
    func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
}

/// Notices between the reader, which must run no code of users, and the handler: the newest 64, and one task at a time that
/// hands them over in order.
final class NoticeQueue: Sendable {
    private static let capacity = 64

    private struct State {
        var waiting: [ServerReport] = []
        var lost = 0
        var isBeingDrained = false
    }

    private let handle: @Sendable (PostgresNotice) -> Void
    private let state: Lock<State>

    /// Hands over nothing before `begin`: of a server that has not proved yet who it is the handler is told nothing.
    init(_ handle: @escaping @Sendable (PostgresNotice) -> Void) {
        self.handle = handle
        state = Lock(State(isBeingDrained: true))
    }

    /// The session is there: from now on they are handed over.
    func begin() {
        let hasAny = state.withLock { state in
            if state.waiting.isEmpty { state.isBeingDrained = false }
            return state.isBeingDrained
        }
        if hasAny { Task.detached { self.drain() } }
    }

    func add(_ report: ServerReport) {
        let begins = state.withLock { state in
            if state.waiting.count >= NoticeQueue.capacity {
                state.waiting.removeFirst()
                state.lost &+= 1
            }
            state.waiting.append(report)
            defer { state.isBeingDrained = true }
            return !state.isBeingDrained
        }
        // Not `Task`: whoever reads may be anybody's task, whose values are not the handler's.
        if begins { Task.detached { self.drain() } }
    }

    private func drain() {
        while let notice = next() { handle(notice) }
    }

    private func next() -> PostgresNotice? {
        state.withLock { state in
            if state.waiting.isEmpty {
                state.isBeingDrained = false
                return nil
            }
            let report = state.waiting.removeFirst()
            defer { state.lost = 0 }
            return PostgresNotice(fields: PostgresError.Server(report), lostBefore: state.lost)
        }
    }
}
