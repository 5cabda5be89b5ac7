// Manual, "Message Formats", DataRow: a count of columns, and for each its length (-1 for NULL) and its bytes.

/// One row, lent by the receive buffer.
///
/// A row is checked once, in one pass, when it is made; reading its columns afterwards needs no error path.
package struct DataRow: Equatable {
    package let columnCount: Int
    /// Length words and values, exactly `columnCount` of them.
    package let cells: UnsafeRawBufferPointer

    /// Checks a message body: every length is -1 or fits in what is left, and the last value ends the body.
    @inline(__always)
    package init(validating body: UnsafeRawBufferPointer) throws(ProtocolError) {
        let tag = BackendMessage.Tag.dataRow
        guard body.count >= 2 else { throw .truncated(message: tag, offset: body.count) }
        let count = Int(UInt16(bigEndian: body.loadUnaligned(as: UInt16.self)))
        var offset = 2
        for column in 0..<count {
            guard body.count &- offset >= 4 else { throw .truncated(message: tag, offset: offset) }
            let length = Int32(bigEndian: body.loadUnaligned(fromByteOffset: offset, as: Int32.self))
            offset &+= 4
            if length >= 0 {
                guard Int(length) <= body.count &- offset else {
                    throw .fieldLength(message: tag, column: column, length: length)
                }
                offset &+= Int(length)
            } else if length != -1 {
                throw .fieldLength(message: tag, column: column, length: length)
            }
        }
        guard offset == body.count else { throw .trailingBytes(message: tag, count: body.count &- offset) }
        columnCount = count
        cells = UnsafeRawBufferPointer(rebasing: body[2...])
    }

    package static func == (left: Self, right: Self) -> Bool {
        left.columnCount == right.columnCount && left.cells.elementsEqual(right.cells)
    }
}

extension DataRow: Sequence {
    /// One column's bytes, nil for NULL.
    package typealias Element = UnsafeRawBufferPointer?

    package struct Iterator: IteratorProtocol {
        private let cells: UnsafeRawBufferPointer
        private var offset = 0

        @inline(__always)
        init(_ cells: UnsafeRawBufferPointer) { self.cells = cells }

        @inline(__always)
        package mutating func next() -> UnsafeRawBufferPointer?? {
            // The row was checked, so these bounds hold at every step but the last.
            guard cells.count &- offset >= 4 else { return nil }
            let length = Int(Int32(bigEndian: cells.loadUnaligned(fromByteOffset: offset, as: Int32.self)))
            offset &+= 4
            if length < 0 { return .some(nil) }
            let start = offset
            offset &+= length
            return .some(UnsafeRawBufferPointer(rebasing: cells[start..<offset]))
        }
    }

    @inline(__always)
    package func makeIterator() -> Iterator { Iterator(cells) }

    package var underestimatedCount: Int { columnCount }
}
