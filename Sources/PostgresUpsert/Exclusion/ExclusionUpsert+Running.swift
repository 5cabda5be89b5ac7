public import Postgres

// Wherever an `Upsert` goes, this goes too, and nothing comes out of it that could update.

extension PostgresExecutor {
    /// Inserts rows that an exclusion constraint allows.
    ///
    /// - Returns: how many were inserted, by the command tag.
    @discardableResult
    public func upsert<Row>(_ upsert: ExclusionUpsert<Row, Never>) async throws(PostgresError) -> Int {
        try await self.upsert(upsert.upsert)
    }

    /// Inserts rows that an exclusion constraint allows, and tells what became of each, in the order in which they were given.
    @discardableResult
    public func upsert<Row, Output>(
        _ upsert: ExclusionUpsert<Row, Output>
    ) async throws(PostgresError) -> UpsertResult<Output> {
        try await self.upsert(upsert.upsert)
    }

    /// Inserts rows that an exclusion constraint allows, so that an error takes no more with it than `isolation` says.
    public func upsert<Row, Output>(
        _ upsert: ExclusionUpsert<Row, Output>, isolation: UpsertIsolation
    ) async throws(PostgresError) -> UpsertReport<Output> {
        try await self.upsert(upsert.upsert, isolation: isolation)
    }

    /// Inserts those of a sequence of rows that an exclusion constraint allows, in chunks: as the form for an ``Upsert``.
    @discardableResult
    public func upsert<Row, Rows: AsyncSequence>(
        _ upsert: ExclusionUpsert<Row, Never>, from rows: Rows,
        report: (UpsertProgress) async throws -> Void = { _ in }
    ) async throws(UpsertInterrupted) -> UpsertProgress where Rows.Element == Row {
        try await self.upsert(upsert.upsert, from: rows, report: report)
    }

    /// Compares a table with its declaration, and looks for the exclusion constraint: as the form for an ``Upsert``.
    public func check<Row: PostgresTable, Output>(
        _ table: Row.Type, _ upsert: ExclusionUpsert<Row, Output>
    ) async throws(PostgresError) -> [UpsertTableDifference] {
        try await check(table, upsert.upsert)
    }
}

extension PostgresBlockingExecutor {
    /// Inserts rows that an exclusion constraint allows.
    ///
    /// - Returns: how many were inserted, by the command tag.
    @discardableResult
    public func upsert<Row>(_ upsert: ExclusionUpsert<Row, Never>) throws(PostgresError) -> Int {
        try self.upsert(upsert.upsert)
    }

    /// Inserts rows that an exclusion constraint allows, and tells what became of each, in the order in which they were given.
    @discardableResult
    public func upsert<Row, Output>(
        _ upsert: ExclusionUpsert<Row, Output>
    ) throws(PostgresError) -> UpsertResult<Output> {
        try self.upsert(upsert.upsert)
    }

    /// Inserts rows that an exclusion constraint allows, so that an error takes no more with it than `isolation` says.
    public func upsert<Row, Output>(
        _ upsert: ExclusionUpsert<Row, Output>, isolation: UpsertIsolation
    ) throws(PostgresError) -> UpsertReport<Output> {
        try self.upsert(upsert.upsert, isolation: isolation)
    }
}

extension UpsertFunction {
    /// Functions that insert rows that an exclusion constraint allows: as the form for an ``Upsert``.
    public init(_ name: String, in schema: String = "public", _ upsert: ExclusionUpsert<Row, Output>) {
        self.init(name, in: schema, upsert.upsert)
    }
}

extension UpsertWriter {
    /// A writer over a pool of rows that an exclusion constraint allows.
    public convenience init(
        _ client: PostgresClient, _ upsert: ExclusionUpsert<Row, Output>, options: UpsertWriterOptions = .init()
    ) {
        self.init(client, upsert.upsert, options: options)
    }

    /// A writer over a connection of rows that an exclusion constraint allows.
    public convenience init(
        _ connection: PostgresConnection, _ upsert: ExclusionUpsert<Row, Output>,
        options: UpsertWriterOptions = .init()
    ) {
        self.init(connection, upsert.upsert, options: options)
    }

    /// A writer over a pool that asks nothing about its rows.
    public convenience init(
        _ client: PostgresClient, _ upsert: ExclusionUpsert<Row, Output>, options: UpsertWriterOptions = .init()
    ) where Output == Never {
        self.init(client, upsert.upsert, options: options)
    }

    /// A writer over a connection that asks nothing about its rows.
    public convenience init(
        _ connection: PostgresConnection, _ upsert: ExclusionUpsert<Row, Output>,
        options: UpsertWriterOptions = .init()
    ) where Output == Never {
        self.init(connection, upsert.upsert, options: options)
    }
}
