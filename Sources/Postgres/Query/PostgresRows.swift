/// The rows of one statement, buffered.
///
/// ```swift
/// for try await (id, name) in try await db.query("SELECT id, name FROM users", as: (Int, String).self) { ... }
/// let count = try await db.query("SELECT count(*) FROM users", as: Int.self).one()
/// ```
/// In a pipeline it holds the outcome of its own statement: a failed one throws when it is read, not before.
public struct PostgresRows<Row>: AsyncSequence {
    public typealias Element = Row
    public typealias Failure = PostgresError

    @usableFromInline let reply: Reply
    @usableFromInline let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row

    @inlinable
    init(reply: Reply, decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row) {
        self.reply = reply
        self.decode = decode
    }

    /// How many rows the statement inserted, updated, deleted or selected, by its command tag.
    public var affected: Int {
        get throws(PostgresError) {
            if let error = reply.error { throw error }
            return reply.affected
        }
    }

    /// Why the statement failed; nil when it succeeded.
    public var error: PostgresError? { reply.error }

    /// Names, types and formats of the columns; empty for a statement without rows.
    public var columns: PostgresColumns { reply.columns ?? .none }

    /// How many rows there are.
    public var count: Int { reply.rowCount }

    /// Every row.
    @inlinable
    public func all() throws(PostgresError) -> [Row] {
        if let error = reply.error { throw error }
        var rows: [Row] = []
        rows.reserveCapacity(reply.rowCount)
        var cursor = RowCursor(reply)
        while cursor.advance() { rows.append(try cursor.read(decode)) }
        return rows
    }

    /// The first row; nil when there is none. Of an optional column this is `nil` for no row and `.some(nil)` for NULL.
    @inlinable
    public func first() throws(PostgresError) -> Row? {
        if let error = reply.error { throw error }
        var cursor = RowCursor(reply)
        return cursor.advance() ? try decode(cursor.row) : nil
    }

    /// The row, when there is exactly one.
    @inlinable
    public func one() throws(PostgresError) -> Row {
        guard let row = reply.onlyRow else { throw wrongRowCount() }
        return try decode(row)
    }

    @usableFromInline @inline(never)
    func wrongRowCount() -> PostgresError {
        reply.error
            ?? PostgresError(code: .rowCount, message: "expected one row, got \(reply.rowCount)", outcome: .succeeded)
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        @usableFromInline var cursor: RowCursor
        @usableFromInline let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row
        @usableFromInline var error: PostgresError?

        @inlinable
        init(_ rows: PostgresRows) {
            cursor = RowCursor(rows.reply)
            decode = rows.decode
            error = rows.reply.error
        }

        @inlinable
        public mutating func next(isolation actor: isolated (any Actor)? = #isolation) async throws(PostgresError)
            -> Row?
        {
            if let error { throw error }
            return cursor.advance() ? try cursor.read(decode) : nil
        }

        @inlinable
        public mutating func next() async throws(PostgresError) -> Row? { try await next(isolation: #isolation) }
    }

    @inlinable public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(self) }
}

extension PostgresRows: Sendable {}
