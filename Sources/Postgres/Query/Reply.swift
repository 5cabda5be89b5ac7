import PostgresProtocol

/// What came back for one statement. Small, because it is copied on the way to its caller.
@usableFromInline
struct Reply: Sendable {
    // A RowChunk, which knows its columns, or a Rare; both are Sendable, `nonisolated(unsafe)` because AnyObject is not. Users' code
    // copies replies and cannot see those classes: one reference to just any object is copied directly, where references to
    // hidden classes need run-time metadata.
    nonisolated(unsafe) private var payload: AnyObject?
    private var isRare = false
    @usableFromInline var rowCount = 0
    @usableFromInline var affected = 0

    /// How a statement that failed is worth sending once more.
    enum Retry: Sendable {
        case none
        case unnamed
        case stringsAsText
    }

    /// How the statement ended.
    struct End: Sendable {
        /// The first eight bytes of the command tag.
        var tag: UInt64 = 0
        /// What ReadyForQuery said; nil if this was not the end of its group.
        var status: TransactionStatus?
    }

    /// Everything that a plain success does not have.
    private final class Rare: Sendable {
        let chunks: [RowChunk]
        let columns: PostgresColumns?
        let error: PostgresError?
        let retry: Retry
        let end: End

        init(chunks: [RowChunk], columns: PostgresColumns?, error: PostgresError?, retry: Retry, end: End) {
            self.chunks = chunks
            self.columns = columns
            self.error = error
            self.retry = retry
            self.end = end
        }
    }

    @usableFromInline
    init() {}

    @usableFromInline
    init(error: PostgresError) { add(error: error) }

    /// A plain success with rows of at most one block.
    init(block: RowChunk?, rowCount: Int, affected: Int) {
        payload = block
        self.rowCount = rowCount
        self.affected = affected
    }

    init(blocks: [RowChunk], columns: PostgresColumns?, rowCount: Int, affected: Int) {
        self.rowCount = rowCount
        self.affected = affected
        payload = Rare(chunks: blocks, columns: columns, error: nil, retry: .none, end: End())
        isRare = true
    }

    // Unchecked casts, and true ones: `payload` and `isRare` are private and set together, here and in `add`: a Rare exactly when it
    // is rare, else the RowChunk of `init(block:)`. The columns of a chunk are set by `takeUsualReply(columns:)` alone, and what
    // the reader hands to it is of the type `PostgresColumns?`.
    private var rare: Rare? { isRare ? payload.map { unsafeDowncast($0, to: Rare.self) } : nil }
    private var block: RowChunk? { isRare ? nil : payload.map { unsafeDowncast($0, to: RowChunk.self) } }

    @usableFromInline var error: PostgresError? { isRare ? rare?.error : nil }
    var retry: Retry { rare?.retry ?? .none }
    var end: End { rare?.end ?? End() }
    var chunks: [RowChunk] { rare?.chunks ?? block.map { [$0] } ?? [] }
    @usableFromInline var columns: PostgresColumns? {
        rare?.columns ?? block?.columns.map { unsafeDowncast($0, to: PostgresColumns.self) }
    }

    /// Adds what is seldom there.
    mutating func add(error: PostgresError? = nil, retry: Retry = .none, end: End? = nil) {
        let known = rare
        payload = Rare(
            chunks: chunks, columns: columns, error: error ?? known?.error,
            retry: retry == .none ? known?.retry ?? .none : retry, end: end ?? known?.end ?? End())
        isRare = true
    }

    /// The only row, when there is just one; without a walk through the blocks.
    @usableFromInline var onlyRow: PostgresRow? {
        guard !isRare else {
            var cursor = RowCursor(self)
            return error == nil && rowCount == 1 && cursor.advance() ? cursor.row : nil
        }
        guard rowCount == 1, let payload else { return nil }
        let chunk = unsafeDowncast(payload, to: RowChunk.self)
        guard chunk.byteCount >= RowChunk.rowHeaderSize, let columns = chunk.columns as? PostgresColumns else {
            return nil
        }
        return PostgresRow(
            cells: chunk.base + RowChunk.rowHeaderSize, byteCount: chunk.byteCount &- RowChunk.rowHeaderSize,
            owner: chunk,
            columns: columns)
    }
}

/// Walks the rows of a reply.
@usableFromInline
struct RowCursor: Sendable {
    @usableFromInline var row: PostgresRow
    // The rest of the current block, which `row.owner` keeps.
    nonisolated(unsafe) private var next: UnsafeRawPointer
    nonisolated(unsafe) private var end: UnsafeRawPointer
    private let blocks: Blocks
    private var blockIndex = 0

    private final class Blocks: Sendable {
        let chunks: [RowChunk]
        init(_ chunks: [RowChunk]) { self.chunks = chunks }
    }

    @usableFromInline
    init(_ reply: Reply) { self.init(reply.chunks, reply.columns ?? .none) }

    /// The rows of one block.
    init(_ chunk: RowChunk, _ columns: PostgresColumns) { self.init([chunk], columns) }

    private init(_ chunks: [RowChunk], _ columns: PostgresColumns) {
        blocks = Blocks(chunks)
        next = RowCursor.nowhere
        end = next
        row = PostgresRow(cells: next, byteCount: 0, owner: blocks, columns: columns)
    }

    // Not read: both ends are here.
    nonisolated(unsafe) private static let nowhere = UnsafeRawPointer(
        UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8))

    /// Reads the row, which a copy would count references for: twice for each row of a stream.
    @inlinable @inline(__always)
    mutating func read<Row>(
        _ decode: (PostgresRow) throws(PostgresError) -> Row
    ) throws(PostgresError) -> Row {
        try withUnsafePointer(to: &row) { (row) throws(PostgresError) in
            // Nothing else can reach the cursor meanwhile: it is borrowed exclusively.
            let borrowed = UnsafeRawPointer(row).assumingMemoryBound(to: BorrowedValue<PostgresRow>.self)
            return try borrowed.pointee.pass(to: decode)
        }
    }

    /// Moves to the next row; false behind the last.
    ///
    /// A block holds whole DataRow messages whose structure was checked when they were copied into it.
    @usableFromInline
    mutating func advance() -> Bool {
        while end - next < RowChunk.rowHeaderSize {
            guard blockIndex < blocks.chunks.count else { return false }
            let chunk = blocks.chunks[blockIndex]
            blockIndex &+= 1
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
