import Postgres

extension UpsertWriter {
    /// A task of its own, so that the caller who happens to start it can be cancelled, and his time can be up, for his own row only.
    func start() { Task.detached { await self.pilot() } }

    private func pilot() async {
        while true {
            let maximumRows = options.maximumRows
            let guests = state.withLock { state in
                let guests = state.queue.next(atMost: maximumRows)
                if !guests.isEmpty {
                    state.statistics.flights &+= 1
                    state.statistics.rowsPerFlight.record(UInt64(guests.count))
                }
                return guests
            }
            if guests.isEmpty { return }
            // Nobody else is in the queue of this writer.
            await fly(guests.compactMap { $0 as? Passenger })
            // Those who were just told mostly come back with another row: they have their turns first, or the next flight would leave with
            // the first few of them, and cost the others a commit.
            if guests.count > 1 { await Task.yield() }
        }
    }

    /// Runs rows as one statement, and tells everybody; splits them when one of them is to blame.
    private func fly(_ flight: [Passenger]) async {
        var attempt = 1
        while true {
            do {
                state.withLock { $0.statistics.statements &+= 1 }
                return land(flight, try await run(flight.map(\.row)))
            } catch {
                if error.mayRunAgain, let pause = options.retry.pause(behindAttempt: attempt) {
                    attempt += 1
                    state.withLock { $0.statistics.retries &+= 1 }
                    try? await Task.sleep(for: pause)
                } else if flight.count > 1, error.isAboutARow, declarationError() == nil {
                    state.withLock { $0.statistics.splits &+= 1 }
                    let middle = flight.count / 2
                    await fly(Array(flight[..<middle]))
                    return await fly(Array(flight[middle...]))
                } else {
                    return fail(flight, error)
                }
            }
        }
    }

    private func land(_ flight: [Passenger], _ outputs: [Output]?) {
        if let outputs, outputs.count != flight.count {
            return fail(
                flight,
                PostgresError(
                    code: .rowCount, message: "table \"\(table)\": \(outputs.count) results of \(flight.count) rows",
                    outcome: .succeeded))
        }
        land(flight) { .success(outputs?[$0]) }
    }

    private func fail(_ flight: [Passenger], _ error: PostgresError) {
        land(flight, failed: flight.count) { _ in .failure(error) }
    }

    private func land(
        _ flight: [Passenger], failed: Int = 0, _ outcome: (Int) -> Result<Output?, PostgresError>
    ) {
        let now = ContinuousClock.now
        state.change { state in
            state.statistics.failedRows &+= failed
            for (index, passenger) in flight.enumerated() {
                state.statistics.wait.record(passenger.since.duration(to: now))
                if state.queue.land(passenger) { passenger.outcome = outcome(index) }
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
