/// A block of whole DataRow messages, headers included, checked and copied out of the receive buffer in one piece.
///
/// It is filled by the reader and never changed again once it was handed over, so rows can be read from any thread: that
/// is why it may call itself Sendable. A connection fills its last block again if nobody else holds it any more.
package final class RowChunk: @unchecked Sendable {
    /// Type byte, length word and column count of a DataRow.
    package static let rowHeaderSize = 7

    package static let empty = RowChunk(capacity: 0)

    private let memory: UnsafeMutableRawPointer
    package let capacity: Int
    package private(set) var byteCount = 0
    package private(set) var rowCount = 0

    package init(capacity: Int) {
        self.capacity = capacity
        memory = .allocate(byteCount: max(capacity, 1), alignment: 16)
    }

    deinit { memory.deallocate() }

    /// Where the bytes begin; valid while the block is held.
    package var base: UnsafeRawPointer { UnsafeRawPointer(memory) }

    package var room: Int { capacity &- byteCount }

    /// Appends whole rows. Nothing happens when there is no room for them: the caller looks first.
    package func append(_ source: UnsafeRawBufferPointer, rows: Int) {
        guard let start = source.baseAddress, source.count <= room else { return }
        (memory + byteCount).copyMemory(from: start, byteCount: source.count)
        byteCount &+= source.count
        rowCount &+= rows
    }

    /// Empties it for the next reply, which only its one holder may do.
    package func removeAll() {
        byteCount = 0
        rowCount = 0
    }
}
