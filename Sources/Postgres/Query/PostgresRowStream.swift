import PostgresProtocol

/// The rows of one statement, read as they are wanted.
///
/// ```swift
/// for try await (id, name) in try await db.stream("SELECT id, name FROM users", as: (Int, String).self) { ... }
/// ```
/// It can be iterated once. While it is open the server is held back by a consumer that does not read, and so is everybody behind
/// it on the connection. A query inside the loop on the same connection works as long as the rest of the rows fits into
/// `maximumResultBytes`; otherwise the stream fails with `resultTooLarge` and the query goes on. Leaving the loop early reads the
/// rest and throws it away.
public struct PostgresRowStream<Row>: AsyncSequence, Sendable {
    public typealias Element = Row
    public typealias Failure = PostgresError

    @usableFromInline let handle: RowStreamHandle
    @usableFromInline let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row

    @inlinable
    init(handle: RowStreamHandle, decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row) {
        self.handle = handle
        self.decode = decode
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        @usableFromInline let handle: RowStreamHandle
        @usableFromInline var cursor = RowCursor(Reply())
        @usableFromInline let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row

        @inlinable
        init(handle: RowStreamHandle, decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row) {
            self.handle = handle
            self.decode = decode
        }

        // Inlined, so that decoding is specialized where the type of a row is known.
        @inlinable @inline(__always)
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(PostgresError) -> Row? {
            if cursor.advance() { return try cursor.read(decode) }
            return try await nextBehindBlock(isolation: actor)
        }

        @usableFromInline
        mutating func nextBehindBlock(
            isolation actor: isolated (any Actor)?
        ) async throws(PostgresError) -> Row? {
            while true {
                // Let go of the block before the next is filled, so that it can be the same one.
                cursor = RowCursor(Reply())
                guard let block = try await handle.nextBlock() else { return nil }
                cursor = block
                if cursor.advance() { return try cursor.read(decode) }
            }
        }

        @inlinable
        public mutating func next() async throws(PostgresError) -> Row? { try await next(isolation: #isolation) }
    }

    @inlinable public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(handle: handle, decode: decode) }
}

/// The rows of one statement for the blocking API, read as they are wanted.
public struct PostgresBlockingRowStream<Row> {
    private let handle: RowStreamHandle
    private var cursor = RowCursor(Reply())
    private let decode: @Sendable (PostgresRow) throws(PostgresError) -> Row

    @usableFromInline
    init(handle: RowStreamHandle, decode: @escaping @Sendable (PostgresRow) throws(PostgresError) -> Row) {
        self.handle = handle
        self.decode = decode
    }

    /// The next row; nil behind the last.
    public mutating func next() throws(PostgresError) -> Row? {
        while true {
            if cursor.advance() { return try cursor.read(decode) }
            cursor = RowCursor(Reply())
            guard let block = try handle.nextBlockBlocking() else { return nil }
            cursor = block
        }
    }
}

/// Keeps a stream open: when the sequence and its iterator are gone, the rest of the rows is thrown away.
@usableFromInline
final class RowStreamHandle: Sendable {
    let stream: RowStream
    let core: ConnectionCore
    // Keeps the connection from being closed under the stream.
    private let connection: any AnyObject & Sendable

    init(stream: RowStream, core: ConnectionCore, connection: any AnyObject & Sendable) {
        self.stream = stream
        self.core = core
        self.connection = connection
    }

    deinit { core.abandon(stream) }

    @usableFromInline
    nonisolated(nonsending) func nextBlock() async throws(PostgresError) -> RowCursor? {
        try await core.nextBlock(stream)
    }

    func nextBlockBlocking() throws(PostgresError) -> RowCursor? { try core.nextBlockBlocking(stream) }
}
