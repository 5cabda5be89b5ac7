/// Statements that go out together, in one round trip.
///
/// ```swift
/// var pipeline = PostgresPipeline(.atomic)
/// let names = ids.map { pipeline.add(PostgresQuery("SELECT name FROM users WHERE id = \($0)").as(String?.self)) }
/// pipeline.add("UPDATE users SET seen = now()")
/// let results = try await db.run(pipeline)
/// for name in names { print(try results[name].one() ?? "-") }
/// ```
public struct PostgresPipeline: Sendable {
    /// Where the Sync messages go, which decides what an error takes with it.
    public enum Sync: Sendable, Hashable {
        /// A Sync after each statement: each is its own transaction, and an error stays with its statement.
        case isolated
        /// One Sync at the end: all of it happens or nothing, unless it holds its own BEGIN and COMMIT.
        case atomic
        /// One transaction in which each statement has a savepoint of its own: one that fails is undone, the others are committed.
        /// Costs the server three short statements more for each, and no round trip. On a connection it is BEGIN to COMMIT; in a
        /// transaction it is a part of that. It cannot hold statements that begin or end a transaction.
        case savepoints
    }

    /// Remembers the type of a statement's rows, so that results need no casts.
    public struct Ticket<Row>: Sendable {
        @usableFromInline let index: Int
        @usableFromInline let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row

        @inlinable
        init(index: Int, decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row) {
            self.index = index
            self.decode = decode
        }
    }

    /// What became of each statement.
    public struct Results: Sendable {
        @usableFromInline let replies: [Reply]

        @usableFromInline init(replies: [Reply]) { self.replies = replies }

        /// As many as the pipeline had statements.
        public var count: Int { replies.count }

        /// The rows of a statement, or its error, which is thrown when they are read.
        @inlinable
        public subscript<Row>(_ ticket: Ticket<Row>) -> PostgresRows<Row> {
            guard ticket.index < replies.count else {
                return PostgresRows(reply: Reply(error: Results.foreignTicket), decode: ticket.decode)
            }
            return PostgresRows(reply: replies[ticket.index], decode: ticket.decode)
        }

        /// The error of each statement, in order; nil for those that succeeded.
        public var errors: [PostgresError?] { replies.map(\.error) }

        /// Throws the first error, if there is one: of an atomic pipeline, the error that the others failed for.
        public func check() throws(PostgresError) {
            let failures = replies.compactMap(\.error)
            if let error = failures.first(where: { $0.outcome != .aborted }) ?? failures.first { throw error }
        }

        @usableFromInline
        static var foreignTicket: PostgresError {
            PostgresError(code: .invalidArgument, message: "the ticket is of another pipeline", outcome: .notSent)
        }
    }

    @usableFromInline
    struct Item: Sendable {
        @usableFromInline let query: PostgresQuery
        @usableFromInline let formats: ResultFormats

        @inlinable
        init(query: PostgresQuery, formats: ResultFormats) {
            self.query = query
            self.formats = formats
        }
    }

    /// What an error takes with it.
    public var sync: Sync
    @usableFromInline var items: [Item] = []

    /// An empty pipeline.
    @inlinable public init(_ sync: Sync = .isolated) { self.sync = sync }

    /// How many statements it has.
    public var count: Int { items.count }
    /// Whether there is nothing to send.
    public var isEmpty: Bool { items.isEmpty }

    /// Makes room for so many statements at once.
    public mutating func reserveCapacity(_ count: Int) { items.reserveCapacity(count) }

    /// Appends a statement; the ticket finds its rows in the results.
    @inlinable @discardableResult
    public mutating func add<Row>(_ query: PostgresQuery.Typed<Row>) -> Ticket<Row> {
        items.append(Item(query: query.query, formats: query.formats))
        return Ticket(index: items.count &- 1, decode: query.decode)
    }

    /// Appends a statement whose rows, if it has any, are read by column.
    @inlinable @discardableResult
    public mutating func add(_ query: PostgresQuery) -> Ticket<PostgresRow> { add(query.as(PostgresRow.self)) }
}
