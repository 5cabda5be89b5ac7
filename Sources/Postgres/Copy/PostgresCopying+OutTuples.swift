/// Rows of few columns, each number of them on its own, for the reason that those of a query are: `PostgresQuery+Tuples`. Chosen by
/// themselves; the general forms say what they do.
extension PostgresCopying {
    /// Copies columns of a table out, as a stream of tuples of two.
    @inlinable
    public func copy<A: PostgresDecodable, B: PostgresDecodable>(
        from table: String, schema: String? = nil, columns: [String] = [], as row: (A, B).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B)> {
        PostgresRowStream(handle: try await rowHandle(table, schema, columns)) {
            (row: PostgresRow) throws(PostgresError) -> (A, B) in
            try CopyTuples.read2(row)
        }
    }

    /// Copies the rows of a query out, as a stream of tuples of two.
    @inlinable
    public func copy<A: PostgresDecodable, B: PostgresDecodable>(
        rowsOf query: PostgresQuery, as row: (A, B).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B)> {
        PostgresRowStream(handle: try await rowHandle(query)) { (row: PostgresRow) throws(PostgresError) -> (A, B) in
            try CopyTuples.read2(row)
        }
    }

    /// Copies columns of a table out, as a stream of tuples of three.
    @inlinable
    public func copy<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable>(
        from table: String, schema: String? = nil, columns: [String] = [], as row: (A, B, C).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C)> {
        PostgresRowStream(handle: try await rowHandle(table, schema, columns)) {
            (row: PostgresRow) throws(PostgresError) -> (A, B, C) in
            try CopyTuples.read3(row)
        }
    }

    /// Copies the rows of a query out, as a stream of tuples of three.
    @inlinable
    public func copy<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable>(
        rowsOf query: PostgresQuery, as row: (A, B, C).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C)> {
        PostgresRowStream(handle: try await rowHandle(query)) { (row: PostgresRow) throws(PostgresError) -> (A, B, C) in
            try CopyTuples.read3(row)
        }
    }

    /// Copies columns of a table out, as a stream of tuples of four.
    @inlinable
    public func copy<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable>(
        from table: String, schema: String? = nil, columns: [String] = [], as row: (A, B, C, D).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C, D)> {
        PostgresRowStream(handle: try await rowHandle(table, schema, columns)) {
            (row: PostgresRow) throws(PostgresError) -> (A, B, C, D) in
            try CopyTuples.read4(row)
        }
    }

    /// Copies the rows of a query out, as a stream of tuples of four.
    @inlinable
    public func copy<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable>(
        rowsOf query: PostgresQuery, as row: (A, B, C, D).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C, D)> {
        PostgresRowStream(handle: try await rowHandle(query)) {
            (row: PostgresRow) throws(PostgresError) -> (A, B, C, D) in
            try CopyTuples.read4(row)
        }
    }

    /// Copies columns of a table out, as a stream of tuples of five.
    @inlinable
    public func copy<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable
    >(
        from table: String, schema: String? = nil, columns: [String] = [], as row: (A, B, C, D, E).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C, D, E)> {
        PostgresRowStream(handle: try await rowHandle(table, schema, columns)) {
            (row: PostgresRow) throws(PostgresError) -> (A, B, C, D, E) in
            try CopyTuples.read5(row)
        }
    }

    /// Copies the rows of a query out, as a stream of tuples of five.
    @inlinable
    public func copy<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable
    >(
        rowsOf query: PostgresQuery, as row: (A, B, C, D, E).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C, D, E)> {
        PostgresRowStream(handle: try await rowHandle(query)) {
            (row: PostgresRow) throws(PostgresError) -> (A, B, C, D, E) in
            try CopyTuples.read5(row)
        }
    }

    /// Copies columns of a table out, as a stream of tuples of six.
    @inlinable
    public func copy<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable,
        F: PostgresDecodable
    >(
        from table: String, schema: String? = nil, columns: [String] = [], as row: (A, B, C, D, E, F).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C, D, E, F)> {
        PostgresRowStream(handle: try await rowHandle(table, schema, columns)) {
            (row: PostgresRow) throws(PostgresError) -> (A, B, C, D, E, F) in
            try CopyTuples.read6(row)
        }
    }

    /// Copies the rows of a query out, as a stream of tuples of six.
    @inlinable
    public func copy<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable,
        F: PostgresDecodable
    >(
        rowsOf query: PostgresQuery, as row: (A, B, C, D, E, F).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C, D, E, F)> {
        PostgresRowStream(handle: try await rowHandle(query)) {
            (row: PostgresRow) throws(PostgresError) -> (A, B, C, D, E, F) in
            try CopyTuples.read6(row)
        }
    }
}

/// Reads the rows of a COPY.
@usableFromInline
enum CopyTuples {
    @inlinable @inline(__always)
    static func read2<A: PostgresDecodable, B: PostgresDecodable>(
        _ row: PostgresRow
    ) throws(PostgresError) -> (A, B) {
        var cursor = try row.cursor(over: 2)
        return (try cursor.next(A.self), try cursor.next(B.self))
    }

    @inlinable @inline(__always)
    static func read3<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable>(
        _ row: PostgresRow
    ) throws(PostgresError) -> (A, B, C) {
        var cursor = try row.cursor(over: 3)
        return (try cursor.next(A.self), try cursor.next(B.self), try cursor.next(C.self))
    }

    @inlinable @inline(__always)
    static func read4<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable>(
        _ row: PostgresRow
    ) throws(PostgresError) -> (A, B, C, D) {
        var cursor = try row.cursor(over: 4)
        return (try cursor.next(A.self), try cursor.next(B.self), try cursor.next(C.self), try cursor.next(D.self))
    }

    @inlinable @inline(__always)
    static func read5<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable
    >(
        _ row: PostgresRow
    ) throws(PostgresError) -> (A, B, C, D, E) {
        var cursor = try row.cursor(over: 5)
        return (
            try cursor.next(A.self), try cursor.next(B.self), try cursor.next(C.self), try cursor.next(D.self),
            try cursor.next(E.self)
        )
    }

    @inlinable @inline(__always)
    static func read6<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable,
        F: PostgresDecodable
    >(
        _ row: PostgresRow
    ) throws(PostgresError) -> (A, B, C, D, E, F) {
        var cursor = try row.cursor(over: 6)
        return (
            try cursor.next(A.self), try cursor.next(B.self), try cursor.next(C.self), try cursor.next(D.self),
            try cursor.next(E.self), try cursor.next(F.self)
        )
    }
}
