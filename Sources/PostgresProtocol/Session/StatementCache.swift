/// The statements that the server keeps for one connection, least recently used first to go.
///
/// A statement is usable from the moment its Parse is written, before the reply: later requests bind to its name, and the
/// server handles them in order. If the Parse fails, it is forgotten here, and those who bound to it get 26000
/// (`invalid_sql_statement_name`), which the driver answers by sending them once more with a Parse of their own.
package struct StatementCache: ~Copyable, Sendable {
    package let capacity: Int
    private var statements: [StatementKey: PreparedStatement] = [:]
    private var uses: UInt64 = 0
    private var names: UInt64 = 0
    /// Names to close with the next request: they were evicted.
    package private(set) var evicted: [[UInt8]] = []

    /// - Parameter capacity: how many statements are kept; 0 uses the unnamed statement only.
    package init(capacity: Int) { self.capacity = max(0, capacity) }

    package var count: Int { statements.count }

    package mutating func statement(for key: StatementKey) -> PreparedStatement? {
        guard let statement = statements[key] else { return nil }
        touch(statement)
        return statement
    }

    @inline(__always)
    package mutating func touch(_ statement: PreparedStatement) {
        uses &+= 1
        statement.lastUse = uses
    }

    /// A new statement, pending; makes room for it.
    package mutating func insert(_ key: StatementKey) -> PreparedStatement {
        while statements.count >= capacity, let oldest = statements.values.min(by: { $0.lastUse < $1.lastUse }) {
            remove(oldest)
            evicted.append(oldest.name)
        }
        names &+= 1
        let statement = PreparedStatement(name: Array("s\(names)".utf8), key: key)
        statements[key] = statement
        touch(statement)
        return statement
    }

    /// Forgets a statement that the server does not have, or that is to be parsed anew.
    package mutating func remove(_ statement: PreparedStatement) {
        statement.state = .gone
        if statements[statement.key] === statement { statements[statement.key] = nil }
    }

    /// Forgets a statement that the server still has, and closes it with the next request.
    package mutating func evict(_ statement: PreparedStatement) {
        guard statement.state != .gone else { return }
        remove(statement)
        if !statement.name.isEmpty { evicted.append(statement.name) }
    }

    /// Forgets every statement whose Parse was confirmed: the server may have none of them, but to close one that it does not have
    /// is no error.
    package mutating func evictAll() {
        for statement in Array(statements.values) where statement.state == .ready { evict(statement) }
    }

    /// The names could not be closed after all.
    package mutating func putBack(_ names: [[UInt8]]) { evicted += names }

    package mutating func takeEvicted() -> [[UInt8]] {
        defer { evicted = [] }
        return evicted
    }
}
