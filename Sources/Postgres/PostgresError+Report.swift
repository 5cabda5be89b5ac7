import PostgresProtocol

extension PostgresError {
    /// What the server reported.
    init(_ report: ServerReport, outcome: Outcome, sql: String?) {
        var server = Server(
            severity: report.nonlocalizedSeverity, sqlState: report.sqlState, message: report.message)
        server.detail = report.detail
        server.hint = report.hint
        server.position = report.position
        server.internalPosition = report.internalPosition
        server.internalQuery = report.internalQuery
        server.context = report.context
        server.schema = report.schema
        server.table = report.table
        server.column = report.column
        server.dataType = report.dataType
        server.constraint = report.constraint
        server.file = report.file
        server.line = report.line.map { "\($0)" }
        server.routine = report.routine
        self.init(
            code: Code(report.sqlState), message: report.message, outcome: outcome, server: server, sql: sql,
            hint: PostgresError.advice(report))
    }

    /// Where the way this client declares parameters is the likely cause, the server's own hint does not help.
    private static func advice(_ report: ServerReport) -> String? {
        switch Code(report.sqlState) {
        case .undefinedFunction where report.message.contains("bigint"):
            "a Swift Int is sent as bigint: pass Int32, or write $n::int4"
        case .ambiguousFunction, .indeterminateDatatype:
            "a String is sent without a type: say which with $n::text"
        default: nil
        }
    }
}
