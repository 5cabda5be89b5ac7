import Postgres
import PostgresTesting
import TestTurns
import Testing

/// Parameters that are not copied, in every way to a real server.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct LargeParameterTests {
    private static let sizes = [65_500, 65_531, 65_532, 65_533, 300_000, 5_000_000]

    private static func query(_ size: Int) -> (PostgresQuery.Typed<(Int, Bool)>, Int) {
        let text = String(repeating: "0123456789abcdefghij ", count: size / 21 + 1).prefix(size)
        let array = [Int64](repeating: Int64(size), count: size / 12)
        let query: PostgresQuery = """
            SELECT length(\(String(text)))::int8, \(Int64(size)) = ALL(\(array)) AND cardinality(\(array)) = \(Int64(size / 12))
            """
        return (query.as((Int, Bool).self), size)
    }

    private func urls() async throws -> [String] {
        let server = try await PostgresEphemeralServer.shared()
        let encrypted = try #require(try await TLSTests.servers.value[.good])
        return [
            server.connectionURL(over: .unixSocket), server.connectionURL(over: .tcp),
            encrypted.connectionURL(parameters: ["sslmode": "require"]),
        ]
    }

    @Test func arriveOneAfterTheOther() async throws {
        for url in try await urls() {
            let db = try await PostgresConnection.connect(url)
            for (query, size) in Self.sizes.map(Self.query) {
                let (length, isEqual) = try await db.query(query).one()
                #expect(length == size && isEqual, "\(size) bytes, \(url)")
            }
            db.close()
        }
    }

    @Test func arriveFromManyTasksAtOnce() async throws {
        for url in try await urls() {
            let db = try await PostgresConnection.connect(url)
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for number in 0..<24 {
                    group.addTask {
                        if number % 3 == 0 {
                            return try await db.query("SELECT \(number)::int8", as: Int.self).one() == number
                        }
                        let (query, size) = Self.query(Self.sizes[number % Self.sizes.count])
                        let (length, isEqual) = try await db.query(query).one()
                        return length == size && isEqual
                    }
                }
                for try await isEqual in group { #expect(isEqual) }
            }
            db.close()
        }
    }

    @Test func arriveOnABlockingConnectionAndInTransactionsOfAPool() async throws {
        for url in try await urls() {
            let isEqual = try await onThread {
                let db = try PostgresBlockingConnection.connect(url)
                defer { db.close() }
                return try Self.sizes.map(Self.query).allSatisfy { query, size in
                    let (length, isEqual) = try db.query(query).one()
                    return length == size && isEqual
                }
            }
            #expect(isEqual)
            let client = try PostgresClient(PostgresConfiguration(url: url))
            for (query, size) in Self.sizes.map(Self.query) {
                // On the way back to the pool its session is reset, which rides with the next statement.
                let (length, isEqual) = try await client.query(query).one()
                #expect(length == size && isEqual)
                let (again, isEqualAgain) = try await client.transaction { db in try await db.query(query).one() }
                #expect(again == size && isEqualAgain)
            }
            await client.shutdown()
        }
    }
}
