import Postgres

/// A block of rows on its way into a binary COPY: encoded column by column, one closure call a column, and then put together
/// row by row. A call for each cell costs several times as much.
struct CellBlock {
    // The cells of each column together.
    private var cells = PostgresEncoder(capacity: 8192)
    // Where the next cell of each column is.
    private var positions: [Int] = []

    mutating func removeAll() {
        cells.removeAll()
        positions.removeAll(keepingCapacity: true)
    }

    /// Appends the cells of a column.
    mutating func append(
        _ write: (inout PostgresEncoder) throws(PostgresError) -> Void
    ) throws(PostgresError) {
        positions.append(cells.byteCount)
        try write(&cells)
    }

    /// Never beyond the end, whatever a custom codec has made of the encoder.
    mutating func writeRows(_ count: Int, into encoder: inout PostgresEncoder) {
        let columnCount = Int16(clamping: positions.count)
        cells.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            positions.withUnsafeMutableBufferPointer { positions in
                for _ in 0..<count {
                    encoder.write(columnCount)
                    for index in positions.indices {
                        let position = positions[index]
                        guard bytes.count - position >= 4 else { return }
                        let length = Int(
                            Int32(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: Int32.self)))
                        let size = min(4 + max(length, 0), bytes.count - position)
                        encoder.write(UnsafeRawBufferPointer(start: base + position, count: size))
                        positions[index] = position + size
                    }
                }
            }
        }
    }
}
