import Postgres

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The keys of a batch, encoded once: to see whether rows come in order already, to sort them if not, to find duplicates, and
/// to be sent.
///
/// Keys are compared by the bytes that are sent, never by `String ==`, which holds NFC and NFD equal where the server does
/// not. Any order will do, as long as every batch uses the same: it is what keeps concurrent batches from deadlocking.
struct BatchKeys {
    /// A length and the value's bytes, for each row.
    private let columns: [PostgresEncoder]
    let count: Int

    /// - Parameter columns: the cells of each key column, `count` of them.
    init(columns: [PostgresEncoder], count: Int) {
        self.columns = columns
        self.count = count
    }

    /// The order to send rows in.
    struct Order: Sendable {
        /// Input indices in sending order; nil when the rows lie in order already.
        var indices: [Int]?
        /// Rows of equal keys, each group in input order. NULL equals nothing.
        var duplicates: [[Int]] = []
        var holdsNull = false
    }

    func order() -> Order {
        if columns.isEmpty || count < 2 { return Order(holdsNull: holdsNull()) }
        return withCells { cells in
            if cells.count == 1 ? isAscending(cells[0]) : areAscending(cells) { return Order() }
            return sorted(cells)
        }
    }

    /// Appends a key column's cells in sending order.
    func write(_ column: Int, order: [Int]?, to encoder: inout PostgresEncoder) {
        guard let order else { return encoder.append(columns[column]) }
        withCells { cells in
            let starts = self.cells(of: cells[column])
            for index in order where index < starts.count {
                encoder.write(UnsafeRawBufferPointer(start: starts[index].start - 4, count: starts[index].length + 4))
            }
        }
    }

    /// The cells of a key that stands alone; nil when it holds NULL.
    func bytesOfOne() -> [UInt8]? {
        withCells { columns in
            var bytes: [UInt8] = []
            for column in columns {
                var cursor = CellCursor(column)
                if cursor.next().isNull { return nil }
                bytes.append(contentsOf: column)
            }
            return bytes
        }
    }

    // The bytes lie in buffers that `columns` holds and nobody writes to any more.
    private func withCells<Result>(_ body: ([UnsafeRawBufferPointer]) -> Result) -> Result {
        defer { withExtendedLifetime(columns) {} }
        return body(columns.map { $0.withUnsafeBytes { $0 } })
    }

    private func holdsNull() -> Bool {
        withCells { columns in columns.contains { cells(of: $0).contains { $0.isNull } } }
    }

    /// The rows of which a key column is NULL.
    func rowsHoldingNull() -> [Int] {
        withCells { columns in
            let cells = columns.map { self.cells(of: $0) }
            return (0..<count).filter { row in cells.contains { $0[row].isNull } }
        }
    }

    private func cells(of column: UnsafeRawBufferPointer) -> [Cell] {
        var cursor = CellCursor(column)
        return (0..<count).map { _ in cursor.next() }
    }

    /// Whether each key is above the one before it, which also means that there are no duplicates and no NULL.
    private func isAscending(_ column: UnsafeRawBufferPointer) -> Bool {
        var cursor = CellCursor(column)
        var previous = cursor.next()
        if previous.isNull { return false }
        for _ in 1..<count {
            let cell = cursor.next()
            if !Cell.isAscending(previous, cell) { return false }
            previous = cell
        }
        return true
    }

    private func areAscending(_ columns: [UnsafeRawBufferPointer]) -> Bool {
        var cursors = columns.map { CellCursor($0) }
        var previous = cursors.indices.map { cursors[$0].next() }
        if previous.contains(where: \.isNull) { return false }
        for _ in 1..<count {
            var comparison = 0
            for column in cursors.indices {
                let cell = cursors[column].next()
                if cell.isNull { return false }
                if comparison == 0 { comparison = Cell.compare(previous[column], cell) }
                previous[column] = cell
            }
            if comparison >= 0 { return false }
        }
        return true
    }

    private func sorted(_ columns: [UnsafeRawBufferPointer]) -> Order {
        let first = cells(of: columns[0])
        let others = columns.dropFirst().map { cells(of: $0) }
        func compare(_ left: Int, _ right: Int) -> Int {
            var comparison = Cell.compare(first[left], first[right])
            for column in others where comparison == 0 { comparison = Cell.compare(column[left], column[right]) }
            return comparison
        }

        let common = Cell.commonPrefix(first)
        var entries: [SortEntry] = []
        entries.reserveCapacity(count)
        for (row, cell) in first.enumerated() { entries.append(SortEntry(head: cell.head(after: common), row: row)) }
        entries.sort { left, right in
            if left.head != right.head { return left.head < right.head }
            let comparison = compare(left.row, right.row)
            return comparison == 0 ? left.row < right.row : comparison < 0
        }

        var order = Order(indices: entries.map(\.row))
        func isNull(_ row: Int) -> Bool { first[row].isNull || others.contains { $0[row].isNull } }
        order.holdsNull = (0..<count).contains(where: isNull)
        var group: [Int] = []
        for (left, right) in zip(entries, entries.dropFirst()) {
            if left.head == right.head, compare(left.row, right.row) == 0, !isNull(left.row) {
                if group.isEmpty { group = [left.row] }
                group.append(right.row)
            } else if !group.isEmpty {
                order.duplicates.append(group)
                group = []
            }
        }
        if !group.isEmpty { order.duplicates.append(group) }
        order.duplicates.sort { $0[0] < $1[0] }
        return order
    }
}

/// A row, and the bytes of its key behind those that all keys share: most comparisons need no more.
private struct SortEntry {
    var head: UInt64
    var row: Int
}

/// A value's bytes; NULL has the length -1 in its cell, and 0 here.
private struct Cell {
    var start: UnsafeRawPointer
    var length: Int
    var isNull: Bool

    /// Below, equal or above 0; NULL comes first.
    @inline(__always)
    static func compare(_ left: Cell, _ right: Cell) -> Int {
        if left.isNull || right.isNull { return (left.isNull ? 0 : 1) - (right.isNull ? 0 : 1) }
        let comparison = memcmp(left.start, right.start, min(left.length, right.length))
        return comparison == 0 ? left.length - right.length : Int(comparison)
    }

    /// As `compare(left, right) < 0`, and without a call for keys of eight to sixteen bytes: their first eight and their last.
    @inline(__always)
    static func isAscending(_ left: Cell, _ right: Cell) -> Bool {
        let length = left.length
        guard length == right.length, length >= 8, length <= 16 else { return compare(left, right) < 0 }
        let (leftHead, rightHead) = (left.word(at: 0), right.word(at: 0))
        if leftHead != rightHead { return leftHead < rightHead }
        return left.word(at: length - 8) < right.word(at: length - 8)
    }

    /// Eight bytes, which are there, as a number that compares as they do.
    @inline(__always)
    private func word(at offset: Int) -> UInt64 {
        UInt64(bigEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// How many leading bytes all of them share.
    static func commonPrefix(_ cells: [Cell]) -> Int {
        guard let first = cells.first else { return 0 }
        var common = first.length
        for cell in cells {
            common = min(common, cell.length)
            if memcmp(first.start, cell.start, common) == 0 { continue }
            var index = 0
            while index < common,
                first.start.load(fromByteOffset: index, as: UInt8.self)
                    == cell.start.load(fromByteOffset: index, as: UInt8.self)
            { index += 1 }
            common = index
        }
        return common
    }

    /// Eight bytes as a number that compares as they do; missing ones are 0.
    func head(after prefix: Int) -> UInt64 {
        let available = length - prefix
        if available >= 8 { return word(at: prefix) }
        var head: UInt64 = 0
        for index in 0..<8 {
            let byte = index < available ? start.load(fromByteOffset: prefix + index, as: UInt8.self) : 0
            head = head << 8 | UInt64(byte)
        }
        return head
    }
}

/// Walks cells. Never beyond the end, whatever a custom codec has made of the encoder.
private struct CellCursor {
    var position: UnsafeRawPointer
    let end: UnsafeRawPointer

    init(_ bytes: UnsafeRawBufferPointer) {
        position = bytes.baseAddress ?? emptyCell
        end = position + bytes.count
    }

    @inline(__always)
    mutating func next() -> Cell {
        guard end - position >= 4 else { return Cell(start: emptyCell + 4, length: 0, isNull: true) }
        let length = Int(Int32(bigEndian: position.loadUnaligned(as: Int32.self)))
        let start = position + 4
        let present = max(0, min(length, end - start))
        position = start + present
        return Cell(start: start, length: present, isNull: length < 0)
    }
}

// The cell of a NULL: never written to, never freed.
private nonisolated(unsafe) let emptyCell: UnsafeRawPointer = {
    let cell = UnsafeMutableRawPointer.allocate(byteCount: 4, alignment: 4)
    cell.storeBytes(of: -1, as: Int32.self)
    return UnsafeRawPointer(cell)
}()
