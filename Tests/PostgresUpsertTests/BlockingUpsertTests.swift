import Postgres
import PostgresUpsert
import Testing

/// Upserts of the blocking API, as far as that can be said without a server.
struct BlockingUpsertTests {
    /// One row is one call, and makes no task.
    @Test func oneRowGoesOutDirectly() {
        let db = NoBlockingServer()
        let row = PageStats(path: "/", hits: 1)
        #expect(code { try db.upsert(row) } == .cannotConnect)
        #expect(code { try db.upsert(PageStats.bump(row)) } == .cannotConnect)
        #expect(code { try db.upsert(PageStats.bump(row).returning(\.hits)) } == .cannotConnect)
        #expect(code { try db.upsert(into: "t", key: ("k", 1), set: ("v", "x")) } == .cannotConnect)
    }

    @Test func whatTakesStepsRunsAsInTheAsynchronousAPI() {
        let db = NoBlockingServer()
        let rows = [PageStats(path: "/", hits: 1), PageStats(path: "/b", hits: 2)]
        #expect(code { try db.upsert(rows) } == NoServer.reached.code)
        #expect(code { try db.upsert(Upsert(rows), isolation: .row).check() } == NoServer.reached.code)
        #expect(code { try db.prepareOutcomes(of: PageStats.self) } == NoServer.reached.code)
    }

    @Test func whatIsWrongIsSaidBeforeAnythingIsSent() {
        let db = NoBlockingServer()
        let row = PageStats(path: "/", hits: 1)
        #expect(code { try db.upsert([row, row]) } == .duplicateKeys)
        #expect(code { try db.upsert(PageStats.bump) } == .invalidArgument)
        #expect(code { try db.upsert(PageStats.bump.returning(\.hits)) } == .invalidArgument)
        #expect(code { try db.upsert(Upsert(row).onConflict(\.lengthOfPath)) } == .invalidArgument)
        #expect(code { try db.upsert([PageStats]()) } == nil)
    }

    private func code<Value>(_ operation: () throws -> Value) -> PostgresError.Code? {
        do { _ = try operation() } catch { return (error as? PostgresError)?.code }
        return nil
    }
}

/// A blocking executor whose asynchronous form fails otherwise.
private struct NoBlockingServer: PostgresBlockingExecutor {
    private static let reached = PostgresError(code: .cannotConnect, message: "sent", outcome: .unknown)

    var asynchronous: NoServer { NoServer() }

    func query<Row>(_ query: PostgresQuery.Typed<Row>) throws(PostgresError) -> PostgresRows<Row> {
        throw Self.reached
    }

    func execute(_ query: PostgresQuery) throws(PostgresError) -> Int { throw Self.reached }

    func run(_ pipeline: PostgresPipeline) throws(PostgresError) -> PostgresPipeline.Results { throw Self.reached }
}
