import Postgres

extension UpsertWriter {
    /// A task of its own, so that the caller who happens to start it can be cancelled, and his time can be up, for his own row only.
    func start() { Task.detached { await self.pilot() } }

    private func pilot() async {
        while true {
            switch state.withLock({ $0.queue.next(atMost: options.maximumRows) }) {
            case .rest: return
            case .passed(let pass): pass()
            case .fly(let entries):
                state.withLock { state in
                    state.statistics.flights &+= 1
                    state.statistics.rowsPerFlight.record(UInt64(entries.count))
                }
                await fly(entries)
            }
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
                if let equal = error.underlying as? UpsertDuplicateKeys, error.code == .duplicateKeys {
                    return await flyWithout(equal, entries, error)
                }
                if error.mayRunAgain, attempt < options.retry.attempts {
                    attempt += 1
                    state.withLock { $0.statistics.retries &+= 1 }
                    try? await Task.sleep(for: options.retry.pause(beforeAttempt: attempt))
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

    /// Only the first row of each key flies now. Nothing was sent yet.
    private func flyWithout(_ equal: UpsertDuplicateKeys, _ entries: [Entry], _ error: PostgresError) async {
        let later = Set(equal.groups.flatMap { $0.sorted().dropFirst() })
        guard !later.isEmpty else { return fail(entries, error) }
        var now: [Entry] = []
        var postponed: [Entry] = []
        for (index, entry) in entries.enumerated() {
            if later.contains(index) { postponed.append(entry) } else { now.append(entry) }
        }
        state.withLock { state in
            state.statistics.postponedRows &+= postponed.count
            state.queue.postpone(postponed)
        }
        await fly(now)
    }

    private func land(_ entries: [Entry], _ outputs: [Output]?) {
        if let outputs, outputs.count != entries.count {
            return fail(
                entries,
                PostgresError(
                    code: .rowCount, message: "table \"\(table)\": \(outputs.count) results of \(entries.count) rows",
                    outcome: .succeeded))
        }
        let landed = state.withLock { state in
            for entry in entries { state.statistics.wait.record(entry.since.duration(to: .now)) }
            return entries.map { state.queue.land($0.number) }
        }
        for (index, land) in landed.enumerated() { land?(.success(outputs?[index])) }
    }

    private func fail(_ entries: [Entry], _ error: PostgresError) {
        let landed = state.withLock { state in
            state.statistics.failedRows &+= entries.count
            for entry in entries { state.statistics.wait.record(entry.since.duration(to: .now)) }
            return entries.map { state.queue.land($0.number) }
        }
        for land in landed { land?(.failure(error)) }
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
            // A value that cannot be encoded, which a codec of the user's may report by any code; not what stands in the way of all.
            ![
                .cancelled, .timedOut, .connectionClosed, .connectionLost, .cannotConnect, .tls, .authentication,
                .brokenProtocol,
                .invalidConfiguration, .unsupported, .transactionEnded,
            ].contains(code)
        case .rejected:
            // A policy of row security is 42501, as a missing privilege is.
            !Self.classesOfAll.contains(String(code.rawValue.prefix(2)))
                || (code == .insufficientPrivilege && server?.routine == "ExecWithCheckOptions")
        case .aborted, .succeeded, .unknown: false
        }
    }

    /// Classes of SQLSTATE that are about the statement, the session or the server (manual, "PostgreSQL Error Codes").
    private static let classesOfAll: Set<String> = [
        "08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "F0", "XX",
    ]
}
