/// What the server answered to one request, or to one statement of a script.
package struct StatementResult: Sendable {
    /// Rows, the first block apart because there is seldom another.
    package var firstChunk: RowChunk?
    package var moreChunks: [RowChunk] = []
    package var rowCount = 0
    package var rowBytes = 0
    /// The count in the command tag.
    package var affected = 0
    /// The first eight bytes of the command tag: enough to tell COMMIT from ROLLBACK.
    package var tag: UInt64 = 0
    /// Told by Describe, or by the simple protocol's RowDescription.
    package var description: StatementDescription?
    package var failure: Failure?
    /// Whether the error came before BindComplete: then nothing of the statement was run.
    package var failedBeforeRunning = false
    /// Whether the statement's Parse was confirmed.
    package var isParsed = false
    /// What the server said last; set when the request ended with ReadyForQuery.
    package var status: TransactionStatus?

    package init() {}

    package enum Failure: Sendable {
        /// The server's ErrorResponse.
        case rejected(ServerReport)
        /// An earlier request of the same group failed; this one was skipped.
        case aborted
        /// More rows than the request's limit allows; they were read and thrown away.
        case tooLarge
        /// The statement was a COPY, which this request cannot do.
        case copy
    }

    /// The first eight bytes of a command tag, as `tag` has them.
    package static func packed(_ text: UnsafeRawBufferPointer) -> UInt64 {
        var packed: UInt64 = 0
        for index in 0..<min(8, text.count) { packed |= UInt64(text[index]) << (8 * UInt64(index)) }
        return packed
    }

    package static let commitTag = packed("COMMIT")

    private static func packed(_ text: StaticString) -> UInt64 {
        packed(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
}
