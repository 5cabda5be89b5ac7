public import Postgres

extension PostgresCopying {
    /// Copies rows into their table, atomically: the fastest way to insert many. A row whose key exists already is an error, and
    /// nothing is copied then.
    ///
    /// Identity, generated, created-at and updated-at columns are not sent: the table's defaults fill them. Nothing is converted:
    /// properties must be of their column's own type, `Int32` for integer and `Int` for bigint. Without rows nothing is sent.
    ///
    /// SQL: `COPY "page_stats" ("path", "hits") FROM STDIN WITH (FORMAT binary)`
    ///
    /// - Returns: how many rows were copied.
    /// - Throws: `typeMismatch` before anything is sent; else the server's error, whose context tells the line.
    @discardableResult
    public func copy<Row: PostgresTable>(_ rows: some Collection<Row>) async throws(PostgresError) -> Int {
        if let error = Row.table.error { throw error }
        if rows.isEmpty { return 0 }
        var copy = try TableCopy(Row.table.layout, Array(rows))
        return try await self.copy(
            into: Row.table.name, schema: Row.table.layout.schema, columns: copy.columns,
            writeRows: { (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in
                try copy.writeRows(into: &encoder)
            })
    }
}

extension PostgresBlockingConnection {
    /// Copies rows into their table, as the form of ``PostgresCopying``.
    @discardableResult
    public func copy<Row: PostgresTable>(_ rows: some Collection<Row>) throws(PostgresError) -> Int {
        if let error = Row.table.error { throw error }
        if rows.isEmpty { return 0 }
        var copy = try TableCopy(Row.table.layout, Array(rows))
        return try self.copy(
            into: Row.table.name, schema: Row.table.layout.schema, columns: copy.columns,
            writeRows: { (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in
                try copy.writeRows(into: &encoder)
            })
    }
}

/// Rows on their way into a binary COPY. A block of rows is encoded column by column, one closure call a column, and then put
/// together row by row: a call for each cell costs several times as much.
struct TableCopy<Row> {
    private static var blockRows: Int { 64 }
    private static var pieceBytes: Int { 65_536 }

    let columns: [PostgresCopyColumn]
    private let columnCount: Int16
    private let sent: [Column<Row>]
    private let rows: [Row]
    private var next = 0
    /// One block, the cells of each column together.
    private var scratch = PostgresEncoder(capacity: 8192)
    /// Where the next cell of each column is.
    private var positions: [Int] = []

    init(_ layout: TableLayout<Row>, _ rows: [Row]) throws(PostgresError) {
        let unsent: ColumnOption = [.identity, .generated, .createdAt, .updatedAt]
        sent = layout.columns.filter { $0.options.isDisjoint(with: unsent) }
        guard !sent.isEmpty, let count = Int16(exactly: sent.count) else {
            throw .upsert("table \"\(layout.name)\" has \(sent.count) columns that can be copied")
        }
        columnCount = count
        columns = sent.map { PostgresCopyColumn($0.name, type: $0.type, format: $0.format) }
        self.rows = rows
    }

    /// About 64 KiB of rows; false when these were the last.
    mutating func writeRows(into encoder: inout PostgresEncoder) throws(PostgresError) -> Bool {
        while next < rows.count {
            if encoder.byteCount >= Self.pieceBytes { return true }
            let count = min(Self.blockRows, rows.count - next)
            try encodeColumns(count)
            interleave(count, into: &encoder)
            next += count
        }
        return false
    }

    private mutating func encodeColumns(_ count: Int) throws(PostgresError) {
        scratch.removeAll()
        positions.removeAll(keepingCapacity: true)
        for column in sent {
            positions.append(scratch.byteCount)
            let failure = encode(column, count)
            // Rows before it may have been sent; the server gives them up with the rest.
            if let failure { throw failure.with(outcome: .rejected) }
        }
    }

    private mutating func encode(_ column: Column<Row>, _ count: Int) -> PostgresError? {
        let first = next
        return rows.withUnsafeBufferPointer { rows -> PostgresError? in
            guard let base = rows.baseAddress else { return nil }
            do throws(PostgresError) {
                try column.writeCells(base + first, nil, count, &scratch)
                return nil
            } catch {
                // Once more, with the rows numbered as the caller numbers them.
                let numbers = Array(first..<first + count)
                return numbers.withUnsafeBufferPointer { numbers in
                    do throws(PostgresError) {
                        try column.writeCells(base, numbers.baseAddress, count, &scratch)
                    } catch {
                        return error
                    }
                    return error
                }
            }
        }
    }

    /// Never beyond the end, whatever a custom codec has made of the encoder.
    private mutating func interleave(_ count: Int, into encoder: inout PostgresEncoder) {
        let columnCount = columnCount
        scratch.withUnsafeBytes { bytes in
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
