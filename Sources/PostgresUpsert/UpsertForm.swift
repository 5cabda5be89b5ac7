/// What a text depends on besides the shape.
struct UpsertForm: Hashable, Sendable {
    /// Where the rows come from.
    enum Source: Hashable, Sendable {
        /// `VALUES ($1, $2)`
        case row
        /// `SELECT * FROM unnest($1::text[], $2::int8[])`
        case arrays
    }

    var source: Source
    /// How outcomes are told; `lock` where none are asked for.
    var evidence = OutcomeEvidence.lock
}
