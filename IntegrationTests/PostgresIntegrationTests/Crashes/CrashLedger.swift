import Postgres
import PostgresTesting
import PostgresUpsert
import Testing

/// A row that a writer keeps bringing to a new version.
struct CrashRow: PostgresTable {
    var writer: Int64
    var key: Int64
    var version: Int64

    static let table = Table<Self>("crashes") {
        Column("writer", \.writer, .primaryKey)
        Column("key", \.key, .primaryKey)
        Column("version", \.version)
    }
}

/// What was sent in one transaction, and what its writer was told of it.
struct CrashEntry: Sendable {
    var writer: Int64
    /// Each version of a writer is sent once, so that it names the transaction.
    var version: Int64
    var keys: Range<Int64>
    /// Nil: acknowledged.
    var outcome: PostgresError.Outcome?
}

/// The invariants of reliable writes, checked against what the server has in the end.
///
/// The table `crashes` has the last version of each key; a trigger puts every version that was ever committed into
/// `crashes_history`, so that a write that was overwritten since is checked as well:
///
/// - acknowledged: there, once for each of its keys;
/// - not sent, rejected, aborted: not there;
/// - unknown: there or not, but all of its keys or none;
/// - nothing is there twice, and nothing that nobody sent.
struct CrashLedger {
    var entries: [CrashEntry] = []

    static let schema = """
        CREATE TABLE crashes (writer int8, key int8, version int8 NOT NULL, PRIMARY KEY (writer, key));
        CREATE TABLE crashes_history (writer int8, key int8, version int8);
        CREATE FUNCTION keep_history() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO crashes_history VALUES (NEW.writer, NEW.key, NEW.version);
                RETURN NULL;
            END $$;
        CREATE TRIGGER history AFTER INSERT OR UPDATE ON crashes FOR EACH ROW EXECUTE FUNCTION keep_history();
        """

    private struct Transaction: Hashable {
        var writer: Int64
        var version: Int64
    }

    func check(_ db: PostgresConnection) async throws {
        var present: [Transaction: [Int64]] = [:]
        let history = try await db.stream(
            "SELECT writer, key, version FROM crashes_history", as: (Int64, Int64, Int64).self)
        for try await (writer, key, version) in history {
            present[Transaction(writer: writer, version: version), default: []].append(key)
        }
        for entry in entries {
            let keys = present.removeValue(forKey: Transaction(writer: entry.writer, version: entry.version)) ?? []
            let isWhole = keys.sorted() == Array(entry.keys)
            let holds =
                switch entry.outcome {
                case nil, .succeeded: isWhole
                case .notSent, .rejected, .aborted: keys.isEmpty
                case .unknown: isWhole || keys.isEmpty
                }
            if !holds { Issue.record("\(entry), but the server has the keys \(keys)") }
        }
        if let stray = present.first {
            Issue.record("nobody sent \(stray.key), of which the server has \(stray.value)")
        }
        try await checkLastVersions(db)
    }

    /// Version stored ≥ version last acknowledged, and ≤ version last sent.
    private func checkLastVersions(_ db: PostgresConnection) async throws {
        struct Bounds { var acknowledged: Int64?, sent: Int64 }
        var bounds: [[Int64]: Bounds] = [:]
        for entry in entries where entry.outcome != .notSent {
            for key in entry.keys {
                var bound = bounds[[entry.writer, key]] ?? Bounds(acknowledged: nil, sent: 0)
                bound.sent = max(bound.sent, entry.version)
                if entry.outcome == nil { bound.acknowledged = max(bound.acknowledged ?? 0, entry.version) }
                bounds[[entry.writer, key]] = bound
            }
        }
        let rows = try await db.query("SELECT writer, key, version FROM crashes", as: (Int64, Int64, Int64).self).all()
        var stored: [[Int64]: Int64] = [:]
        for (writer, key, version) in rows { stored[[writer, key]] = version }
        for (name, bound) in bounds {
            let version = stored[name] ?? 0
            if version < bound.acknowledged ?? 0 || version > bound.sent {
                Issue.record("writer and key \(name) have version \(version), which is not within \(bound)")
            }
        }
        #expect(Set(stored.keys).isSubset(of: Set(bounds.keys)))
    }
}
