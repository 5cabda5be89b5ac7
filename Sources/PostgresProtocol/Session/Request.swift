/// One thing asked of the server, as far as it decides which replies are legal.
///
/// An extended request is answered by, in this order:
/// CloseComplete (`closes` times), ParseComplete (`parses`), ParameterDescription and RowDescription or NoData (`describes`),
/// BindComplete and the rows up to CommandComplete, EmptyQueryResponse or PortalSuspended (`executes`), and ReadyForQuery
/// (`syncs`). An ErrorResponse may stand in the place of any of them; then nothing follows but the ReadyForQuery of the group.
package struct Request: Sendable {
    package struct Parts: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        package static let parses = Parts(rawValue: 1)
        package static let describes = Parts(rawValue: 2)
        package static let executes = Parts(rawValue: 4)
        package static let syncs = Parts(rawValue: 8)
        /// A simple Query: any number of results, then ReadyForQuery.
        package static let simple = Parts(rawValue: 16)
        /// Rows are handed over as they come, not collected.
        package static let streams = Parts(rawValue: 32)
    }

    package var parts: Parts
    package var closes: Int
    /// The statement executed, or parsed.
    package var statement: PreparedStatement?
    /// More bytes of rows than this fail the request.
    package var rowByteLimit: Int

    package init(
        _ parts: Parts, closes: Int = 0, statement: PreparedStatement? = nil, rowByteLimit: Int = .max
    ) {
        self.parts = parts
        self.closes = closes
        self.statement = statement
        self.rowByteLimit = rowByteLimit
    }
}
