import Postgres

/// Puts what the server answered beside the rows that were given.
enum UpsertMatching {
    /// What the server said of one row that was sent.
    struct Report: Sendable, Equatable {
        /// Its place among the rows sent, from 1.
        var ordinal: Int
        /// The number that the row written for it brought back, which is its place again; nil when none was.
        var written: Int?
    }

    /// Where the answer of each input stands, when answers come in sending order.
    static func positions(count: Int, order: [Int]?) -> [Int] {
        guard let order else { return Array(0..<count) }
        var positions = Array(repeating: 0, count: count)
        for (position, input) in order.enumerated() where input < count { positions[input] = position }
        return positions
    }

    /// Which of the reports, in sending order, stand for a row that was really written.
    ///
    /// Each row written is to have brought back the number of one that was sent. A trigger that does such an upsert into the same table
    /// overwrites the number of the row that it was called for; then fewer are found than were written.
    ///
    /// - Parameters:
    ///   - sent: how many rows were sent.
    ///   - total: how many rows were written.
    static func writtenFlags(_ reports: [Report], sent: Int, total: Int) throws(PostgresError) -> [Bool] {
        guard reports.count == sent else { throw mismatch(sent: sent, answered: reports.count) }
        var claimed: Set<Int> = []
        var flags: [Bool] = []
        flags.reserveCapacity(sent)
        for (index, report) in reports.enumerated() {
            guard report.ordinal == index + 1 else { throw mismatch(sent: sent, answered: reports.count) }
            flags.append(report.written.map { claimed.insert($0).inserted } ?? false)
        }
        guard claimed.count == total else {
            throw PostgresError(
                code: .unsupported,
                message:
                    "\(total) rows were written, but only \(claimed.count) of them are known: a trigger upserts into the same"
                    + " table, so it cannot be told which rows were left out",
                outcome: .succeeded,
                hint: "upsert these rows one by one, or do not ask for outcomes")
        }
        return flags
    }

    static func mismatch(sent: Int, answered: Int) -> PostgresError {
        PostgresError(
            code: .unsupported,
            message:
                "\(sent) rows were sent and \(answered) came back: a trigger or a rule suppresses rows, so it cannot be"
                + " told which", outcome: .succeeded, hint: "do not ask for outcomes or columns of many rows at once")
    }
}

extension UpsertShape {
    /// What is said of a row that was neither inserted nor updated.
    func leftOutOutcome(_ action: Action) -> UpsertOutcome {
        // A row without values of its own to compare.
        if action == .nothing, self.action == .update, onlyIfChanged || touchesOnlyChanged { return .unchanged }
        if action != .update { return .skipped }
        switch (filter != nil, onlyIfChanged) {
        case (true, false): return .skipped
        case (false, true): return .unchanged
        case (true, true), (false, false): return .notWritten
        }
    }

    /// The outcome of a row that was written, or found, from the column behind the returned ones; nil when it was not asked for.
    func outcome(_ row: PostgresRow, _ column: Int) throws(PostgresError) -> UpsertOutcome? {
        guard wantsOutcomes else { return nil }
        if try row.decode(column, as: Bool.self) { return .inserted }
        return action == .select ? .skipped : .updated
    }
}

extension Upsert {
    /// The answers of a statement, one for each row sent, in sending order; and how many rows were written.
    func read(
        _ answers: [PostgresRow], of statement: UpsertStatementRows<Row>
    ) throws(PostgresError) -> (outputs: [Output], affected: Int) {
        let shape = definition.shape
        let plan = statement.plan
        let next = shape.returnedCount
        var outputs: [Output] = []
        outputs.reserveCapacity(statement.count)

        if case .matched = plan.answer {
            var reports: [UpsertMatching.Report] = []
            for answer in answers {
                reports.append(
                    UpsertMatching.Report(
                        ordinal: try answer.decode(next, as: Int.self),
                        written: try answer.decode(next + 1, as: Int?.self)))
            }
            let affected = try answers.first?.decode(next + 2, as: Int.self) ?? 0
            let written = try UpsertMatching.writtenFlags(reports, sent: statement.count, total: affected)
            for (answer, isWritten) in zip(answers, written) {
                outputs.append(
                    isWritten
                        ? try output.written(answer, try shape.outcome(answer, next + 3))
                        : try output.leftOut(plan.leftOut))
            }
            return (outputs, affected)
        }
        if statement.count == 1, answers.isEmpty { return ([try output.leftOut(plan.leftOut)], 0) }
        guard answers.count == statement.count else {
            throw UpsertMatching.mismatch(sent: statement.count, answered: answers.count)
        }
        for answer in answers { outputs.append(try output.written(answer, try shape.outcome(answer, next))) }
        guard shape.action == .select else { return (outputs, answers.count) }
        var inserted = 0
        for answer in answers where try answer.decode(next, as: Bool.self) { inserted += 1 }
        return (outputs, inserted)
    }
}
