import Foundation
import Postgres
import PostgresTesting
import Synchronization
import Testing

/// A guide of PostgresUpsert. Its Swift stands in the test of its name, each block between `// GUIDE: name` and `// GUIDE end`,
/// word for word; `ReadmeBlockTests` of PostgresTests compares them. Its SQL is run, or compared with what is sent, by that test.
struct Guide {
    let text: String

    init(_ name: String) throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let path = "Sources/PostgresUpsert/PostgresUpsert.docc/\(name).md"
        text = try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    /// Its blocks of SQL, in order.
    var sql: [String] {
        text.components(separatedBy: "\n```sql\n").dropFirst().compactMap { $0.components(separatedBy: "\n```").first }
    }
}

/// That a guide shows what is sent. Since PostgreSQL 18 outcomes are told otherwise than it says.
func expect(
    _ shown: String, is sent: String?, _ sourceLocation: SourceLocation = #_sourceLocation
) {
    func words(_ text: String) -> [Substring] {
        text.replacing("(old.tableoid IS NULL)", with: "(xmax = 0)").split(whereSeparator: \.isWhitespace)
    }
    #expect(words(shown) == sent.map(words), sourceLocation: sourceLocation)
}

/// The configuration of a database of one's own, after some SQL has run in it.
func guideDatabase(_ sql: String...) async throws -> PostgresConfiguration {
    let server = try await PostgresEphemeralServer.shared()
    let database = try await server.createDatabase()
    let configuration = try PostgresConfiguration(url: server.connectionURL(database: database, over: .unixSocket))
    let db = try await PostgresConnection.connect(configuration)
    defer { db.close() }
    for text in sql { try await run(text, db) }
    return configuration
}

/// Runs the SQL of a guide.
func run(_ sql: String, _ db: PostgresConnection) async throws {
    _ = try await db.script("SET client_min_messages = warning; \(unsafeSQL: sql)")
}

/// What a guide's code prints.
final class Printed {
    private(set) var lines: [String] = []

    func add(_ items: [Any]) { lines.append(items.map { "\($0)" }.joined(separator: " ")) }
}

/// The text that was sent last.
final class LastSQL: PostgresObserver {
    private let text = Mutex<String?>(nil)

    var sql: String? { text.withLock { $0 } }

    func ended(_ operation: PostgresOperation, _ result: PostgresOperation.Result, _ context: (any Sendable)?) {
        text.withLock { $0 = operation.sql ?? $0 }
    }
}
