import PostgresProtocol
import PostgresTransport
import Synchronization

/// Requests past their deadline that could not be cancelled, because others were in flight.
///
/// *Theory of operation.* Nobody waits for them any more, and they run to their ends. But a server that is gone would keep them, and
/// everything behind them, for ever. So while there are any, the connection is looked at each `cancelTimeout`: if the next reply to
/// come is that of such a request, and not a byte has come since the last look, the connection is closed. A request whose
/// own time is not up is never cut off by those behind it. One that is alone by then is cancelled after all. A pipeline of several
/// pieces is like one request: all its pieces are past their deadline with the last.
struct Overdue: Sendable {
    /// The number of the newest such request.
    var newest: Int
    /// What there was at the last look; nil before the first is due.
    var mark: Mark?

    struct Mark: Sendable, Equatable {
        let head: Int
        let bytesReceived: Int
    }
}

extension ConnectionState {
    mutating func noteOverdue(_ number: Int) {
        guard number >= queue.nextNumber &- queue.count else { return }
        overdue = Overdue(newest: max(overdue?.newest ?? number, number), mark: overdue?.mark)
        notePiecesOverdue(before: number)
    }

    /// Of a pipeline only the last piece is waited for, and all are past their deadline with it.
    private mutating func notePiecesOverdue(before last: Int) {
        guard let pipeline = pipeline(of: last) else { return }
        for number in (queue.nextNumber &- queue.count)..<last where self.pipeline(of: number) === pipeline {
            _ = queue.update(number) { request in
                if case .abandoned = request.waiter { request.waiter = .overdue }
            }
        }
    }

    fileprivate var mark: Overdue.Mark {
        Overdue.Mark(head: queue.nextNumber &- queue.count, bytesReceived: statistics.bytesReceived)
    }
}

extension ConnectionCore {
    /// Begins to look, unless somebody does already.
    func watchOverdue() {
        let begins = state.withLock { state in
            guard state.closed == nil, let overdue = state.overdue, overdue.mark == nil else { return false }
            let mark = state.mark
            state.overdue?.mark = mark
            return true
        }
        if begins { lookLater() }
    }

    private func lookLater() {
        let pause = max(limits.cancelTimeout, ConnectionCore.lookInterval)
        _ = loop.schedule(at: Deadline(after: pause)) { self.lookAtOverdue() }
    }

    private enum Finding {
        case nothingLeft
        case goesOn
        case isStuck
        case isAlone(CancelGate)
    }

    func lookAtOverdue() {
        switch state.withLock({ look(&$0) }) {
        case .nothingLeft: break
        case .goesOn: lookLater()
        case .isAlone(let gate):
            startCancelling(gate)
            lookLater()
        case .isStuck:
            close(
                because:
                    "a statement past its deadline did not end, and nothing came from the server for \(limits.cancelTimeout)"
            )
        }
    }

    private func look(_ state: inout ConnectionState) -> Finding {
        let mark = state.mark
        guard state.closed == nil, let overdue = state.overdue, mark.head <= overdue.newest, !state.queue.isEmpty else {
            state.overdue = nil
            return .nothingLeft
        }
        state.overdue?.mark = mark
        guard state.isHeadOverdue else { return .goesOn }
        // Of a pipeline the last piece is the one that can be cancelled.
        if let gate = closeGate(for: state.queue.nextNumber &- 1, &state) { return .isAlone(gate) }
        // What is being cancelled has a bound of its own.
        return mark == overdue.mark && state.cancelGate == nil ? .isStuck : .goesOn
    }
}

extension ConnectionState {
    fileprivate mutating func isOverdue(_ number: Int) -> Bool {
        queue.update(number) { request in
            if case .overdue = request.waiter { true } else { false }
        } ?? false
    }

    fileprivate var isHeadOverdue: Bool {
        mutating get { isOverdue(queue.nextNumber &- queue.count) }
    }
}
