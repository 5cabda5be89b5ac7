import PostgresProtocol

/// What can run a COPY without `async`: a blocking connection, alone or inside of a transaction. See ``PostgresCopying``.
public protocol PostgresBlockingCopying: PostgresBlockingExecutor {
    /// Where its COPYs go.
    var copyPort: PostgresCopyPort { get }
}

extension PostgresBlockingConnection: PostgresBlockingCopying {
    public var copyPort: PostgresCopyPort { PostgresCopyPort(core: core, writer: nil, connection: self) }
}

extension PostgresBlockingTransaction: PostgresBlockingCopying {
    public var copyPort: PostgresCopyPort { asynchronous.copyPort }
}

extension PostgresCopyPort {
    fileprivate func openBlocking() throws(PostgresError) {
        guard let flow, let writer else { return }
        try flow.openBlocking(as: writer)
        flow.noteFailure()
    }

    fileprivate func leaseBlocking() throws(PostgresError) -> Int {
        try openBlocking()
        guard let writer else { return try core.leaseBlocking() }
        let own = core.nextWriter()
        guard core.moveLease(from: writer, to: own) else { throw .leaseEnded }
        return own
    }
}

/// COPY FROM STDIN.
extension PostgresBlockingCopying {
    /// Copies rows into a table that a closure writes as bytes: as the form of ``PostgresCopying``.
    @discardableResult
    public func copy(
        into table: String, schema: String? = nil, columns: [String] = [], format: PostgresCopyFormat = .text,
        _ body: (PostgresBlockingCopyWriter) throws -> Void
    ) throws -> Int {
        let port = copyPort
        let core = port.core
        let sql = try CopyStatement.into(table, schema: schema, columns: columns, format)
        return try core.observedCopyBlocking(sql) {
            let lease = try port.leaseBlocking()
            defer { port.endLease(lease) }
            let stream = try core.copyInBlocking(sql, as: lease)
            do {
                let writer = PostgresBlockingCopyWriter(core, stream, lease)
                try body(writer)
                try writer.flush()
            } catch {
                core.failCopy(stream)
                throw (error as? PostgresError)?.naming(sql) ?? error
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

    /// Copies rows of one column into a table: as the form of ``PostgresCopying``.
    @inlinable @discardableResult
    public func copy<Values: Sequence>(
        into table: String, schema: String? = nil, column: String, values: Values
    ) throws(PostgresError) -> Int where Values.Element: PostgresEncodable {
        var forms = CopyForms([column])
        forms.add(Values.Element.self)
        var iterator = values.makeIterator()
        var row = 0
        return try copy(into: table, schema: schema, columns: try forms.columns()) {
            (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in
            while encoder.byteCount < CopyForms.blockSize {
                guard let value = iterator.next() else { return false }
                do throws(PostgresError) { try encoder.writeRow(value) } catch { throw CopyForms.locate(error, row) }
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
        let port = copyPort
        let core = port.core
        let names = columns.map(\.name)
        let sql = try CopyStatement.into(table, schema: schema, columns: names, .binary)
        let described = try CopyStatement.select(table, schema: schema, columns: names)
        return try core.observedBlocking(.copyIn, sql: sql) { () throws(PostgresError) -> Int in
            let lease = try port.leaseBlocking()
            defer { port.endLease(lease) }
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
}

/// COPY TO STDOUT: bytes.
extension PostgresBlockingCopying {
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
        let handle = try rowHandle(sql, describing: nil)
        while let chunk = try handle.nextBytesBlocking() { try body(chunk) }
        return handle.affected ?? 0
    }
}

/// COPY TO STDOUT: typed rows in binary format.
extension PostgresBlockingCopying {
    /// Copies columns of a table out, as a stream of tuples: as the form of ``PostgresCopying``.
    @inlinable
    public func copy<each Column: PostgresDecodable>(
        from table: String, schema: String? = nil, columns: [String] = [], as row: (repeat each Column).Type
    ) throws(PostgresError) -> PostgresBlockingRowStream<(repeat each Column)> {
        PostgresBlockingRowStream(handle: try rowHandle(table, schema, columns)) {
            (row: PostgresRow) throws(PostgresError) -> (repeat each Column) in
            try row.decode(as: (repeat each Column).self)
        }
    }

    /// Copies columns of a table out, as a stream of a type that reads itself by column name.
    @inlinable
    public func copy<Row: PostgresRowDecodable>(
        from table: String, schema: String? = nil, columns: [String] = [], as row: Row.Type
    ) throws(PostgresError) -> PostgresBlockingRowStream<Row> {
        PostgresBlockingRowStream(handle: try rowHandle(table, schema, columns)) {
            (row: PostgresRow) throws(PostgresError) -> Row in try Row(row: row)
        }
    }

    /// Copies the rows of a query out, as a stream of tuples. It takes no parameters.
    @inlinable
    public func copy<each Column: PostgresDecodable>(
        rowsOf query: PostgresQuery, as row: (repeat each Column).Type
    ) throws(PostgresError) -> PostgresBlockingRowStream<(repeat each Column)> {
        PostgresBlockingRowStream(handle: try rowHandle(query)) {
            (row: PostgresRow) throws(PostgresError) -> (repeat each Column) in
            try row.decode(as: (repeat each Column).self)
        }
    }

    /// Copies the rows of a query out, as a stream of a type that reads itself by column name. It takes no parameters.
    @inlinable
    public func copy<Row: PostgresRowDecodable>(
        rowsOf query: PostgresQuery, as row: Row.Type
    ) throws(PostgresError) -> PostgresBlockingRowStream<Row> {
        PostgresBlockingRowStream(handle: try rowHandle(query)) {
            (row: PostgresRow) throws(PostgresError) -> Row in try Row(row: row)
        }
    }

    @usableFromInline
    func rowHandle(_ table: String, _ schema: String?, _ columns: [String]) throws(PostgresError) -> RowStreamHandle {
        try rowHandle(
            try CopyStatement.from(table, schema: schema, columns: columns, .binary),
            describing: try CopyStatement.select(table, schema: schema, columns: columns))
    }

    @usableFromInline
    func rowHandle(_ query: PostgresQuery) throws(PostgresError) -> RowStreamHandle {
        try rowHandle(try CopyStatement.rows(of: query, .binary), describing: query)
    }

    /// - Parameter query: has the same columns as what is copied, if that is to be rows; nil for bytes.
    private func rowHandle(_ sql: String, describing query: PostgresQuery?) throws(PostgresError) -> RowStreamHandle {
        let port = copyPort
        let stream = try port.core.observedBlocking(.copyOut, sql: sql) { () throws(PostgresError) -> RowStream in
            try port.openBlocking()
            var columns: PostgresColumns?
            if let query { columns = CopyColumns.binary(try port.core.describeBlocking(query, as: port.writer)) }
            return try port.core.copyOutBlocking(sql, rows: columns, as: port.writer)
        }
        return RowStreamHandle(stream: stream, core: port.core, connection: port.connection)
    }
}
