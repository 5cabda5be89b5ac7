/// The key of an advisory lock (manual, "Advisory Locks"): a number, two smaller ones, or a name.
///
/// A name is hashed by the server: `hashtextextended('name', 0)`. So psql can ask for the same lock:
/// `SELECT pg_advisory_lock(hashtextextended('nightly-report', 0))`. The numbers, the pairs and the names of a database are one
/// space each for numbers and names, and another for pairs; locks of different databases have nothing to do with each other.
public struct PostgresAdvisoryLockKey: Sendable, ExpressibleByIntegerLiteral, ExpressibleByStringLiteral {
    /// What stands between the parentheses.
    let arguments: PostgresQuery

    public init(_ key: Int64) { arguments = "\(key)" }
    public init(_ first: Int32, _ second: Int32) { arguments = "\(first), \(second)" }
    public init(_ name: String) { arguments = "hashtextextended(\(name), 0)" }
    public init(integerLiteral value: Int64) { self.init(value) }
    public init(stringLiteral value: String) { self.init(value) }

    func transactionLock(shared: Bool) -> PostgresQuery {
        shared
            ? "SELECT pg_advisory_xact_lock_shared(\(arguments))" : "SELECT pg_advisory_xact_lock(\(arguments))"
    }

    func tryTransactionLock(shared: Bool) -> PostgresQuery.Typed<Bool> {
        let query: PostgresQuery =
            shared
            ? "SELECT pg_try_advisory_xact_lock_shared(\(arguments))"
            : "SELECT pg_try_advisory_xact_lock(\(arguments))"
        return query.as(Bool.self)
    }

    func sessionLock(shared: Bool) -> PostgresQuery {
        shared ? "SELECT pg_advisory_lock_shared(\(arguments))" : "SELECT pg_advisory_lock(\(arguments))"
    }

    func sessionUnlock(shared: Bool) -> PostgresPipeline.Item {
        PostgresPipeline.Item(
            shared ? "SELECT pg_advisory_unlock_shared(\(arguments))" : "SELECT pg_advisory_unlock(\(arguments))")
    }
}

extension PostgresTransaction {
    /// Waits for an advisory lock, and has it until the transaction ends.
    ///
    /// SQL sent: `SELECT pg_advisory_xact_lock(...)`.
    ///
    /// - Parameter shared: whether others may have it, too, if they ask for it shared.
    public func lock(advisory key: PostgresAdvisoryLockKey, shared: Bool = false) async throws(PostgresError) {
        try await execute(key.transactionLock(shared: shared))
    }

    /// Takes an advisory lock until the transaction ends, if nobody has it; says whether it did.
    ///
    /// SQL sent: `SELECT pg_try_advisory_xact_lock(...)`.
    public func tryLock(advisory key: PostgresAdvisoryLockKey, shared: Bool = false) async throws(PostgresError) -> Bool
    {
        try await query(key.tryTransactionLock(shared: shared)).one()
    }
}

extension PostgresBlockingTransaction {
    /// As ``PostgresTransaction/lock(advisory:shared:)``.
    public func lock(advisory key: PostgresAdvisoryLockKey, shared: Bool = false) throws(PostgresError) {
        try execute(key.transactionLock(shared: shared))
    }

    /// As ``PostgresTransaction/tryLock(advisory:shared:)``.
    public func tryLock(advisory key: PostgresAdvisoryLockKey, shared: Bool = false) throws(PostgresError) -> Bool {
        try query(key.tryTransactionLock(shared: shared)).one()
    }
}

extension PostgresConnection {
    /// Waits for an advisory lock of the session, runs the body, and gives the lock back, however the body ends. If that fails,
    /// the connection is closed, which ends the lock too.
    ///
    /// The lock is the session's, not the task's: tasks that share this connection share the lock. Give each a connection of its
    /// own, or lock in a transaction: ``PostgresTransaction/lock(advisory:shared:)``.
    ///
    /// SQL sent: `SELECT pg_advisory_lock(...)`, `SELECT pg_advisory_unlock(...)`.
    ///
    /// - Throws: the body's error, or the one of waiting for the lock. If the task is cancelled while it waits, the lock is given
    ///   back as soon as the server grants it; until then the connection is busy.
    @discardableResult
    public func withAdvisoryLock<Success>(
        _ key: PostgresAdvisoryLockKey, shared: Bool = false, _ body: () async throws -> Success
    ) async throws -> Success {
        do {
            try await execute(key.sessionLock(shared: shared))
        } catch {
            // It may be granted yet, when nobody waits for it any more.
            if error.outcome == .unknown || error.outcome == .succeeded { unlockUngranted(key, shared: shared) }
            throw error
        }
        let result: Success
        do {
            result = try await body()
        } catch {
            await core.unlock(key, shared: shared)
            throw error
        }
        await core.unlock(key, shared: shared)
        return result
    }
}

extension PostgresConnection {
    /// Gives back a lock that is about to be granted, when nobody waits for it any more. It is queued when this returns: behind the
    /// lock, and before anything that a pool sends, or whoever gets the connection from it next.
    private func unlockUngranted(_ key: PostgresAdvisoryLockKey, shared: Bool) {
        guard let begun = core.beginUnlock(key, shared: shared) else { return }
        if let number = core.launch(begun) {
            Task.detached { [core] in await core.settleUnlock(number) }
        } else {
            // Somebody else has the connection for itself. The task keeps it, so that a pool closes it and lends it to nobody.
            Task.detached { [self] in await core.unlock(key, shared: shared) }
        }
    }
}

extension PostgresBlockingConnection {
    /// As ``PostgresConnection/withAdvisoryLock(_:shared:_:)``.
    @discardableResult
    public func withAdvisoryLock<Success>(
        _ key: PostgresAdvisoryLockKey, shared: Bool = false, _ body: () throws -> Success
    ) throws -> Success {
        do {
            try execute(key.sessionLock(shared: shared))
        } catch {
            if error.outcome == .unknown || error.outcome == .succeeded { core.unlockBlocking(key, shared: shared) }
            throw error
        }
        defer { core.unlockBlocking(key, shared: shared) }
        return try body()
    }
}

extension ConnectionCore {
    /// Gives a session's lock back, cancelled or not.
    nonisolated(nonsending) fileprivate func unlock(_ key: PostgresAdvisoryLockKey, shared: Bool) async {
        do throws(PostgresError) {
            let replies = try await run([key.sessionUnlock(shared: shared)], .isolated, as: nil, .hasToHappen)
            if let error = replies.compactMap(\.error).first { throw error }
        } catch { closeWithLock(error) }
    }

    /// - Returns: nil if it is too late, or if that cannot be sent: then the connection is closed.
    fileprivate func beginUnlock(_ key: PostgresAdvisoryLockKey, shared: Bool) -> Begun? {
        do throws(PostgresError) {
            return try beginUnnamed(key.sessionUnlock(shared: shared).query, as: nil, blocking: false)
        } catch {
            closeWithLock(error)
            return nil
        }
    }

    nonisolated(nonsending) fileprivate func settleUnlock(_ number: Int) async {
        if let error = await waitForEnd(of: number, until: endDeadline(), .asksServer).0.error { closeWithLock(error) }
    }

    fileprivate func unlockBlocking(_ key: PostgresAdvisoryLockKey, shared: Bool) {
        do throws(PostgresError) {
            let replies = try runBlocking([key.sessionUnlock(shared: shared)], .isolated, as: nil, .hasToHappen)
            if let error = replies.compactMap(\.error).first { throw error }
        } catch { closeWithLock(error) }
    }

    private func closeWithLock(_ error: PostgresError) {
        fail(error.with(outcome: .unknown, message: "an advisory lock could not be given back: \(error.message)"))
    }
}
