/// One thing asked of the server, as far as it decides which replies are legal.
///
/// A COPY is a simple Query of that one statement: it needs no Sync, which a server that copies in would ignore, and whatever
/// goes wrong there is exactly one ReadyForQuery.
///
/// An extended request is answered by, in this order:
/// CloseComplete (`closes` times), ParseComplete (`parses`), ParameterDescription and RowDescription or NoData (`describes`),
/// BindComplete (`executes`), the rows up to CommandComplete, EmptyQueryResponse or, if not all rows were asked for (`limited`),
/// PortalSuspended, and ReadyForQuery (`syncs`). An ErrorResponse may stand in the place of any of them; then nothing follows but the ReadyForQuery of the group.
package struct Request: Sendable {
    package struct Parts: OptionSet, Sendable {
        package let rawValue: UInt16
        @inlinable package init(rawValue: UInt16) { self.rawValue = rawValue }

        @inlinable package static var parses: Parts { Parts(rawValue: 1) }
        @inlinable package static var describes: Parts { Parts(rawValue: 2) }
        @inlinable package static var executes: Parts { Parts(rawValue: 4) }
        @inlinable package static var syncs: Parts { Parts(rawValue: 8) }
        /// A simple Query: any number of results, then ReadyForQuery.
        @inlinable package static var simple: Parts { Parts(rawValue: 16) }
        /// Rows are handed over as they come, not collected.
        @inlinable package static var streams: Parts { Parts(rawValue: 32) }
        /// With `simple`: one COPY FROM STDIN, answered by CopyInResponse, CommandComplete and ReadyForQuery.
        @inlinable package static var copiesIn: Parts { Parts(rawValue: 64) }
        /// With `simple`: one COPY TO STDOUT, answered by CopyOutResponse, any number of CopyData, CopyDone, CommandComplete and
        /// ReadyForQuery. With `streams` it is in binary format and handed over as rows; without, as bytes.
        @inlinable package static var copiesOut: Parts { Parts(rawValue: 128) }
        /// So many rows at most, from a portal with a name; without `executes` it was bound by an earlier request.
        @inlinable package static var limited: Parts { Parts(rawValue: 256) }

        /// Executes, and has a Sync of its own. (An array literal of options is built at run time.)
        @inlinable package static var executesAndSyncs: Parts { Parts(rawValue: 12) }
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
