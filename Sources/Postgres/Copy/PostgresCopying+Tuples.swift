/// Rows of few columns, each number of them on its own: the compiler does not unroll a loop over a parameter pack, which costs some
/// twenty nanoseconds a value. Chosen by themselves; the general form says what they do.
extension PostgresCopying {
    /// Copies rows of two values into a table: as the form for tuples of any length.
    @inlinable @discardableResult
    public func copy<Rows: Sequence, A: PostgresEncodable, B: PostgresEncodable>(
        into table: String, schema: String? = nil, columns: [String], rows: Rows
    ) async throws(PostgresError) -> Int where Rows.Element == (A, B) {
        var forms = CopyForms(columns)
        forms.add(A.self)
        forms.add(B.self)
        return try await copyRows(into: table, schema: schema, columns: try forms.columns(), rows) {
            CopyForms.write($0, from: &$1, until: $2, into: &$3)
        }
    }

    /// Copies rows of three values into a table: as the form for tuples of any length.
    @inlinable @discardableResult
    public func copy<Rows: Sequence, A: PostgresEncodable, B: PostgresEncodable, C: PostgresEncodable>(
        into table: String, schema: String? = nil, columns: [String], rows: Rows
    ) async throws(PostgresError) -> Int where Rows.Element == (A, B, C) {
        var forms = CopyForms(columns)
        forms.add(A.self)
        forms.add(B.self)
        forms.add(C.self)
        return try await copyRows(into: table, schema: schema, columns: try forms.columns(), rows) {
            CopyForms.write($0, from: &$1, until: $2, into: &$3)
        }
    }

    /// Copies rows of four values into a table: as the form for tuples of any length.
    @inlinable @discardableResult
    public func copy<
        Rows: Sequence, A: PostgresEncodable, B: PostgresEncodable, C: PostgresEncodable, D: PostgresEncodable
    >(
        into table: String, schema: String? = nil, columns: [String], rows: Rows
    ) async throws(PostgresError) -> Int where Rows.Element == (A, B, C, D) {
        var forms = CopyForms(columns)
        forms.add(A.self)
        forms.add(B.self)
        forms.add(C.self)
        forms.add(D.self)
        return try await copyRows(into: table, schema: schema, columns: try forms.columns(), rows) {
            CopyForms.write($0, from: &$1, until: $2, into: &$3)
        }
    }

    /// Copies rows of five values into a table: as the form for tuples of any length.
    @inlinable @discardableResult
    public func copy<
        Rows: Sequence, A: PostgresEncodable, B: PostgresEncodable, C: PostgresEncodable, D: PostgresEncodable,
        E: PostgresEncodable
    >(
        into table: String, schema: String? = nil, columns: [String], rows: Rows
    ) async throws(PostgresError) -> Int where Rows.Element == (A, B, C, D, E) {
        var forms = CopyForms(columns)
        forms.add(A.self)
        forms.add(B.self)
        forms.add(C.self)
        forms.add(D.self)
        forms.add(E.self)
        return try await copyRows(into: table, schema: schema, columns: try forms.columns(), rows) {
            CopyForms.write($0, from: &$1, until: $2, into: &$3)
        }
    }

    /// Copies rows of six values into a table: as the form for tuples of any length.
    @inlinable @discardableResult
    public func copy<
        Rows: Sequence, A: PostgresEncodable, B: PostgresEncodable, C: PostgresEncodable, D: PostgresEncodable,
        E: PostgresEncodable, F: PostgresEncodable
    >(
        into table: String, schema: String? = nil, columns: [String], rows: Rows
    ) async throws(PostgresError) -> Int where Rows.Element == (A, B, C, D, E, F) {
        var forms = CopyForms(columns)
        forms.add(A.self)
        forms.add(B.self)
        forms.add(C.self)
        forms.add(D.self)
        forms.add(E.self)
        forms.add(F.self)
        return try await copyRows(into: table, schema: schema, columns: try forms.columns(), rows) {
            CopyForms.write($0, from: &$1, until: $2, into: &$3)
        }
    }

    /// - Parameter write: encodes rows from a number on, until there are enough bytes; advances the number, and tells what was wrong
    ///   with the row at it. Called once for many rows: a call for each costs more than the row.
    @inlinable @inline(__always)
    func copyRows<Rows: Sequence>(
        into table: String, schema: String?, columns: [PostgresCopyColumn], _ rows: Rows,
        _ write: (UnsafeBufferPointer<Rows.Element>, inout Int, Int, inout PostgresEncoder) -> PostgresError?
    ) async throws(PostgresError) -> Int {
        var row = 0
        if let count = rows.withContiguousStorageIfAvailable({ $0.count }) {
            return try await copy(into: table, schema: schema, columns: columns) {
                (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in
                // Lent for one block at a time: between blocks this waits.
                let failure = rows.withContiguousStorageIfAvailable {
                    $0.count == count ? write($0, &row, CopyForms.blockSize, &encoder) : CopyForms.changed()
                }
                if let failure = failure ?? CopyForms.changed() { throw CopyForms.locate(failure, row) }
                return row < count
            }
        }
        var iterator = rows.makeIterator()
        var gathered: [Rows.Element] = []
        gathered.reserveCapacity(CopyForms.gatheredRows)
        return try await copy(into: table, schema: schema, columns: columns) {
            (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in
            while encoder.byteCount < CopyForms.blockSize {
                gathered.removeAll(keepingCapacity: true)
                while gathered.count < CopyForms.gatheredRows, let values = iterator.next() { gathered.append(values) }
                if gathered.isEmpty { return false }
                var index = 0
                let failure = gathered.withUnsafeBufferPointer { write($0, &index, .max, &encoder) }
                if let failure { throw CopyForms.locate(failure, row &+ index) }
                row &+= gathered.count
            }
            return true
        }
    }
}
