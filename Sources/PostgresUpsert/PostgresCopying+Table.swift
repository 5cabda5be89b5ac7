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

extension PostgresBlockingCopying {
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

/// Rows on their way into a binary COPY.
struct TableCopy<Row> {
    private static var blockRows: Int { 64 }
    private static var pieceBytes: Int { 65_536 }

    let columns: [PostgresCopyColumn]
    private let sent: [Column<Row>]
    private let rows: [Row]
    private var next = 0
    private var block = CellBlock()

    init(_ layout: TableLayout<Row>, _ rows: [Row]) throws(PostgresError) {
        let unsent: ColumnOption = [.identity, .generated, .createdAt, .updatedAt]
        sent = layout.columns.filter { $0.options.isDisjoint(with: unsent) }
        guard !sent.isEmpty, Int16(exactly: sent.count) != nil else {
            throw .upsert("table \"\(layout.name)\" has \(sent.count) columns that can be copied")
        }
        columns = sent.map { PostgresCopyColumn($0.name, type: $0.type, format: $0.format) }
        self.rows = rows
    }

    /// About 64 KiB of rows; false when these were the last.
    mutating func writeRows(into encoder: inout PostgresEncoder) throws(PostgresError) -> Bool {
        while next < rows.count {
            if encoder.byteCount >= Self.pieceBytes { return true }
            let count = min(Self.blockRows, rows.count - next)
            block.removeAll()
            for column in sent {
                // Rows before it may have been sent; the server gives them up with the rest.
                if let failure = encode(column, count) { throw failure.with(outcome: .rejected) }
            }
            block.writeRows(count, into: &encoder)
            next += count
        }
        return false
    }

    private mutating func encode(_ column: Column<Row>, _ count: Int) -> PostgresError? {
        let first = next
        return rows.withUnsafeBufferPointer { rows -> PostgresError? in
            guard let base = rows.baseAddress else { return nil }
            do throws(PostgresError) {
                try block.append { (cells: inout PostgresEncoder) throws(PostgresError) in
                    try column.writeCells(base + first, nil, count, &cells)
                }
                return nil
            } catch {
                // Once more, with the rows numbered as the caller numbers them.
                let numbers = Array(first..<first + count)
                return numbers.withUnsafeBufferPointer { numbers in
                    var cells = PostgresEncoder()
                    do throws(PostgresError) {
                        try column.writeCells(base, numbers.baseAddress, count, &cells)
                    } catch {
                        return error
                    }
                    return error
                }
            }
        }
    }
}
