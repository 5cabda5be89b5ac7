import Postgres

/// Texts made once and found again, so that a connection knows by its number the statement of an upsert that is built anew for
/// every call. Bounded: when it is full it starts again, which costs no more than making texts again.
final class TextCache: Sendable {
    /// Bytes and not a String: Swift holds NFC and NFD equal, the server does not.
    typealias Key = [UInt8]

    static let shared = TextCache(limit: 256)

    private let limit: Int
    private let texts = Lock<[Key: PostgresQuery.Text]>([:])

    init(limit: Int) { self.limit = limit }

    func text(
        _ key: Key, make: () throws(PostgresError) -> String
    ) throws(PostgresError) -> PostgresQuery.Text {
        if let text = texts.withLock({ $0[key] }) { return text }
        let text = PostgresQuery.Text(unsafeSQL: try make())
        return texts.withLock { texts in
            if let first = texts[key] { return first }
            if texts.count >= limit { texts.removeAll() }
            texts[key] = text
            return text
        }
    }

    func text(_ sql: String) -> PostgresQuery.Text {
        let key = Array(sql.utf8)
        if let text = texts.withLock({ $0[key] }) { return text }
        return (try? text(key, make: { () throws(PostgresError) in sql })) ?? PostgresQuery.Text(unsafeSQL: sql)
    }
}
