import PostgresProtocol

/// A query text that this connection has met: the first level of the statement cache.
///
/// Found by the query's identity, and confirmed by comparing segment records, which holds because literals are immortal; so a
/// known query is never rendered as text again. It keeps no parameter values.
///
/// Safe to share: used only under the connection's lock.
final class KnownQuery: @unchecked Sendable {
    let identity: UInt64
    private let segments: [QuerySegment]
    private let texts: [String]
    private let declaredTypes: [UInt32]
    private let sql: [UInt8]
    let parameterFormats: FormatCodes
    /// Whether strings are declared as text, because the server could not infer their type.
    @exclusivity(unchecked) private(set) var typesStringsAsText = false
    @exclusivity(unchecked) var statement: PreparedStatement?
    /// A text that the server would take for a shorter one.
    let containsZero: Bool

    init(_ query: PostgresQuery) {
        let storage = query.storage
        let header = storage.sealed
        identity = header.pointee.identity
        segments = (0..<header.pointee.segments).map { storage.segmentBase[$0] }
        texts = header.pointee.texts
        sql = Array(query.sql.utf8)
        containsZero = sql.contains(0)
        let parameters = segments.filter { $0.kind == .parameter }
        declaredTypes = parameters.map(\.word)
        parameterFormats = KnownQuery.codes(parameters.map { $0.address == 0 ? .text : .binary })
    }

    /// One code when all are the same, else one each.
    private static func codes(_ formats: [Format]) -> FormatCodes {
        guard let first = formats.first else { return .none }
        return formats.allSatisfy { $0 == first } ? .all(first) : .each(formats)
    }

    func typeStringsAsText() {
        typesStringsAsText = true
        statement = nil
    }

    var key: StatementKey {
        StatementKey(
            sql: sql,
            parameterTypes: typesStringsAsText
                ? declaredTypes.map { $0 == 0 ? PostgresType.text.oid : $0 } : declaredTypes)
    }

    var textLength: Int { sql.count }
    /// More than a Parse message can hold.
    var isTooLong: Bool { sql.count > 0x3FFF_0000 }

    @inline(__always)
    func matches(_ storage: QueryStorage) -> Bool {
        let header = storage.sealed
        guard header.pointee.identity == identity, header.pointee.segments == segments.count else { return false }
        let other = storage.segmentBase
        for index in 0..<segments.count where segments[index] != other[index] { return false }
        return texts.isEmpty ? header.pointee.texts.isEmpty : sameTexts(header.pointee.texts)
    }

    private func sameTexts(_ others: [String]) -> Bool {
        others.count == texts.count && zip(others, texts).allSatisfy { $0.utf8.elementsEqual($1.utf8) }
    }
}

/// The known queries of one connection.
struct KnownQueries: ~Copyable {
    private var queries: [UInt64: KnownQuery] = [:]
    /// The last one found, which `queries` holds; unmanaged, so that looking at it costs no counting of references.
    private var last: Unmanaged<KnownQuery>?
    private let capacity: Int

    init(capacity: Int) { self.capacity = max(16, capacity) }

    @inline(__always)
    mutating func find(_ query: PostgresQuery) -> KnownQuery {
        if let last, last._withUnsafeGuaranteedRef({ $0.matches(query.storage) }) { return last.takeUnretainedValue() }
        return search(query)
    }

    @inline(never)
    private mutating func search(_ query: PostgresQuery) -> KnownQuery {
        if let known = queries[query.storage.sealed.pointee.identity], known.matches(query.storage) {
            last = Unmanaged.passUnretained(known)
            return known
        }
        // Texts made at run time could fill the memory; begin anew then. The second level still knows the statements.
        if queries.count >= capacity &* 2 { queries.removeAll() }
        last = nil
        let known = KnownQuery(query)
        queries[known.identity] = known
        last = Unmanaged.passUnretained(known)
        return known
    }
}
