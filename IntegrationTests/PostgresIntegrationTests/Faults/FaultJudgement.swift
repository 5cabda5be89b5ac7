import Postgres
import PostgresTesting
import Testing

/// Whether runs claimed what is true, and failed as a link that fails makes them fail.
extension FaultRuns {
    /// That the errors are those of a link that failed, and that the database agrees with every claim.
    func judge(_ summary: Summary, _ recording: Recording? = nil) async throws {
        let db = try await server.connect()
        let first = summary.runs.map(\.key).min() ?? 0
        let last = (summary.runs.map(\.key).max() ?? 0) + session.keyCount
        let rows = try await db.query(
            "SELECT key FROM faults WHERE key >= \(first) AND key < \(last)", as: Int64.self
        ).all()
        let present = Set(rows)
        for run in summary.runs where !run.isHanging {
            if let error = run.connectError { judge(connectError: error, run) }
            for claim in run.claims { judge(claim, present, run) }
            let written = (run.key..<(run.key + session.keyCount)).count { present.contains($0) }
            if session.isAtomic, written != 0, written != session.keyCount {
                Issue.record("\(written) of \(session.keyCount) rows of one transaction: \(describe(run))")
            }
            if hadEverything(run, recording), run.connectError != nil || !isWhole(run.claims) {
                Issue.record("an error though nothing was missing: \(describe(run))")
            }
        }
        try await expectUsable(db)
        db.close()
    }

    /// Whether every byte of the server reached the client, which then has to believe it, whatever came behind.
    private func hadEverything(_ run: Run, _ recording: Recording?) -> Bool {
        guard let cut = run.faults.cut else { return true }
        return cut.direction == .toClient && cut.offset == recording?.toClient.upperBound && !session.usesTLS
            && session.harmedConnection == 0 && (cut.ending == .close || cut.ending == .halfClose)
    }

    private func judge(connectError error: PostgresError, _ run: Run) {
        let isExpected =
            switch run.faults.cut?.ending {
            // Of a session of which only what follows the connecting is cut, the rest may arrive together with the cut.
            case .stall: error.code == .timedOut
            case .close, .halfClose, .reset:
                error.code == .connectionLost || error.code == .cannotConnect
                    || (session.usesTLS && error.code == .tls)
                    // What the server says when the client's side ends while it waits for the password.
                    || (session.usesSCRAM && error.code == .invalidPassword && run.faults.cut?.ending == .halfClose)
            case nil: false
            }
        if !isExpected || error.outcome != .notSent { Issue.record("\(error): \(describe(run))") }
    }

    private func judge(_ claim: FaultClaim, _ present: Set<Int64>, _ run: Run) {
        let written = claim.keys.count { present.contains($0) }
        let isTruth: Bool
        switch claim.error?.outcome {
        case nil, .succeeded: isTruth = written == claim.keys.count
        case .notSent, .rejected, .aborted: isTruth = written == 0
        case .unknown: isTruth = written == 0 || written == claim.keys.count
        }
        if !isTruth {
            let what = claim.error.map { "\($0)" } ?? "acknowledged"
            Issue.record("\(what), but \(written) of \(claim.keys.count) rows are there: \(describe(run))")
        }
        guard let error = claim.error else { return }
        if !isExpected(error, run.faults.cut?.ending) { Issue.record("\(error): \(describe(run))") }
    }

    private func isExpected(_ error: PostgresError, _ ending: PostgresFaultProxy.Ending?) -> Bool {
        if session.cancels {
            if error.code == .timedOut { return true }
            // Of a request to cancel that had no effect.
            if ending != nil, error.code == .connectionClosed { return true }
            // The proxy ended the connection that cancels as only a server does that has passed the request on.
            if session.harmedConnection == 1, ending == .close || ending == .halfClose, error.code == .queryCanceled {
                return true
            }
        }
        switch (ending, session.use) {
        case (nil, _): return false
        case (_, .pool):
            // Nobody connects for a while after an attempt has failed, and callers are told so.
            return error.code == .connectionLost || error.code == .cannotConnect
                || (ending == .stall && error.code == .timedOut)
        case (.stall, _): return error.code == .connectionClosed
        case (.close, _), (.reset, _): return error.code == .connectionLost
        case (.halfClose, _):
            return error.code == .connectionLost || (session.copiesIn && error.code == .protocolViolation)
        }
    }

    func describe(_ run: Run) -> String {
        guard let cut = run.faults.cut else { return "\(session.name), faults of seed \(run.faults.seed)" }
        return "\(session.name), \(cut.ending) after \(cut.offset) bytes \(cut.direction)"
    }
}
