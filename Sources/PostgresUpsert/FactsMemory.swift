import Synchronization

/// The facts of a table as they were last learnt. A table may be made anew, or a declaration be used with several servers: then
/// version and kind are wrong, and a statement made by them either works all the same or is refused, whereupon they are learnt again.
/// See `OutcomeEvidence`.
///
/// Two facts stay as they were first learnt until the program ends, for no server contradicts them. That it was a view: if it is a
/// table by then, `updateFirst()` updates rows of tables that inherit from it, too. And whether NULL conflicts by a key, which
/// `rejectingNullKeys(unlessNotDistinct:)` goes by.
final class FactsMemory: Sendable {
    // 0, or the version and the kind in the lowest byte.
    private let packed = Atomic<Int>(0)
    private let lacksSystemColumns = Atomic<Bool>(false)
    // As many as there are conflict targets in the program.
    private let nullKeys = Lock<[NullKeyTarget: Bool]>([:])

    var facts: TableFacts? {
        get {
            let value = packed.load(ordering: .relaxed)
            return value == 0 ? nil : TableFacts(version: value >> 8, kind: UInt8(truncatingIfNeeded: value))
        }
        set { packed.store(newValue.map { $0.version << 8 | Int($0.kind) } ?? 0, ordering: .relaxed) }
    }

    /// Whether it is a view, as far as is known; once found, that stays.
    var isView: Bool { lacksSystemColumns.load(ordering: .relaxed) || facts?.kind == UInt8(ascii: "v") }

    func noteView() { lacksSystemColumns.store(true, ordering: .relaxed) }

    /// Whether NULL conflicts by a key; nil when it is not known.
    func nullsNotDistinct(_ target: NullKeyTarget) -> Bool? { nullKeys.withLock { $0[target] } }

    func note(_ target: NullKeyTarget, nullsNotDistinct: Bool) { nullKeys.withLock { $0[target] = nullsNotDistinct } }
}
