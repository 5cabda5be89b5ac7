/// What a text depends on besides the shape.
struct UpsertForm: Hashable, Sendable {
    /// Where the rows come from.
    enum Source: Hashable, Sendable {
        /// `VALUES ($1, $2)`
        case row
        /// `SELECT * FROM unnest($1::text[], $2::int8[])`
        case arrays
        /// `VALUES ($1, $2), ($3, $4)`: so many rows.
        case values(Int)
        /// `SELECT c1, c2 FROM pg_temp.upsert_stage`
        case stage
    }

    var source: Source
    /// How outcomes are told; `lock` where none are asked for.
    var evidence = OutcomeEvidence.lock
    /// Whether the rows that inherit from the table can be told from its own; a view has no system columns. True where it does not
    /// matter.
    var hasSystemColumns = true
    /// Texts of the upsert stand in the statement, where they get a type by their place, and are not parameters: for a function, whose
    /// parameters have types of their own.
    var holdsTexts = false
    /// Whether rows carry their number though the upsert leaves none out.
    var isNumbered = false
    /// The columns that are left out; the bit of each is its place in `TableLayout.fieldColumns`.
    var absent: UInt64 = 0
}
