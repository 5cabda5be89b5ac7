/// A pipeline each of whose statements succeeds or fails for itself inside one transaction, in one flight.
///
/// A statement that fails puts the transaction into the failed state, and only ROLLBACK TO leads out of it. Nobody is there to
/// send that when it is needed, for everything is on its way already; so it is always sent, and made right in both cases. The
/// savepoint is set anew behind each statement, and each group, which ends with a Sync, begins by going back to it:
///
///     BEGIN; SAVEPOINT s; ROLLBACK TO s; RELEASE s; SAVEPOINT s    Sync
///     ROLLBACK TO s; statement 1; RELEASE s; SAVEPOINT s           Sync
///     ROLLBACK TO s; statement 2; RELEASE s; SAVEPOINT s           Sync
///     ROLLBACK TO s; COMMIT                                        Sync
///
/// If statement 1 succeeded, `s` stands behind it, and going back to it undoes nothing. If it failed, the rest of its group was
/// skipped, `s` still stands before it, and going back undoes that statement and heals the transaction. RELEASE keeps the
/// savepoints from nesting, which would cost the server more with each statement. And if there is no transaction, because BEGIN
/// failed, every group fails at its first statement: nothing runs outside.
///
/// The first group runs each of the three once, so that all are prepared: a Parse in a group that fails may be skipped.
struct SavepointPipeline {
    let items: [PostgresPipeline.Item]
    let placement: SyncPlacement
    /// How many statements the first group has.
    private let opening: Int
    private let count: Int
    private let size: Int

    private static let savepoint: PostgresQuery = "SAVEPOINT postgres_swift_item"
    private static let rollBack: PostgresQuery = "ROLLBACK TO SAVEPOINT postgres_swift_item"
    /// The end inside a transaction that goes on.
    static let release: PostgresQuery = "RELEASE SAVEPOINT postgres_swift_item"

    /// - Parameter end: RELEASE, or COMMIT.
    init(_ leads: [PostgresPipeline.Item], _ statements: [PostgresPipeline.Item], end: PostgresQuery) {
        let savepoint = PostgresPipeline.Item(Self.savepoint)
        let rollBack = PostgresPipeline.Item(Self.rollBack)
        let release = PostgresPipeline.Item(Self.release)
        var items = leads + [savepoint, rollBack, release, savepoint]
        items.reserveCapacity(items.count + statements.count * 4 + 2)
        for statement in statements { items += [rollBack, statement, release, savepoint] }
        items += [rollBack, PostgresPipeline.Item(end)]
        self.items = items
        opening = leads.count + 4
        count = statements.count
        size = 4
        placement = .groups(first: opening, size: size)
    }

    /// The replies that tell of the transaction itself: of its beginning and its end.
    func frame(_ replies: [Reply]) -> [Reply] { Array(replies.prefix(opening) + replies.suffix(2)) }

    /// Why the transaction goes on as a failed one; nil if it does not.
    ///
    /// A statement that fails is healed by the group behind it. There is none behind the last; and where the pipeline was cut short,
    /// what comes behind the cut was not sent.
    func failure(_ replies: [Reply]) -> PostgresError? { frame(replies).lazy.compactMap(\.error).first }

    /// One reply for each statement, inside a transaction that goes on.
    func settledInside(_ replies: [Reply]) -> [Reply] {
        var own = settled(replies)
        if let failure = failure(replies) { own.undo(because: failure, of: statement) }
        return own
    }

    func statement(_ number: Int) -> PostgresQuery { items[opening + number * size + 1].query }

    /// One reply for each statement.
    func settled(_ replies: [Reply]) -> [Reply] {
        guard replies.count == items.count else { return replies }
        var refused: [String: PostgresError] = [:]
        return (0..<count).map { number in
            let group = opening + number * size
            var reply = replies[group + 1]
            // Those who bound to a statement whose Parse failed in this flight hear why it did.
            if let error = reply.error, let sql = error.sql {
                if error.code != .invalidSqlStatementName {
                    if refused[sql] == nil { refused[sql] = error }
                } else if let cause = refused[sql] {
                    reply.add(error: cause)
                }
            }
            // What cannot be kept for itself is undone by the next group.
            if reply.error == nil, let cause = replies[group + 2].error ?? replies[group + 3].error {
                reply.add(error: cause.undone(statement(number)))
            }
            return reply
        }
    }
}

/// The last statements of a transaction, with COMMIT behind them in the same flight.
struct CommitGroup {
    let items: [PostgresPipeline.Item]
    let placement: SyncPlacement
    private let leads: Int
    private let woven: SavepointPipeline?

    private static let commit: PostgresQuery = "COMMIT"

    init(_ leads: [PostgresPipeline.Item], _ statements: [PostgresPipeline.Item], _ sync: PostgresPipeline.Sync) {
        self.leads = leads.count
        if sync == .savepoints {
            let woven = SavepointPipeline(leads, statements, end: Self.commit)
            self.woven = woven
            items = woven.items
            placement = woven.placement
        } else {
            woven = nil
            items = leads + statements + [PostgresPipeline.Item(Self.commit)]
            placement = .atomic
        }
    }

    /// The replies that decide what became of the transaction.
    func frame(_ replies: [Reply]) -> [Reply] { woven?.frame(replies) ?? replies }

    /// One reply for each statement; `error` is why the transaction was not committed.
    func settled(_ replies: [Reply], _ error: PostgresError?) -> [Reply] {
        var own = woven?.settled(replies) ?? Array(replies.dropFirst(leads).dropLast())
        if let error { own.undo(because: error, of: woven?.statement ?? { items[leads + $0].query }) }
        return own
    }
}

extension [Reply] {
    /// What succeeded was undone.
    fileprivate mutating func undo(because error: PostgresError, of statement: (Int) -> PostgresQuery) {
        for index in indices where self[index].error == nil || self[index].error?.outcome == .succeeded {
            self[index].add(error: error.undone(statement(index)))
        }
    }
}

extension PostgresPipeline.Item {
    init(_ query: PostgresQuery) { self.init(query: query, formats: .text) }
}

extension TransactionFlow.Lead {
    var item: PostgresPipeline.Item { PostgresPipeline.Item(query) }
}

extension PostgresError {
    /// For a statement that succeeded and was undone, or may have been, because of this error.
    func undone(_ statement: PostgresQuery) -> PostgresError {
        PostgresError(
            code: code, message: "rolled back with its transaction: \(message)",
            outcome: outcome == .unknown ? .unknown : .aborted, sql: statement.sql, hint: hint)
    }
}
