import Postgres
import PostgresTesting
import PostgresUpsert
import TestTurns
import Testing

@Suite(.inTurn, .serialized, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"))
struct CoalescingWriterGuideTests {
    @Test func itsCodeRuns() async throws {
        let client = PostgresClient(try await guideDatabase(try Guide("FirstUpsert").sql[0]))
        let printed = Printed()
        func print(_ items: Any...) { printed.add(items) }

        // GUIDE: writer
        let writer = UpsertWriter(client, PageStats.count.outcomes().returning(\.hits))
        let hits = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 1...100 {
                group.addTask { try await writer.upsert(PageStats(path: "/home", hits: 1)).returned ?? 0 }
            }
            return try await group.reduce(into: [Int]()) { $0.append($1) }
        }
        // GUIDE end
        #expect(hits.sorted() == Array(1...100))

        let (source, continuation) = AsyncStream.makeStream(of: PageStats.self)
        for _ in 0..<1000 { continuation.yield(PageStats(path: "/home", hits: 1)) }
        continuation.finish()
        // GUIDE: counter
        let counter = UpsertWriter(
            client,
            PageStats.count.duplicates(.merge { PageStats(path: $0.path, hits: $0.hits + $1.hits) }),
            options: UpsertWriterOptions(maximumRows: 500))
        let read = try await counter.upsert(contentsOf: source) { row, error in print(row.path, error) }
        await counter.flush()  // all that was handed in has landed
        await counter.shutdown()  // takes no more
        print(counter.statistics.rows, counter.statistics.flights, counter.statistics.rowsPerFlight.mean)
        // GUIDE end
        #expect(read == 1000)
        #expect(counter.statistics.rows == 1000)
        #expect(counter.statistics.flights < 1000)
        #expect(printed.lines.count == 1)
        let sum = try await client.query("SELECT hits FROM page_stats", as: Int.self).one()
        #expect(sum == 1100)
        await client.shutdown()
    }
}
