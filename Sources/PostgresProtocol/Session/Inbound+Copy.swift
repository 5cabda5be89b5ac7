/// COPY TO STDOUT (manual, "COPY Operations"): one CopyData for each row.
extension Inbound {
    /// Where a COPY in binary format stands that is read as rows (manual, "COPY", "Binary Format").
    enum CopyPosition {
        /// The signature comes, in one message with the first row.
        case beforeHeader
        case rows
        /// The trailer has come.
        case ended
    }

    /// A COPY TO STDOUT that is to be handed over as rows must be what rows can be made of.
    mutating func beginCopyOut(_ response: CopyResponse) throws(ProtocolError) {
        if request.parts.contains(.streams), response.format != .binary {
            throw .invalidValue(message: BackendMessage.Tag.copyOutResponse, field: "format", value: 0)
        }
        columnCount = response.columnFormats.count
        phase = .copyingOut
    }

    mutating func finishCopyOut() throws(ProtocolError) {
        if request.parts.contains(.streams), copyPosition != .ended { throw unexpected(BackendMessage.Tag.copyDone) }
        phase = .copied
    }

    /// Takes whole CopyData messages, as many as there are; false when not even one is complete.
    mutating func readCopyData() throws(ProtocolError) -> Bool {
        let base = buffer.base
        let available = buffer.count
        let readsRows = request.parts.contains(.streams)
        var chunk: RowChunk?
        var offset = 0
        var count = 0
        // Messages from `start` to `offset` that are rows as they came: they are copied in one piece.
        var start = 0
        var rows = 0
        while available &- offset >= MessageFramer.headerSize {
            let message = base + offset
            let tag = message.load(as: UInt8.self)
            guard tag == BackendMessage.Tag.copyData else { break }
            let length = Int32(bigEndian: message.loadUnaligned(fromByteOffset: 1, as: Int32.self))
            let size = try MessageFramer.judge(tag: tag, length: length, limits: limits)
            guard available &- offset >= size else { break }
            // Never more bytes than are at hand, so there is room for them all.
            let target = chunk ?? recycledChunk(available) ?? RowChunk(capacity: max(available, 32768))
            chunk = target
            if readsRows {
                if try isRow(UnsafeRawBufferPointer(start: message, count: size), beginning: target) {
                    rows &+= 1
                } else {
                    target.append(UnsafeRawBufferPointer(start: base + start, count: offset &- start), rows: rows)
                    start = offset &+ size
                    rows = 0
                }
            } else {
                target.append(UnsafeRawBufferPointer(start: message + 5, count: size &- 5), rows: 1)
            }
            offset &+= size
            count &+= 1
        }
        guard count > 0 else { return false }
        if readsRows, rows > 0 {
            chunk?.append(UnsafeRawBufferPointer(start: base + start, count: offset &- start), rows: rows)
        }
        messages &+= count
        buffer.consume(offset)
        if let chunk, chunk.byteCount > 0, !discardsRows { result.firstChunk = chunk }
        return true
    }

    /// A tuple of the binary format has the form of a DataRow's body, so the message is a row but for its type byte, which nobody
    /// looks at again.
    ///
    /// - Returns: whether the message is a row as it came. The first one is not: its row is put into the chunk here.
    private mutating func isRow(
        _ message: UnsafeRawBufferPointer, beginning chunk: RowChunk
    ) throws(ProtocolError) -> Bool {
        var body = UnsafeRawBufferPointer(rebasing: message.dropFirst(5))
        // The first message holds more than a row: its header is given up for one of the row's own.
        var needsHeader = false
        if case .beforeHeader = copyPosition {
            body = UnsafeRawBufferPointer(rebasing: body.dropFirst(try binaryHeaderSize(body)))
            copyPosition = .rows
            if body.isEmpty { return false }
            needsHeader = true
        }
        guard case .rows = copyPosition else { throw unexpected(BackendMessage.Tag.copyData) }
        if body.count == 2, body.loadUnaligned(as: Int16.self) == -1 {
            copyPosition = .ended
            return false
        }
        let cells = try DataRow(validating: body)
        guard cells.columnCount == columnCount else {
            throw .columnCount(described: columnCount, received: cells.columnCount)
        }
        guard needsHeader else { return true }
        guard let length = Int32(exactly: body.count &+ 4) else { throw unexpected(BackendMessage.Tag.copyData) }
        var header = ByteWriter(capacity: 64)
        header.write(UInt8(ascii: "D"))
        header.write(length)
        chunk.append(header.bytes, rows: 0)
        chunk.append(body, rows: 1)
        return false
    }

    private static let binarySignature: [UInt8] = [
        0x50, 0x47, 0x43, 0x4F, 0x50, 0x59, 0x0A, 0xFF, 0x0D, 0x0A, 0x00,
    ]

    /// - Returns: how many bytes the file header has.
    private func binaryHeaderSize(_ bytes: UnsafeRawBufferPointer) throws(ProtocolError) -> Int {
        let tag = BackendMessage.Tag.copyData
        var reader = ByteReader(bytes, message: tag)
        for expected in Inbound.binarySignature {
            let byte = try reader.read(UInt8.self)
            guard byte == expected else {
                throw .invalidValue(message: tag, field: "binary signature", value: Int64(byte))
            }
        }
        let flags = try reader.read(UInt32.self)
        // The upper half is critical, and says what no server of today does: rows with OIDs.
        guard flags >> 16 == 0 else {
            throw .invalidValue(message: tag, field: "binary flags", value: Int64(flags >> 16))
        }
        let extensionLength = Int(try reader.read(Int32.self))
        guard extensionLength >= 0, extensionLength <= bytes.count &- 19 else {
            throw .invalidValue(message: tag, field: "header extension", value: Int64(extensionLength))
        }
        return 19 &+ extensionLength
    }
}
