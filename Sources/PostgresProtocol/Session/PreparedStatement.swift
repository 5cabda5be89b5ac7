/// What a Describe of a statement told.
package final class StatementDescription: Sendable {
    package let parameterTypes: [UInt32]
    /// nil: the statement returns no rows.
    package let rowDescription: RowDescription?

    package init(parameterTypes: [UInt32], rowDescription: RowDescription?) {
        self.parameterTypes = parameterTypes
        self.rowDescription = rowDescription
    }

    /// 0 for a statement without rows.
    package var columnCount: Int { rowDescription?.columns.count ?? 0 }
}

/// A statement the server keeps for us under a name.
///
/// Safe to share: whoever writes a property holds the lock of the connection that it belongs to. `description` is written by
/// the holder of the reader role only, who may therefore read it without the lock; `attachment` is the reader's alone.
package final class PreparedStatement: @unchecked Sendable {
    package enum State: Sendable {
        /// Its Parse is on the way. Others may bind to the name already: replies come in order.
        case pending
        case ready
        /// Parse failed, or it was closed or evicted: nobody may use the name any more.
        case gone
    }

    /// UTF-8 of the name, without a zero byte. Empty for the unnamed statement.
    package let name: [UInt8]
    package let key: StatementKey
    package var state: State {
        get { storedState }
        set { storedState = newValue }
    }
    package var description: StatementDescription? {
        get { storedDescription }
        set { storedDescription = newValue }
    }
    /// When it was used last, in uses of the cache.
    package var lastUse: UInt64 {
        get { storedLastUse }
        set { storedLastUse = newValue }
    }
    /// Names of evicted statements whose Close goes out before this one's Parse.
    package var closing: [[UInt8]] = []
    /// Where the driver keeps what it derived from the description.
    package var attachment: (any AnyObject & Sendable)? {
        get { storedAttachment }
        set { storedAttachment = newValue }
    }

    // Behind accessors, because only inside this module the exclusivity checks that the lock makes needless can be left out.
    @exclusivity(unchecked) private var storedState = State.pending
    @exclusivity(unchecked) private var storedDescription: StatementDescription?
    @exclusivity(unchecked) private var storedLastUse: UInt64 = 0
    @exclusivity(unchecked) private var storedAttachment: (any AnyObject & Sendable)?

    package init(name: [UInt8], key: StatementKey) {
        self.name = name
        self.key = key
    }
}

/// SQL by its UTF-8 bytes, and the parameter types declared for it. Never compared as a String: Swift holds NFC and NFD equal,
/// the server does not.
package struct StatementKey: Hashable, Sendable {
    package let sql: [UInt8]
    package let parameterTypes: [UInt32]

    package init(sql: [UInt8], parameterTypes: [UInt32]) {
        self.sql = sql
        self.parameterTypes = parameterTypes
    }

    package var text: String { String(decoding: sql, as: UTF8.self) }
}
