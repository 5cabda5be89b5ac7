import Synchronization

#if DEBUG
    import CPostgresSystem
#endif

/// Rows are taken in blocks, as they came.
extension Inbound {
    /// Lets the rows that are still to come be thrown away.
    package mutating func discardRows() { discardsRows = true }

    /// A block without rows: to tell the columns of an empty result.
    package mutating func emptyBlock() -> RowChunk {
        let chunk = recycledChunk(0) ?? RowChunk(capacity: 512)
        spare = chunk
        return chunk
    }

    /// The rows of a streamed request since the last call.
    package mutating func takeRows() -> RowChunk? {
        let chunk = result.firstChunk
        result.firstChunk = nil
        result.rowBytes = 0
        spare = chunk
        return chunk
    }

    /// Takes whole rows, as many as there are, in one piece; false when not even one is complete.
    mutating func readRows() throws(ProtocolError) -> Bool {
        let base = buffer.base
        let available = buffer.count
        var offset = 0
        var rows = 0
        while available &- offset >= MessageFramer.headerSize {
            let row = base + offset
            guard row.load(as: UInt8.self) == UInt8(ascii: "D") else { break }
            let length = Int32(bigEndian: row.loadUnaligned(fromByteOffset: 1, as: Int32.self))
            let size = try MessageFramer.judge(tag: UInt8(ascii: "D"), length: length, limits: limits)
            guard available &- offset >= size else { break }
            let cells = try DataRow(validating: UnsafeRawBufferPointer(start: row + 5, count: size &- 5))
            guard cells.columnCount == columnCount else {
                throw .columnCount(described: columnCount, received: cells.columnCount)
            }
            offset &+= size
            rows &+= 1
        }
        guard rows > 0 else { return false }
        messages &+= rows
        keep(UnsafeRawBufferPointer(start: base, count: offset), rows: rows)
        buffer.consume(offset)
        return true
    }

    private mutating func keep(_ bytes: UnsafeRawBufferPointer, rows: Int) {
        guard !discardsRows else { return }
        let (total, overflows) = result.rowBytes.addingReportingOverflow(bytes.count)
        guard !overflows, total <= request.rowByteLimit else {
            discardsRows = true
            result.failure = .tooLarge
            result.firstChunk = nil
            result.moreChunks = []
            result.rowCount = 0
            return
        }
        result.rowBytes = total
        result.rowCount &+= rows
        if result.firstChunk == nil {
            let chunk =
                recycledChunk(bytes.count)
                ?? RowChunk(capacity: max(bytes.count, request.parts.contains(.streams) ? 32768 : 512))
            chunk.append(bytes, rows: rows)
            result.firstChunk = chunk
        } else if let chunk = result.moreChunks.last ?? result.firstChunk, chunk.room >= bytes.count {
            chunk.append(bytes, rows: rows)
        } else {
            let chunk = RowChunk(capacity: max(bytes.count, min(1 << 20, max(4096, total))))
            chunk.append(bytes, rows: rows)
            result.moreChunks.append(chunk)
        }
    }

    mutating func recycledChunk(_ size: Int) -> RowChunk? {
        #if DEBUG
            // The thread sanitizer sees neither the counting of references, inside the runtime, nor fences: it would take every block
            // that another thread has read for a race, and nothing here could tell it when that thread was done.
            if postgres_is_thread_sanitized() != 0 { return nil }
        #endif
        guard spare != nil, isKnownUniquelyReferenced(&spare), let chunk = spare else { return nil }
        // Whoever held it last may have read its bytes on another processor, and asking for the count of references orders nothing:
        // the release that it saw has to come before what is written now. (No instruction on x86.)
        atomicMemoryFence(ordering: .acquiring)
        guard chunk.capacity >= size, chunk.capacity <= 65536 else { return nil }
        chunk.removeAll()
        return chunk
    }
}
