/// A large object (manual, "Large Objects"): up to 4 TB under an OID, read and written in pieces by SQL functions.
///
/// ```swift
/// let object = try await PostgresLargeObject.create(in: db)
/// try await object.write(bytes, in: db)
/// let start = try await object.read(0..<1024, in: db)
/// ```
/// It is only the number: what it names is in the database, and `db` may be anything that runs queries. Without a transaction
/// around them, two calls see two states of the object.
public struct PostgresLargeObject: Sendable, Hashable {
    /// `pg_largeobject_metadata.oid`.
    public let oid: UInt32

    /// Names an object that is there.
    public init(oid: UInt32) { self.oid = oid }

    /// Bytes in one statement.
    private static let pieceSize = 1 << 20

    /// Makes an empty object. SQL sent: `SELECT lo_create($1)`.
    ///
    /// - Parameter oid: nil lets the server choose.
    /// - Throws: `uniqueViolation` if there is one with this OID.
    public static func create(
        oid: UInt32? = nil, in db: some PostgresExecutor
    ) async throws(PostgresError) -> PostgresLargeObject {
        let made = try await db.query("SELECT lo_create(\(oid ?? 0))", as: UInt32.self).one()
        return PostgresLargeObject(oid: made)
    }

    /// How many bytes it has. SQL sent: `SELECT lo_lseek64(lo_open(...), 0, 2)`.
    public func size(in db: some PostgresExecutor) async throws(PostgresError) -> Int {
        // INV_READ, and SEEK_END; the descriptor lives as long as the statement's transaction.
        try await db.query("SELECT lo_lseek64(lo_open(\(oid), 262144), 0, 2)", as: Int.self).one()
    }

    /// The bytes of a range, as far as there are any. SQL sent: `SELECT lo_get($1, $2, $3)`, once for each MiB.
    public func read(_ range: Range<Int>, in db: some PostgresExecutor) async throws(PostgresError) -> [UInt8] {
        guard range.lowerBound >= 0 else { throw .negativeOffset(range.lowerBound) }
        var bytes: [UInt8] = []
        var offset = range.lowerBound
        while offset < range.upperBound {
            let count = min(range.upperBound - offset, PostgresLargeObject.pieceSize)
            let piece = try await db.query(
                "SELECT lo_get(\(oid), \(offset), \(Int32(truncatingIfNeeded: count)))", as: PostgresBytes.self
            ).one().bytes
            bytes += piece
            if piece.count < count { break }
            offset += count
        }
        return bytes
    }

    /// Writes bytes at an offset, all or none of them; what lies between the end and the offset reads as zeros.
    ///
    /// SQL sent: `SELECT lo_put($1, $2, $3)`, once for each MiB, in one atomic pipeline.
    public func write(
        _ bytes: [UInt8], at offset: Int = 0, in db: some PostgresExecutor
    ) async throws(PostgresError) {
        guard offset >= 0, !offset.addingReportingOverflow(bytes.count).overflow else { throw .negativeOffset(offset) }
        var pipeline = PostgresPipeline(.atomic)
        for start in stride(from: 0, to: bytes.count, by: PostgresLargeObject.pieceSize) {
            let piece = bytes[start..<min(start + PostgresLargeObject.pieceSize, bytes.count)]
            pipeline.add("SELECT lo_put(\(oid), \(offset + start), \(PostgresBytes(piece)))")
        }
        try await db.run(pipeline).check()
    }

    /// Removes it. SQL sent: `SELECT lo_unlink($1)`.
    public func unlink(in db: some PostgresExecutor) async throws(PostgresError) {
        try await db.execute("SELECT lo_unlink(\(oid))")
    }
}

extension PostgresError {
    fileprivate static func negativeOffset(_ offset: Int) -> PostgresError {
        PostgresError(code: .invalidArgument, message: "\(offset) is no offset in a large object")
    }
}
