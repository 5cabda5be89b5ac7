import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Results of every size over TLS, read by the caller, the loop and a stream: a record's end and a buffer's end fall together
/// sooner or later, and then the socket has nothing to tell of bytes that are decrypted already.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct TLSResultTests {
    private static let sizes =
        Array(stride(from: 4000, through: 200_000, by: 3500)) + [16_384, 32_768, 65_536, 131_072]

    private func url() async throws -> String {
        let server = try #require(try await TLSTests.servers.value[.good])
        return server.connectionURL(parameters: ["sslmode": "require"])
    }

    @Test(arguments: [Duration.zero, .seconds(10)])
    func eachSizeArrivesOneAfterTheOther(callerReadsBelow: Duration) async throws {
        var configuration = try PostgresConfiguration(url: try await url())
        configuration.callerReadsBelowLatency = callerReadsBelow
        let db = try await PostgresConnection.connect(configuration)
        #expect(db.tls != nil)
        for size in Self.sizes {
            let text = try await db.query("SELECT repeat('x', \(Int32(size)))", as: String.self).one()
            #expect(text.utf8.count == size)
        }
        db.close()
    }

    @Test func eachSizeArrivesOnABlockingConnection() async throws {
        let url = try await url()
        let sizes = Self.sizes
        let lengths = try await onThread { () throws -> [Int] in
            let db = try PostgresBlockingConnection.connect(url)
            defer { db.close() }
            return try sizes.map { size in
                try db.query("SELECT repeat('x', \(Int32(size)))", as: String.self).one().utf8.count
            }
        }
        #expect(lengths == Self.sizes)
    }

    @Test(arguments: [Duration.zero, .seconds(10)])
    func aStreamIsReadToItsEnd(callerReadsBelow: Duration) async throws {
        var configuration = try PostgresConfiguration(url: try await url())
        configuration.callerReadsBelowLatency = callerReadsBelow
        let db = try await PostgresConnection.connect(configuration)
        var count = 0
        for try await (number, text) in try await db.stream(
            "SELECT i, repeat('x', i % 3000) FROM generate_series(1, 20000) i", as: (Int32, String).self)
        {
            count += 1
            if text.utf8.count != Int(number) % 3000 { Issue.record("row \(number) has \(text.utf8.count) bytes") }
        }
        #expect(count == 20_000)
        let afterwards = try await db.query("SELECT 1", as: Int.self).one()
        #expect(afterwards == 1)
        db.close()
    }
}
