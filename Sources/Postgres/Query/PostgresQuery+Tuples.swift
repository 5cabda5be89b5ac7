/// Rows of few columns, each number of them on its own: the compiler does not unroll a loop over a parameter pack, which costs
/// some ten nanoseconds a value. Chosen by themselves; the general forms say what they do.
extension PostgresQuery {
    /// Rows of two columns as tuples.
    @inlinable
    public func `as`<A: PostgresDecodable, B: PostgresDecodable>(_ columns: (A, B).Type) -> Typed<(A, B)> {
        var formats = ResultFormats.Builder()
        formats.append(A.postgresResultFormat)
        formats.append(B.postgresResultFormat)
        return Typed(self, formats: formats.formats) { (row: PostgresRow) throws(PostgresError) -> (A, B) in
            var cursor = try row.cursor(over: 2)
            return (try cursor.next(A.self), try cursor.next(B.self))
        }
    }

    /// Rows of three columns as tuples.
    @inlinable
    public func `as`<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable
    >(_ columns: (A, B, C).Type) -> Typed<(A, B, C)> {
        var formats = ResultFormats.Builder()
        formats.append(A.postgresResultFormat)
        formats.append(B.postgresResultFormat)
        formats.append(C.postgresResultFormat)
        return Typed(self, formats: formats.formats) { (row: PostgresRow) throws(PostgresError) -> (A, B, C) in
            var cursor = try row.cursor(over: 3)
            return (try cursor.next(A.self), try cursor.next(B.self), try cursor.next(C.self))
        }
    }

    /// Rows of four columns as tuples.
    @inlinable
    public func `as`<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable
    >(_ columns: (A, B, C, D).Type) -> Typed<(A, B, C, D)> {
        var formats = ResultFormats.Builder()
        formats.append(A.postgresResultFormat)
        formats.append(B.postgresResultFormat)
        formats.append(C.postgresResultFormat)
        formats.append(D.postgresResultFormat)
        return Typed(self, formats: formats.formats) { (row: PostgresRow) throws(PostgresError) -> (A, B, C, D) in
            var cursor = try row.cursor(over: 4)
            return (try cursor.next(A.self), try cursor.next(B.self), try cursor.next(C.self), try cursor.next(D.self))
        }
    }

    /// Rows of five columns as tuples.
    @inlinable
    public func `as`<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable
    >(_ columns: (A, B, C, D, E).Type) -> Typed<(A, B, C, D, E)> {
        var formats = ResultFormats.Builder()
        formats.append(A.postgresResultFormat)
        formats.append(B.postgresResultFormat)
        formats.append(C.postgresResultFormat)
        formats.append(D.postgresResultFormat)
        formats.append(E.postgresResultFormat)
        return Typed(self, formats: formats.formats) { (row: PostgresRow) throws(PostgresError) -> (A, B, C, D, E) in
            var cursor = try row.cursor(over: 5)
            return (
                try cursor.next(A.self), try cursor.next(B.self), try cursor.next(C.self),
                try cursor.next(D.self), try cursor.next(E.self)
            )
        }
    }

    /// Rows of six columns as tuples.
    @inlinable
    public func `as`<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable,
        F: PostgresDecodable
    >(_ columns: (A, B, C, D, E, F).Type) -> Typed<(A, B, C, D, E, F)> {
        var formats = ResultFormats.Builder()
        formats.append(A.postgresResultFormat)
        formats.append(B.postgresResultFormat)
        formats.append(C.postgresResultFormat)
        formats.append(D.postgresResultFormat)
        formats.append(E.postgresResultFormat)
        formats.append(F.postgresResultFormat)
        return Typed(self, formats: formats.formats) { (row: PostgresRow) throws(PostgresError) -> (A, B, C, D, E, F) in
            var cursor = try row.cursor(over: 6)
            return (
                try cursor.next(A.self), try cursor.next(B.self), try cursor.next(C.self),
                try cursor.next(D.self), try cursor.next(E.self), try cursor.next(F.self)
            )
        }
    }
}

extension PostgresExecutor {
    /// Rows of two columns as tuples.
    @inlinable
    public func query<A: PostgresDecodable, B: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (A, B).Type
    ) async throws(PostgresError) -> PostgresRows<(A, B)> {
        try await self.query(query.as(columns))
    }

    /// Rows of three columns as tuples.
    @inlinable
    public func query<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (A, B, C).Type
    ) async throws(PostgresError) -> PostgresRows<(A, B, C)> {
        try await self.query(query.as(columns))
    }

    /// Rows of four columns as tuples.
    @inlinable
    public func query<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (A, B, C, D).Type
    ) async throws(PostgresError) -> PostgresRows<(A, B, C, D)> {
        try await self.query(query.as(columns))
    }

    /// Rows of five columns as tuples.
    @inlinable
    public func query<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable
    >(
        _ query: PostgresQuery, as columns: (A, B, C, D, E).Type
    ) async throws(PostgresError) -> PostgresRows<(A, B, C, D, E)> {
        try await self.query(query.as(columns))
    }

    /// Rows of six columns as tuples.
    @inlinable
    public func query<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable,
        F: PostgresDecodable
    >(
        _ query: PostgresQuery, as columns: (A, B, C, D, E, F).Type
    ) async throws(PostgresError) -> PostgresRows<(A, B, C, D, E, F)> {
        try await self.query(query.as(columns))
    }
}

extension PostgresStreaming {
    /// Rows of two columns as tuples.
    @inlinable
    public func stream<A: PostgresDecodable, B: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (A, B).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B)> {
        try await stream(query.as(columns))
    }

    /// Rows of three columns as tuples.
    @inlinable
    public func stream<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (A, B, C).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C)> {
        try await stream(query.as(columns))
    }

    /// Rows of four columns as tuples.
    @inlinable
    public func stream<A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable>(
        _ query: PostgresQuery, as columns: (A, B, C, D).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C, D)> {
        try await stream(query.as(columns))
    }

    /// Rows of five columns as tuples.
    @inlinable
    public func stream<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable
    >(
        _ query: PostgresQuery, as columns: (A, B, C, D, E).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C, D, E)> {
        try await stream(query.as(columns))
    }

    /// Rows of six columns as tuples.
    @inlinable
    public func stream<
        A: PostgresDecodable, B: PostgresDecodable, C: PostgresDecodable, D: PostgresDecodable, E: PostgresDecodable,
        F: PostgresDecodable
    >(
        _ query: PostgresQuery, as columns: (A, B, C, D, E, F).Type
    ) async throws(PostgresError) -> PostgresRowStream<(A, B, C, D, E, F)> {
        try await stream(query.as(columns))
    }
}
