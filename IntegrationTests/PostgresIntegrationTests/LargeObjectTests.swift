import Postgres
import PostgresTesting
import Testing

@Suite(
    .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct LargeObjectTests {
    @Test func whatIsWrittenIsReadBack() async throws {
        let db = try await connect()
        let object = try await PostgresLargeObject.create(in: db)
        let bytes = (0..<2_500_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        try await object.write(bytes, in: db)
        let size = try await object.size(in: db)
        #expect(size == bytes.count)
        let all = try await object.read(0..<Int.max, in: db)
        #expect(all == bytes)
        let part = try await object.read(1_048_570..<1_048_590, in: db)
        #expect(part == Array(bytes[1_048_570..<1_048_590]))
        try await object.write([1, 2, 3], at: bytes.count + 2, in: db)
        let end = try await object.read(bytes.count - 1..<bytes.count + 100, in: db)
        #expect(end == [bytes[bytes.count - 1], 0, 0, 1, 2, 3])
        try await object.unlink(in: db)
        let gone = await failure { try await object.read(0..<1, in: db) }
        #expect(gone?.code == .undefinedObject)
    }

    @Test func anEmptyObjectAndWrongOffsets() async throws {
        let db = try await connect()
        let object = try await PostgresLargeObject.create(in: db)
        let size = try await object.size(in: db)
        #expect(size == 0)
        try await object.write([], in: db)
        let nothing = try await object.read(0..<10, in: db)
        #expect(nothing == [])
        let twice = await failure { try await PostgresLargeObject.create(oid: object.oid, in: db) }
        #expect(twice?.code == .uniqueViolation)
        let read = await failure { try await object.read(-1..<1, in: db) }
        #expect(read?.code == .invalidArgument)
        let write = await failure { try await object.write([1], at: Int.max, in: db) }
        #expect(write?.code == .invalidArgument)
        try await object.unlink(in: db)
    }
}
