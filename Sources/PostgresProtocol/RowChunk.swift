/// A block of whole DataRow messages, headers included, checked and copied out of the receive buffer in one piece.
///
/// It is filled by the reader and never changed again once it was handed over, so rows can be read from any thread: that
/// is why it may call itself Sendable. A connection fills its last block again if nobody else holds it any more.
package final class RowChunk: @unchecked Sendable {
    /// Type byte, length word and column count of a DataRow.
    package static let rowHeaderSize = 7

    private let memory: UnsafeMutableRawPointer
    package let capacity: Int
    // Other modules read them through getters of this one: there the exclusivity checks that are not needed cannot be left out.
    @exclusivity(unchecked) private var bytes = 0
    @exclusivity(unchecked) private var rows = 0
    @exclusivity(unchecked) private var storedColumns: (any AnyObject & Sendable)?

    package init(capacity: Int) {
        self.capacity = capacity
        memory = .allocate(byteCount: max(capacity, 1), alignment: 16)
    }

    deinit { memory.deallocate() }

    /// Where the driver puts what it knows of the columns, before the block is handed over.
    package var columns: (any AnyObject & Sendable)? {
        get { storedColumns }
        set { storedColumns = newValue }
    }

    /// Sets `columns` unless they are the same, which they mostly are when a block is filled again.
    package func setColumns(_ columns: (any AnyObject & Sendable)?) {
        if storedColumns !== columns { storedColumns = columns }
    }

    /// Where the bytes begin; valid while the block is held.
    package var base: UnsafeRawPointer { UnsafeRawPointer(memory) }

    package var byteCount: Int { bytes }
    package var rowCount: Int { rows }
    package var room: Int { capacity &- bytes }

    /// Appends whole rows. Nothing happens when there is no room for them: the caller looks first.
    package func append(_ source: UnsafeRawBufferPointer, rows count: Int) {
        guard let start = source.baseAddress, source.count <= room else { return }
        (memory + bytes).copyMemory(from: start, byteCount: source.count)
        bytes &+= source.count
        rows &+= count
    }

    /// Empties it for the next reply, which only its one holder may do.
    package func removeAll() {
        bytes = 0
        rows = 0
    }
}
