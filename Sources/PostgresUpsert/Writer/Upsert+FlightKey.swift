import Postgres

extension Upsert {
    /// The key of a row as it is sent, for rows that must not share a statement with others of their key. Nil where
    /// ``duplicates(_:)`` says what becomes of those, where only the server knows the key, where it holds NULL, which equals nothing,
    /// and where it cannot be encoded, which is the flight's error.
    func flightKey(of row: Row) -> [UInt8]? {
        guard case .fail = definition.batching.duplicates.policy else { return nil }
        let plan = definition.plan(definition.source())
        guard plan.sortKeyIsConflictKey, let keys = try? plan.keys(of: [row]) else { return nil }
        return keys.bytesOfOne()
    }
}
