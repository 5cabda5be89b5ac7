/// Large objects for the blocking API.
extension PostgresLargeObject {
    /// Makes an empty object. SQL sent: `SELECT lo_create($1)`.
    ///
    /// - Parameter oid: nil lets the server choose.
    /// - Throws: `uniqueViolation` if there is one with this OID.
    public static func create(
        oid: UInt32? = nil, in db: some PostgresBlockingExecutor
    ) throws(PostgresError) -> PostgresLargeObject {
        try db.wait { (db) async throws(PostgresError) in try await create(oid: oid, in: db) }
    }

    /// How many bytes it has. SQL sent: `SELECT lo_lseek64(lo_open(...), 0, 2)`.
    public func size(in db: some PostgresBlockingExecutor) throws(PostgresError) -> Int {
        try db.wait { (db) async throws(PostgresError) in try await size(in: db) }
    }

    /// The bytes of a range, as far as there are any. SQL sent: `SELECT lo_get($1, $2, $3)`, once for each MiB.
    public func read(_ range: Range<Int>, in db: some PostgresBlockingExecutor) throws(PostgresError) -> [UInt8] {
        try db.wait { (db) async throws(PostgresError) in try await read(range, in: db) }
    }

    /// Writes bytes at an offset, all or none of them; what lies between the end and the offset reads as zeros.
    ///
    /// SQL sent: `SELECT lo_put($1, $2, $3)`, once for each MiB, in one atomic pipeline.
    public func write(
        _ bytes: [UInt8], at offset: Int = 0, in db: some PostgresBlockingExecutor
    ) throws(PostgresError) {
        try db.wait { (db) async throws(PostgresError) in try await write(bytes, at: offset, in: db) }
    }

    /// Removes it. SQL sent: `SELECT lo_unlink($1)`.
    public func unlink(in db: some PostgresBlockingExecutor) throws(PostgresError) {
        try db.wait { (db) async throws(PostgresError) in try await unlink(in: db) }
    }
}
