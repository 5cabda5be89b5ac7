/// COPY for the blocking API.
extension PostgresBlockingConnection {
    /// Copies rows into a table that a closure writes as bytes: as the form of ``PostgresCopying``.
    @discardableResult
    public func copy(
        into table: String, schema: String? = nil, columns: [String] = [], format: PostgresCopyFormat = .text,
        _ body: (PostgresBlockingCopyWriter) throws -> Void
    ) throws -> Int {
        let sql = try CopyStatement.into(table, schema: schema, columns: columns, format)
        return try core.observedCopyBlocking(sql) {
            let lease = try core.leaseBlocking()
            defer { core.endLease(lease) }
            let stream = try core.copyInBlocking(sql, as: lease)
            do {
                let writer = PostgresBlockingCopyWriter(core, stream, lease)
                try body(writer)
                try writer.flush()
            } catch {
                core.failCopy(stream)
                throw (error as? PostgresError).map { $0.sql == nil ? $0.with(sql: sql) : $0 } ?? error
            }
            do throws(PostgresError) { return try core.finishCopyBlocking(stream) } catch {
                throw error.with(sql: sql)
            }
        }
    }

    /// Copies rows into a table, each a tuple: as the form of ``PostgresCopying``.
    @inlinable @discardableResult
    public func copy<Rows: Sequence, each Column: PostgresEncodable>(
        into table: String, schema: String? = nil, columns: [String], rows: Rows
    ) throws(PostgresError) -> Int where Rows.Element == (repeat each Column) {
        var forms = CopyForms(columns)
        repeat forms.add((each Column).self)
        var iterator = rows.makeIterator()
        var row = 0
        return try copy(into: table, schema: schema, columns: try forms.columns()) {
            (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in
            while encoder.byteCount < CopyForms.blockSize {
                guard let values = iterator.next() else { return false }
                do throws(PostgresError) { try encoder.writeRow(repeat each values) } catch {
                    throw CopyForms.locate(error, row)
                }
                row &+= 1
            }
            return true
        }
    }

    /// Copies rows into a table that a closure encodes: as the form of ``PostgresCopying``.
    @discardableResult
    public func copy(
        into table: String, schema: String? = nil, columns: [PostgresCopyColumn],
        writeRows: (inout PostgresEncoder) throws(PostgresError) -> Bool
    ) throws(PostgresError) -> Int {
        let names = columns.map(\.name)
        let sql = try CopyStatement.into(table, schema: schema, columns: names, .binary)
        let described = try CopyStatement.select(table, schema: schema, columns: names)
        return try core.observedBlocking(.copyIn, sql: sql) { () throws(PostgresError) -> Int in
            let lease = try core.leaseBlocking()
            defer { core.endLease(lease) }
            try core.checkBlocking(columns, of: described, as: lease)
            let stream = try core.copyInBlocking(sql, as: lease)
            do throws(PostgresError) {
                var encoder = PostgresEncoder(capacity: CopyForms.blockSize &+ 4096)
                CopyForms.writeHeader(into: &encoder)
                while try writeRows(&encoder) {
                    try core.writeCopyDataBlocking(stream, encoder, as: lease)
                    encoder.removeAll()
                }
                encoder.write(Int16(-1))
                try core.writeCopyDataBlocking(stream, encoder, as: lease)
                return try core.finishCopyBlocking(stream)
            } catch {
                core.failCopy(stream)
                throw error.with(sql: sql)
            }
        }
    }

    /// Copies a table out, and hands the bytes to a closure in pieces of whole rows. If it throws, the rest is read and thrown
    /// away, and the error arrives as itself.
    ///
    /// - Returns: how many rows were copied.
    @discardableResult
    public func copy(
        from table: String, schema: String? = nil, columns: [String] = [], format: PostgresCopyFormat = .text,
        _ body: ([UInt8]) throws -> Void
    ) throws -> Int {
        try copyOut(try CopyStatement.from(table, schema: schema, columns: columns, format), body)
    }

    /// Copies the rows of a query out, and hands the bytes to a closure. It takes no parameters.
    ///
    /// - Returns: how many rows were copied.
    @discardableResult
    public func copy(
        rowsOf query: PostgresQuery, format: PostgresCopyFormat = .text, _ body: ([UInt8]) throws -> Void
    ) throws -> Int {
        try copyOut(try CopyStatement.rows(of: query, format), body)
    }

    private func copyOut(_ sql: String, _ body: ([UInt8]) throws -> Void) throws -> Int {
        let stream = try core.observedBlocking(.copyOut, sql: sql) {
            () throws(PostgresError) -> RowStream in try core.copyOutBlocking(sql)
        }
        let handle = RowStreamHandle(stream: stream, core: core, connection: self)
        while let chunk = try handle.nextBytesBlocking() { try body(chunk) }
        return handle.affected ?? 0
    }
}
