import PostgresProtocol
import PostgresTransport
import Synchronization

/// What a result becomes for its caller.
extension ConnectionCore {
    func makeReply(_ result: StatementResult, _ request: Request, _ formats: ResultFormats) -> Reply {
        var columns: PostgresColumns?
        if let statement = request.statement {
            if let description = statement.description ?? result.description, description.columnCount > 0 {
                columns = self.columns(of: statement, description, formats)
            }
        } else if let rows = result.description?.rowDescription {
            columns = PostgresColumns(rows, formats)
        }
        let blocks = (result.firstChunk.map { [$0] } ?? []) + result.moreChunks
        var reply = Reply(blocks: blocks, columns: columns, rowCount: result.rowCount, affected: result.affected)
        settle(result, request, &reply)
        return reply
    }

    /// The columns of a statement that was described before. The last ones are at hand: most connections run few statements.
    @inline(__always)
    func usualColumns() -> PostgresColumns? {
        guard let statement = inbound.request.statement else { return nil }
        if statement === lastColumns.statement, lastColumns.formats == head.formats { return lastColumns.columns }
        guard let description = statement.description else { return nil }
        let columns = description.columnCount > 0 ? columns(of: statement, description, head.formats) : nil
        lastColumns = LastColumns(statement: statement, formats: head.formats, columns: columns)
        return columns
    }

    /// Columns are made once for a statement and its formats.
    private func columns(
        of statement: PreparedStatement, _ description: StatementDescription, _ formats: ResultFormats
    ) -> PostgresColumns? {
        if let known = statement.attachment as? DescribedColumns, known.formats == formats { return known.columns }
        guard let rows = description.rowDescription else { return nil }
        let columns = PostgresColumns(rows, formats)
        statement.attachment = DescribedColumns(formats: formats, columns: columns)
        return columns
    }

    /// What a first execution or a failure means for the statement cache, and the error in our words.
    private func settle(_ result: StatementResult, _ request: Request, _ reply: inout Reply) {
        var failure: PostgresError?
        var again = Reply.Retry.none
        switch result.failure {
        case nil: break
        case .rejected(let report):
            failure = PostgresError(report, outcome: .rejected, sql: request.statement?.key.text)
            if request.parts.contains(.executes) { again = retry(after: report, request, result) }
        case .aborted:
            failure = PostgresError(
                code: .inFailedSqlTransaction, message: "not run: an earlier statement of the group failed",
                outcome: .aborted, sql: request.statement?.key.text)
        case .tooLarge:
            failure = PostgresError(
                code: .resultTooLarge,
                message: "the rows have more than \(request.rowByteLimit) bytes, the bound for a buffered result",
                outcome: .succeeded, sql: request.statement?.key.text,
                hint: "read them with stream(), or raise maximumResultBytes")
        case .copy:
            failure = PostgresError(
                code: .unsupported, message: "the statement is a COPY, which a query cannot run",
                // COPY TO STDOUT ran to its end, and what it copied can be of a statement that changes data.
                outcome: result.tag != 0 ? .succeeded : .rejected,
                sql: request.statement?.key.text, hint: "use copy(into:), copy(from:) or copy(rowsOf:)")
        }
        reply.add(error: failure, retry: again, end: Reply.End(tag: result.tag, status: result.status))
        guard let statement = request.statement else { return }
        state.withLock { state in
            if request.parts.contains(.parses), case .aborted = result.failure {
                // Its Close messages were skipped with it.
                state.outbound.statements.putBack(statement.closing)
            }
            statement.closing = []
            // Evicted while its Parse was on the way, it is still described for those who had bound to it by then.
            if request.parts.contains(.parses), statement.state != .ready {
                if result.isParsed, let description = result.description {
                    statement.description = description
                    if statement.state == .pending { statement.state = .ready }
                } else if result.isParsed {
                    state.outbound.statements.evict(statement)
                } else {
                    state.outbound.statements.remove(statement)
                }
            } else if case .rejected(let report) = result.failure {
                if !result.failedBeforeRunning {
                    // The server has it still: 26000, say, is about an EXECUTE inside.
                } else if report.sqlState == PostgresError.Code.invalidSqlStatementName.rawValue {
                    // The server has forgotten what it had: DEALLOCATE ALL, DISCARD ALL, or it is another server. Inside a
                    // transaction no statement could be sent once more, so the others are not left to fail one by one.
                    let wasReady = statement.state == .ready
                    state.outbound.statements.remove(statement)
                    if wasReady { state.outbound.statements.evictAll() }
                } else if isStalePlan(report) {
                    state.outbound.statements.evict(statement)
                }
            }
        }
    }

    /// Whether an isolated statement outside a transaction, of which nothing was run, is worth sending once more.
    private func retry(after report: ServerReport, _ request: Request, _ result: StatementResult) -> Reply.Retry {
        // Behind BindComplete the error comes from inside the statement, which ran.
        guard result.failedBeforeRunning else { return .none }
        return switch PostgresError.Code(report.sqlState) {
        case .invalidSqlStatementName where !request.parts.contains(.parses): .unnamed
        case .featureNotSupported where isStalePlan(report) && !request.parts.contains(.parses): .unnamed
        case .indeterminateDatatype, .ambiguousFunction: .stringsAsText
        default: .none
        }
    }

    /// The table changed under a cached plan: `cached plan must not change result type`.
    private func isStalePlan(_ report: ServerReport) -> Bool {
        report.sqlState == PostgresError.Code.featureNotSupported.rawValue && report.routine == "RevalidateCachedQuery"
    }
}

/// The columns that were made of a statement's description for certain formats.
final class DescribedColumns: Sendable {
    let formats: ResultFormats
    let columns: PostgresColumns

    init(formats: ResultFormats, columns: PostgresColumns) {
        self.formats = formats
        self.columns = columns
    }
}
