/// One piece of a query's text. A literal's address stands for its text: literals are immortal and never change.
@usableFromInline
struct QuerySegment: Equatable {
    @usableFromInline
    enum Kind: UInt32 {
        /// address and length of a literal's UTF-8
        case literal
        /// address: format code; word: type OID
        case parameter
        /// index into `texts`: a name, to be quoted
        case identifier
        /// index into `texts`: SQL text
        case raw
        /// the number of a `PostgresQuery.Text`
        case text
    }

    @usableFromInline var address: UInt
    @usableFromInline var word: UInt32
    @usableFromInline var kind: Kind

    @inlinable
    init(_ kind: Kind, _ address: UInt, _ word: UInt32) {
        self.kind = kind
        self.address = address
        self.word = word
    }
}

/// What most queries do not have; out of line, so that they pay nothing for it.
@usableFromInline
final class QueryExtras: Sendable {
    /// Texts of identifiers and raw SQL.
    let texts: [String]
    /// The whole text of a query that was finished beforehand (`PostgresQuery.Text`).
    let finishedSQL: String?
    /// The first failure of a value that had no way to throw.
    let failure: PostgresError?

    init(texts: [String] = [], finishedSQL: String? = nil, failure: PostgresError? = nil) {
        self.texts = texts
        self.finishedSQL = finishedSQL
        self.failure = failure
    }
}

@usableFromInline
struct QueryHeader {
    @usableFromInline var segments = 0
    @usableFromInline var segmentCapacity: Int
    @usableFromInline var bytes = 0
    @usableFromInline var parameters = 0
    @usableFromInline var textParameters = 0
    /// Mixed from literal addresses, type OIDs and the bytes of names: the first-level key of the statement cache.
    @usableFromInline var identity: UInt64 = 0
    @usableFromInline var extras: QueryExtras?

    @usableFromInline init(segmentCapacity: Int) { self.segmentCapacity = segmentCapacity }

    var texts: [String] { extras?.texts ?? [] }
    var finishedSQL: String? { extras?.finishedSQL }
    var failure: PostgresError? { extras?.failure }
}

/// A query in one allocation: header, segment records, and behind them the parameter cells as Bind wants them, so that
/// sending is one copy, or none.
///
/// The element is a word and not a byte so that the segment records behind the header are aligned.
@usableFromInline
final class QueryStorage: ManagedBuffer<QueryHeader, UInt64> {
    @inlinable
    static func make(segments: Int, bytes: Int) -> QueryStorage {
        let words = segments &* (MemoryLayout<QuerySegment>.stride / 8) &+ (bytes &+ 7) / 8
        let buffer = QueryStorage.create(minimumCapacity: words) { _ in QueryHeader(segmentCapacity: segments) }
        return unsafeDowncast(buffer, to: QueryStorage.self)
    }

    /// The header without an exclusivity check at each access: nobody changes it after `seal`.
    @inlinable var sealed: UnsafePointer<QueryHeader> { UnsafePointer(withUnsafeMutablePointerToHeader { $0 }) }

    @inlinable var base: UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(withUnsafeMutablePointerToElements { $0 })
    }

    @inlinable var segmentBase: UnsafeMutablePointer<QuerySegment> { base.assumingMemoryBound(to: QuerySegment.self) }

    @inlinable
    func byteBase(segments: Int) -> UnsafeMutableRawPointer { base + segments &* MemoryLayout<QuerySegment>.stride }

    /// The parameter cells; valid while the storage is held.
    @inlinable var cells: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: byteBase(segments: sealed.pointee.segmentCapacity), count: sealed.pointee.bytes)
    }
}
