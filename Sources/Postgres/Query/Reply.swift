import PostgresProtocol

/// What came back for one statement. Small, because it is copied on the way to its caller; what is seldom there is out of line.
@usableFromInline
struct Reply: Sendable {
    // Always a RowChunk and a More, which are Sendable; `nonisolated(unsafe)` because AnyObject is not. Users' code copies replies
    // and cannot see those classes: a reference to just any object is copied directly, where one to a hidden class, or to a
    // Sendable existential, needs run-time metadata.
    nonisolated(unsafe) private var rows: AnyObject?
    @usableFromInline var columns: PostgresColumns?
    nonisolated(unsafe) private var more: AnyObject?
    @usableFromInline var rowCount = 0
    @usableFromInline var affected = 0

    /// How a statement that failed is worth sending once more.
    enum Retry: Sendable {
        case none
        case unnamed
        case stringsAsText
    }

    /// The first block of rows; apart, because there is seldom another.
    var firstChunk: RowChunk? {
        get { rows.map { unsafeDowncast($0, to: RowChunk.self) } }
        set { rows = newValue }
    }

    /// Everything that a plain success does not have.
    private final class More: Sendable {
        let chunks: [RowChunk]
        let error: PostgresError?
        let retry: Retry
        let end: End

        init(chunks: [RowChunk], error: PostgresError?, retry: Retry, end: End) {
            self.chunks = chunks
            self.error = error
            self.retry = retry
            self.end = end
        }
    }

    /// How the statement ended.
    struct End: Sendable {
        /// The first eight bytes of the command tag.
        var tag: UInt64 = 0
        /// What ReadyForQuery said; nil if this was not the end of its group.
        var status: TransactionStatus?
    }

    @usableFromInline
    init() {}

    @usableFromInline
    init(error: PostgresError) { more = More(chunks: [], error: error, retry: .none, end: End()) }

    // Set by `init(error:)` and `add` only.
    private var rare: More? { more.map { unsafeDowncast($0, to: More.self) } }

    @usableFromInline var error: PostgresError? { rare?.error }
    var moreChunks: [RowChunk] { rare?.chunks ?? [] }
    var hasMoreChunks: Bool { more != nil }
    var retry: Retry { rare?.retry ?? .none }
    var end: End { rare?.end ?? End() }

    /// The only row, when there is just one; without a walk through the blocks.
    @usableFromInline var onlyRow: PostgresRow? {
        guard rowCount == 1, let chunk = firstChunk, chunk.byteCount >= RowChunk.rowHeaderSize else { return nil }
        return PostgresRow(
            cells: chunk.base + RowChunk.rowHeaderSize, byteCount: chunk.byteCount &- RowChunk.rowHeaderSize, owner: chunk,
            columns: columns ?? .none)
    }

    /// Adds what is seldom there.
    mutating func add(chunks: [RowChunk] = [], error: PostgresError? = nil, retry: Retry = .none, end: End? = nil) {
        more = More(
            chunks: chunks.isEmpty ? moreChunks : chunks, error: error ?? self.error,
            retry: retry == .none ? self.retry : retry, end: end ?? self.end)
    }
}

/// Walks the rows of a reply.
@usableFromInline
struct RowCursor: Sendable {
    @usableFromInline var row: PostgresRow
    // The rest of the current block, which `row.owner` keeps.
    nonisolated(unsafe) var next: UnsafeRawPointer
    nonisolated(unsafe) var end: UnsafeRawPointer
    /// The other blocks; usually there are none.
    private let more: Blocks?
    private var chunkIndex = 0

    private final class Blocks: Sendable {
        let chunks: [RowChunk]
        init(_ chunks: [RowChunk]) { self.chunks = chunks }
    }

    @usableFromInline
    init(_ reply: Reply) {
        let chunk = reply.firstChunk ?? RowChunk.empty
        next = chunk.base
        end = next + chunk.byteCount
        row = PostgresRow(cells: next, byteCount: 0, owner: chunk, columns: reply.columns ?? .none)
        more = reply.hasMoreChunks ? Blocks(reply.moreChunks) : nil
    }

    /// The rows of one block.
    init(_ chunk: RowChunk, _ columns: PostgresColumns) {
        next = chunk.base
        end = next + chunk.byteCount
        row = PostgresRow(cells: next, byteCount: 0, owner: chunk, columns: columns)
        more = nil
    }

    /// Moves to the next row; false behind the last.
    ///
    /// A block holds whole DataRow messages whose structure was checked when they were copied into it.
    @usableFromInline
    mutating func advance() -> Bool {
        while end - next < RowChunk.rowHeaderSize {
            guard let more, chunkIndex < more.chunks.count else { return false }
            let chunk = more.chunks[chunkIndex]
            chunkIndex &+= 1
            next = chunk.base
            end = next + chunk.byteCount
            row = PostgresRow(cells: next, byteCount: 0, owner: chunk, columns: row.columns)
        }
        let length = Int(Int32(bigEndian: next.loadUnaligned(fromByteOffset: 1, as: Int32.self)))
        row.cells = next + RowChunk.rowHeaderSize
        row.byteCount = length &- 6
        next += length &+ 1
        return true
    }
}
