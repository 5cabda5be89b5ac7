/// COPY FROM STDIN: bytes.
extension PostgresCopying {
    /// Copies rows into a table that a closure writes as bytes, atomically.
    ///
    /// ```swift
    /// let count = try await db.copy(into: "users", columns: ["id", "name"], format: .csv) { writer in
    ///     for line in lines { try await writer.write(line + "\n") }
    /// }
    /// ```
    /// If the closure throws, or the task is cancelled, nothing is copied, and the error arrives as itself. An error that the
    /// server finds is thrown by the writer as soon as it is known, and in any case by this call.
    ///
    /// ``withPostgresTimeout(_:_:)`` bounds all of it; ``PostgresConfiguration/queryTimeout`` each wait
    /// for the server: until it copies in, for room while it does not take the bytes, and for its word at the end. At the deadline
    /// the COPY fails with `timedOut`, and nothing was copied, unless the outcome is `unknown`: then all had been sent.
    ///
    /// SQL: `COPY "users" ("id", "name") FROM STDIN WITH (FORMAT csv)`
    ///
    /// - Parameters:
    ///   - table: the table's name, without quotes.
    ///   - schema: its schema; nil leaves the choice to `search_path`.
    ///   - columns: the columns that the bytes hold, in their order; empty for all of them.
    ///   - format: how rows are written.
    ///   - body: must not use the connection otherwise: that is an error, and a task made in it would wait for ever.
    /// - Returns: how many rows were copied.
    @discardableResult
    public func copy(
        into table: String, schema: String? = nil, columns: [String] = [], format: PostgresCopyFormat = .text,
        _ body: (PostgresCopyWriter) async throws -> Void
    ) async throws -> Int {
        let port = copyPort
        let sql = try CopyStatement.into(table, schema: schema, columns: columns, format)
        return try await port.core.observedCopy(sql) {
            let lease = try await port.lease()
            defer { port.endLease(lease) }
            let stream = try await port.core.copyIn(sql, as: lease)
            do {
                let writer = PostgresCopyWriter(port.core, stream, lease)
                try await body(writer)
                try await writer.flush()
            } catch {
                port.core.failCopy(stream)
                throw (error as? PostgresError)?.naming(sql) ?? error
            }
            do throws(PostgresError) { return try await port.core.finishCopy(stream) } catch {
                throw error.with(sql: sql)
            }
        }
    }

    /// Copies rows into a table from a sequence of bytes, atomically and with back-pressure. The pieces need not be whole rows.
    ///
    /// ```swift
    /// try await db.copy(into: "users", format: .csv(header: true), from: file.chunks)
    /// ```
    /// What the sequence throws arrives as itself, and nothing is copied; the same when the task is cancelled.
    ///
    /// - Returns: how many rows were copied.
    @discardableResult
    public func copy<Chunks: AsyncSequence>(
        into table: String, schema: String? = nil, columns: [String] = [], format: PostgresCopyFormat = .text,
        from chunks: Chunks
    ) async throws -> Int where Chunks.Element: Sequence<UInt8> {
        try await copy(into: table, schema: schema, columns: columns, format: format) { writer in
            for try await chunk in chunks { try await writer.write(chunk) }
        }
    }
}

/// COPY FROM STDIN: typed rows in binary format.
extension PostgresCopying {
    /// Copies rows into a table, each a tuple, atomically.
    ///
    /// ```swift
    /// try await db.copy(into: "points", columns: ["id", "name", "x"], rows: points)   // [(Int32, String, Double)]
    /// ```
    /// Nothing is converted: values must be of their column's own type, `Int32` for integer and `Int` for bigint. A String goes
    /// into text-like columns and enums. That is checked by a describing round trip before anything is sent.
    ///
    /// SQL: `COPY "points" ("id", "name", "x") FROM STDIN WITH (FORMAT binary)`
    ///
    /// - Parameters:
    ///   - table: the table's name, without quotes.
    ///   - schema: its schema; nil leaves the choice to `search_path`.
    ///   - columns: a column for each element of the tuples. The others get their defaults.
    ///   - rows: gone through once. For rows of one value see `copy(into:schema:column:values:)`.
    /// - Returns: how many rows were copied.
    /// - Throws: `typeMismatch` or `columnCount` before anything is sent; else the server's error, whose context tells the line.
    @inlinable @discardableResult
    public func copy<Rows: Sequence, each Column: PostgresEncodable>(
        into table: String, schema: String? = nil, columns: [String], rows: Rows
    ) async throws(PostgresError) -> Int where Rows.Element == (repeat each Column) {
        var forms = CopyForms(columns)
        repeat forms.add((each Column).self)
        var iterator = rows.makeIterator()
        var row = 0
        return try await copy(into: table, schema: schema, columns: try forms.columns()) {
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

    /// Copies rows into a table from an asynchronous sequence of tuples, atomically and with back-pressure.
    ///
    /// As the form for sequences. What the sequence throws arrives as itself, and nothing is copied; the same when the task is
    /// cancelled.
    @inlinable @discardableResult
    public func copy<Rows: AsyncSequence, each Column: PostgresEncodable>(
        into table: String, schema: String? = nil, columns: [String], rows: Rows
    ) async throws -> Int where Rows.Element == (repeat each Column) {
        var forms = CopyForms(columns)
        repeat forms.add((each Column).self)
        return try await copyRows(into: table, schema: schema, columns: try forms.columns()) { writer in
            var row = 0
            for try await values in rows {
                do throws(PostgresError) { try writer.encoder.writeRow(repeat each values) } catch {
                    throw CopyForms.locate(error, row)
                }
                row &+= 1
                if writer.encoder.byteCount >= CopyForms.blockSize { try await writer.flush() }
            }
        }
    }

    /// Copies rows of one column into a table, atomically.
    ///
    /// - Returns: how many rows were copied.
    @inlinable @discardableResult
    public func copy<Values: Sequence>(
        into table: String, schema: String? = nil, column: String, values: Values
    ) async throws(PostgresError) -> Int where Values.Element: PostgresEncodable {
        var forms = CopyForms([column])
        forms.add(Values.Element.self)
        var iterator = values.makeIterator()
        var row = 0
        return try await copy(into: table, schema: schema, columns: try forms.columns()) {
            (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in
            while encoder.byteCount < CopyForms.blockSize {
                guard let value = iterator.next() else { return false }
                do throws(PostgresError) { try encoder.writeRow(value) } catch { throw CopyForms.locate(error, row) }
                row &+= 1
            }
            return true
        }
    }

    /// Copies rows into a table that a closure encodes, for libraries that know how their rows are written.
    ///
    /// - Parameters:
    ///   - table: the table's name, without quotes.
    ///   - schema: its schema; nil leaves the choice to `search_path`.
    ///   - columns: what the rows' cells are, in order. Types are checked against the table's before anything is sent.
    ///   - writeRows: called again and again with an empty encoder: writes whole rows, best about 64 KiB of them, and tells whether
    ///     there may be more. A row is the number of columns as an Int16, and a cell each (``PostgresEncoder/writeCell(_:)``), or
    ///     what ``PostgresEncoder/writeRow(_:)`` writes.
    /// - Returns: how many rows were copied.
    @discardableResult
    public func copy(
        into table: String, schema: String? = nil, columns: [PostgresCopyColumn],
        writeRows: (inout PostgresEncoder) throws(PostgresError) -> Bool
    ) async throws(PostgresError) -> Int {
        let port = copyPort
        let names = columns.map(\.name)
        let sql = try CopyStatement.into(table, schema: schema, columns: names, .binary)
        let described = try CopyStatement.select(table, schema: schema, columns: names)
        return try await port.core.observed(.copyIn, sql: sql) {
            () async throws(PostgresError) -> Int in
            let lease = try await port.lease()
            defer { port.endLease(lease) }
            try await port.check(columns, of: described, as: lease)
            let stream = try await port.core.copyIn(sql, as: lease)
            do throws(PostgresError) {
                var encoder = PostgresEncoder(capacity: CopyForms.blockSize &+ 4096)
                CopyForms.writeHeader(into: &encoder)
                while try writeRows(&encoder) {
                    try await port.core.writeCopyData(stream, encoder, as: lease)
                    encoder.removeAll()
                }
                encoder.write(Int16(-1))
                try await port.core.writeCopyData(stream, encoder, as: lease)
                return try await port.core.finishCopy(stream)
            } catch {
                port.core.failCopy(stream)
                throw error.with(sql: sql)
            }
        }
    }

    @usableFromInline
    func copyRows(
        into table: String, schema: String?, columns: [PostgresCopyColumn],
        _ body: (CopyRowWriter) async throws -> Void
    ) async throws -> Int {
        let port = copyPort
        let names = columns.map(\.name)
        let sql = try CopyStatement.into(table, schema: schema, columns: names, .binary)
        let described = try CopyStatement.select(table, schema: schema, columns: names)
        return try await port.core.observedCopy(sql) {
            let lease = try await port.lease()
            defer { port.endLease(lease) }
            try await port.check(columns, of: described, as: lease)
            let stream = try await port.core.copyIn(sql, as: lease)
            do {
                let writer = CopyRowWriter(port.core, stream, lease)
                try await body(writer)
                writer.encoder.write(Int16(-1))
                try await writer.flush()
            } catch {
                port.core.failCopy(stream)
                throw (error as? PostgresError)?.naming(sql) ?? error
            }
            do throws(PostgresError) { return try await port.core.finishCopy(stream) } catch {
                throw error.with(sql: sql)
            }
        }
    }
}
