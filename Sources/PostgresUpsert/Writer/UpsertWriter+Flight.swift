import Postgres

extension UpsertWriter {
    /// A task of its own, so that the caller who happens to start it can be cancelled, and his time can be up, for his own row only.
    func start() { Task.detached { await self.pilot() } }

    private func pilot() async {
        while true {
            let entries = state.withLock { state in
                let entries = state.queue.next(atMost: options.maximumRows)
                if !entries.isEmpty {
                    state.statistics.flights &+= 1
                    state.statistics.rowsPerFlight.record(UInt64(entries.count))
                }
                return entries
            }
            if entries.isEmpty { return }
            await fly(entries)
        }
    }

    /// Runs rows as one statement, and tells everybody; splits them when one of them is to blame.
    private func fly(_ entries: [Entry]) async {
        var attempt = 1
        while true {
            do {
                state.withLock { $0.statistics.statements &+= 1 }
                return land(entries, try await run(entries.map(\.row)))
            } catch {
                if error.mayRunAgain, let pause = options.retry.pause(behindAttempt: attempt) {
                    attempt += 1
                    state.withLock { $0.statistics.retries &+= 1 }
                    try? await Task.sleep(for: pause)
                } else if entries.count > 1, error.isAboutARow, declarationError() == nil {
                    state.withLock { $0.statistics.splits &+= 1 }
                    let middle = entries.count / 2
                    await fly(Array(entries[..<middle]))
                    return await fly(Array(entries[middle...]))
                } else {
                    return fail(entries, error)
                }
            }
        }
    }

    private func land(_ entries: [Entry], _ outputs: [Output]?) {
        if let outputs, outputs.count != entries.count {
            return fail(
                entries,
                PostgresError(
                    code: .rowCount, message: "table \"\(table)\": \(outputs.count) results of \(entries.count) rows",
                    outcome: .succeeded))
        }
        let now = ContinuousClock.now
        change { state in
            for (index, entry) in entries.enumerated() {
                state.statistics.wait.record(entry.since.duration(to: now))
                state.queue.land(entry.number, .success(outputs?[index]))
            }
        }
    }

    private func fail(_ entries: [Entry], _ error: PostgresError) {
        let now = ContinuousClock.now
        change { state in
            state.statistics.failedRows &+= entries.count
            for entry in entries {
                state.statistics.wait.record(entry.since.duration(to: now))
                state.queue.land(entry.number, .failure(error))
            }
        }
    }
}

extension PostgresError {
    /// The server gave up a transaction for the sake of others; nothing of it took effect.
    var mayRunAgain: Bool {
        outcome == .rejected && (code == .deadlockDetected || code == .serializationFailure)
    }

    /// Whether one row may be to blame, and others be written without it.
    var isAboutARow: Bool {
        switch outcome {
        case .notSent:
            // A value that cannot be encoded: by one of the library's codes for that, or whatever a codec of the user's reports. The
            // others of the library's codes, as those of the pool, and what a server says of a connection stand in the way of all.
            server == nil
                && ([.invalidArgument, .typeMismatch, .cannotDecode, .unexpectedNull].contains(code)
                    || !code.rawValue.hasPrefix("client."))
        case .rejected:
            // A policy of row security is 42501, as a missing privilege is, and a trigger may RAISE an error of any class.
            !Self.classesOfAll.contains(String(code.rawValue.prefix(2)))
                || (code == .insufficientPrivilege && server?.routine == "ExecWithCheckOptions")
                || ["exec_stmt_raise", "exec_stmt_assert"].contains(server?.routine ?? "")
        case .aborted, .succeeded, .unknown: false
        }
    }

    /// Classes of SQLSTATE that are about the statement, the session or the server (manual, "PostgreSQL Error Codes").
    private static let classesOfAll: Set<String> = [
        "08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "F0", "XX",
    ]
}
