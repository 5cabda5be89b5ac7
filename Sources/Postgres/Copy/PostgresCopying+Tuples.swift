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
            (row: borrowing BorrowedValue<(A, B)>, encoder: inout PostgresEncoder) throws(PostgresError) in
            encoder.write(Int16(2))
            try encoder.writeCell(row.value.0)
            try encoder.writeCell(row.value.1)
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
            (row: borrowing BorrowedValue<(A, B, C)>, encoder: inout PostgresEncoder) throws(PostgresError) in
            encoder.write(Int16(3))
            try encoder.writeCell(row.value.0)
            try encoder.writeCell(row.value.1)
            try encoder.writeCell(row.value.2)
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
            (row: borrowing BorrowedValue<(A, B, C, D)>, encoder: inout PostgresEncoder) throws(PostgresError) in
            encoder.write(Int16(4))
            try encoder.writeCell(row.value.0)
            try encoder.writeCell(row.value.1)
            try encoder.writeCell(row.value.2)
            try encoder.writeCell(row.value.3)
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
            (row: borrowing BorrowedValue<(A, B, C, D, E)>, encoder: inout PostgresEncoder) throws(PostgresError) in
            encoder.write(Int16(5))
            try encoder.writeCell(row.value.0)
            try encoder.writeCell(row.value.1)
            try encoder.writeCell(row.value.2)
            try encoder.writeCell(row.value.3)
            try encoder.writeCell(row.value.4)
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
            (row: borrowing BorrowedValue<(A, B, C, D, E, F)>, encoder: inout PostgresEncoder) throws(PostgresError) in
            encoder.write(Int16(6))
            try encoder.writeCell(row.value.0)
            try encoder.writeCell(row.value.1)
            try encoder.writeCell(row.value.2)
            try encoder.writeCell(row.value.3)
            try encoder.writeCell(row.value.4)
            try encoder.writeCell(row.value.5)
        }
    }

    @inlinable @inline(__always)
    func copyRows<Rows: Sequence>(
        into table: String, schema: String?, columns: [PostgresCopyColumn], _ rows: Rows,
        _ write: (borrowing BorrowedValue<Rows.Element>, inout PostgresEncoder) throws(PostgresError) -> Void
    ) async throws(PostgresError) -> Int {
        var row = 0
        if let count = rows.withContiguousStorageIfAvailable({ $0.count }) {
            return try await copy(into: table, schema: schema, columns: columns) {
                (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in
                // Lent for one block at a time: between blocks this waits.
                let failure: PostgresError?? = rows.withContiguousStorageIfAvailable { lent -> PostgresError? in
                    guard let first = UnsafeRawPointer(lent.baseAddress), lent.count == count else {
                        return count == 0 ? nil : CopyForms.changed()
                    }
                    let base = first.assumingMemoryBound(to: BorrowedValue<Rows.Element>.self)
                    do throws(PostgresError) {
                        while row < count, encoder.byteCount < CopyForms.blockSize {
                            try write(base[row], &encoder)
                            row &+= 1
                        }
                    } catch {
                        return CopyForms.locate(error, row)
                    }
                    return nil
                }
                if let failure = failure ?? CopyForms.changed() { throw failure }
                return row < count
            }
        }
        var iterator = rows.makeIterator()
        return try await copy(into: table, schema: schema, columns: columns) {
            (encoder: inout PostgresEncoder) throws(PostgresError) -> Bool in
            while encoder.byteCount < CopyForms.blockSize {
                guard let values = iterator.next() else { return false }
                do throws(PostgresError) { try write(BorrowedValue(values), &encoder) } catch {
                    throw CopyForms.locate(error, row)
                }
                row &+= 1
            }
            return true
        }
    }
}
