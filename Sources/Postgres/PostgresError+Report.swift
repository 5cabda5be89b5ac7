import PostgresProtocol

extension PostgresError {
    /// What the server reported.
    init(_ report: ServerReport, outcome: Outcome, sql: String?) {
        self.init(
            code: Code(report.sqlState), message: report.message, outcome: outcome, server: Server(report), sql: sql,
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

extension PostgresError.Server {
    /// The fields as they came.
    init(_ report: ServerReport) {
        self.init(severity: report.nonlocalizedSeverity, sqlState: report.sqlState, message: report.message)
        detail = report.detail
        hint = report.hint
        position = report.position
        internalPosition = report.internalPosition
        internalQuery = report.internalQuery
        context = report.context
        schema = report.schema
        table = report.table
        column = report.column
        dataType = report.dataType
        constraint = report.constraint
        file = report.file
        line = report.line.map { "\($0)" }
        routine = report.routine
    }
}
