import Synchronization

extension PostgresQuery {
    /// A finished SQL text that a library keeps and runs again and again. Its number, not its characters, is the first key
    /// of the statement cache.
    public struct Text: Sendable {
        // Numbers are never used twice, as an address could be.
        private static let numbers = Atomic<UInt64>(0)

        let extras: QueryExtras
        let number: UInt64

        /// - Parameter unsafeSQL: SQL with `$1`, `$2`, ... for its parameters. Identifiers in it must be quoted already.
        public init(unsafeSQL sql: String) {
            extras = QueryExtras(finishedSQL: sql)
            number = Text.numbers.add(1, ordering: .relaxed).newValue
        }

        /// The text as it was given.
        public var sql: String { extras.finishedSQL ?? "" }
    }

    /// A query from a finished text and its parameters.
    ///
    /// - Parameters:
    ///   - text: the text; keep it, and make it once.
    ///   - parameterCount: how many parameters `parameters` appends; sizes the one allocation.
    ///   - parameters: appends one parameter for each `$n` of the text, in order.
    public init(_ text: Text, parameterCount: Int = 4, parameters: (inout PostgresEncoder) -> Void) {
        var encoder = PostgresEncoder(segments: parameterCount &+ 1, bytes: parameterCount &* 32)
        encoder.extras = text.extras
        encoder.appendSegment(.text, UInt(truncatingIfNeeded: text.number), 0)
        parameters(&encoder)
        storage = encoder.seal()
    }
}
