// Manual, "Message Flow", "Extended Query": what nearly every reply consists of.

extension Inbound {
    /// A whole reply of the usual kind, if all of it is at hand: BindComplete, rows, CommandComplete and, if the request has a Sync of
    /// its own, ReadyForQuery.
    ///
    /// One walk over the bytes, instead of a turn of the state machine for each message. It takes all of it or nothing: what is not
    /// as usual, not complete or not legal is left to `next`, which has the words for it.
    ///
    /// Its loads are inside of the `available` bytes that the buffer holds, for each is behind a check: 11 bytes and a ReadyForQuery
    /// before the first, and again behind every row at least the 6 of a CommandComplete, so that there is a tag and a length to
    /// read; a row or a tag is gone through only when its own length lies in what is there. Numbers are read unaligned.
    ///
    /// - Parameter columns: What the driver knows of the columns, to go with the rows.
    package mutating func takeUsualReply(columns: (any AnyObject & Sendable)?) -> UsualEnd? {
        guard phase == .binding, !groupFailed else { return nil }
        let syncs = request.parts == .executesAndSyncs
        guard syncs || request.parts == .executes else { return nil }
        let readySize = syncs ? 6 : 0
        let base = buffer.base
        let available = buffer.count
        // The shortest: BindComplete, a CommandComplete of an empty tag, ReadyForQuery.
        guard available >= 11 &+ readySize, Inbound.header(base) == Inbound.bindComplete else { return nil }
        var offset = 5
        var rows = 0
        while base.load(fromByteOffset: offset, as: UInt8.self) == BackendMessage.Tag.dataRow {
            guard let size = usualRow(base + offset, available &- offset) else { return nil }
            offset &+= size
            rows &+= 1
            guard available &- offset >= 6 &+ readySize else { return nil }
        }
        let tag = base + offset
        let tagLength = Int32(bigEndian: tag.loadUnaligned(fromByteOffset: 1, as: Int32.self))
        guard tag.load(as: UInt8.self) == BackendMessage.Tag.commandComplete, tagLength > 4, tagLength < 64,
            available &- offset >= Int(tagLength) &+ 1 &+ readySize
        else { return nil }
        let end = tag + Int(tagLength)
        let ready = end + 1
        guard end.load(as: UInt8.self) == 0, let affected = CommandTag.usualCount(from: tag + 5, to: end) else {
            return nil
        }
        var status: TransactionStatus?
        if syncs {
            guard Inbound.header(ready) == Inbound.readyForQuery else { return nil }
            status = TransactionStatus(rawValue: ready.load(fromByteOffset: 5, as: UInt8.self))
            if status == nil { return nil }
        } else if !Inbound.countsRows(tag.load(fromByteOffset: 5, as: UInt8.self)) {
            // Of a group it is asked whether it committed.
            return nil
        }
        var block: RowChunk?
        if rows > 0 {
            guard offset &- 5 <= request.rowByteLimit else { return nil }
            block = usualBlock(UnsafeRawBufferPointer(start: base + 5, count: offset &- 5), rows: rows)
        } else if columns != nil {
            block = emptyBlock()
        }
        // Also none: a block that is filled again would keep those of the reply before.
        block?.setColumns(columns)
        messages &+= rows &+ 3
        buffer.consume(offset &+ Int(tagLength) &+ 1 &+ readySize)
        phase = .idle
        return UsualEnd(block: block, rowCount: rows, affected: affected, status: status)
    }

    /// Whether a command tag begins as those of INSERT, UPDATE, DELETE, SELECT and MERGE do, and none that ends a transaction.
    @inline(__always)
    private static func countsRows(_ first: UInt8) -> Bool {
        switch UnicodeScalar(first) {
        case "I", "U", "D", "S", "M": true
        default: false
        }
    }

    /// Type and length of a message as one number.
    @inline(__always)
    private static func header(_ message: UnsafeRawPointer) -> UInt64 {
        UInt64(message.load(as: UInt8.self)) << 32
            | UInt64(UInt32(bigEndian: message.loadUnaligned(fromByteOffset: 1, as: UInt32.self)))
    }

    private static let bindComplete = UInt64(BackendMessage.Tag.bindComplete) << 32 | 4
    private static let readyForQuery = UInt64(BackendMessage.Tag.readyForQuery) << 32 | 5

    /// The size of a DataRow that is whole, legal, and has as many columns as were described.
    ///
    /// - Parameter available: at least 6. The number of columns is read when the length has said that there are 7, and a cell's
    ///   length while 4 of the row's own bytes are left.
    @inline(__always)
    private func usualRow(_ row: UnsafeRawPointer, _ available: Int) -> Int? {
        let length = Int(Int32(bigEndian: row.loadUnaligned(fromByteOffset: 1, as: Int32.self)))
        guard length >= 6, length < available, length <= limits.maximumLength,
            Int(UInt16(bigEndian: row.loadUnaligned(fromByteOffset: 5, as: UInt16.self))) == columnCount
        else { return nil }
        var rest = length &- 6
        var cell = row + RowChunk.rowHeaderSize
        for _ in 0..<columnCount {
            guard rest >= 4 else { return nil }
            let size = Int(Int32(bigEndian: cell.loadUnaligned(as: Int32.self)))
            guard size >= -1 else { return nil }
            let step = 4 &+ (size < 0 ? 0 : size)
            guard step <= rest else { return nil }
            rest &-= step
            cell += step
        }
        return rest == 0 ? length &+ 1 : nil
    }

    /// The rows in the last reply's block, if nobody holds it any more, or in a new one.
    @inline(__always)
    private mutating func usualBlock(_ bytes: UnsafeRawBufferPointer, rows: Int) -> RowChunk {
        let chunk = recycledChunk(bytes.count) ?? RowChunk(capacity: max(bytes.count, 512))
        chunk.append(bytes, rows: rows)
        spare = chunk
        return chunk
    }
}

extension CommandTag {
    /// Reads only from `start` to before `end`: `digit` is above `start` whenever the byte below it is read.
    ///
    /// As `affectedRows`, 0 for a tag without a count; nil if the number is longer than any that is usual.
    @inline(__always)
    static func usualCount(from start: UnsafeRawPointer, to end: UnsafeRawPointer) -> Int? {
        var digit = end
        var count = 0
        var unit = 1
        while digit > start {
            let value = (digit - 1).load(as: UInt8.self) &- 0x30
            guard value < 10 else { break }
            guard unit < 1_000_000_000_000_000_000 else { return nil }
            count &+= Int(value) &* unit
            unit &*= 10
            digit -= 1
        }
        guard digit < end, digit > start, (digit - 1).load(as: UInt8.self) == 0x20 else { return 0 }
        return count
    }
}
