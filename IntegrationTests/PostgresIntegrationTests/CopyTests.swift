import Postgres
import PostgresTesting
import TestTurns
import Testing

/// COPY, which a query cannot run.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"), .timeLimit(.minutes(2)))
struct CopyTests {
    @Test(arguments: ["COPY t FROM STDIN", "COPY t TO STDOUT", "COPY (SELECT generate_series(1, 10000)) TO STDOUT"])
    func aCopyIsRefusedAndTheConnectionGoesOn(_ copy: String) async throws {
        let db = try await connect()
        try await db.script("CREATE TEMP TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
        let query: PostgresQuery = "\(unsafeSQL: copy)"
        for _ in 0..<2 {
            let extended = await failure { try await db.execute(query) }
            #expect(extended?.code == .unsupported)
            try await expectUsable(db)
            let simple = await failure { try await db.script(query) }
            #expect(simple?.code == .unsupported)
            try await expectUsable(db)
            let mixed = await failure { try await db.script("SELECT 1; \(query); SELECT 2") }
            #expect(mixed?.code == .unsupported)
            try await expectUsable(db)
            let streamed = await failure {
                for try await _ in try await db.stream(query, as: String.self) {}
            }
            #expect(streamed?.code == .unsupported)
            try await expectUsable(db)
        }
        #expect(try await db.query("SELECT count(*) FROM t", as: Int.self).one() == 1000)
    }

    @Test func aCopyInAPipelineEndsInATypedError() async throws {
        let db = try await connect()
        try await db.script("CREATE TEMP TABLE t (n int)")
        var pipeline = PostgresPipeline(.isolated)
        pipeline.add("SELECT 1")
        pipeline.add("COPY t FROM STDIN")
        pipeline.add("SELECT 2")
        let results = try await db.run(pipeline)
        #expect(results.errors[1]?.code == .unsupported)
        #expect(results.errors[2] != nil)
        if !db.isClosed { try await expectUsable(db) }

        let other = try await connect()
        try await other.script("CREATE TEMP TABLE t (n int); INSERT INTO t VALUES (1)")
        var out = PostgresPipeline(.isolated)
        out.add("SELECT 1")
        out.add("COPY t TO STDOUT")
        out.add("SELECT 2")
        let outResults = try await other.run(out)
        #expect(outResults.errors.map { $0?.code } == [nil, .unsupported, nil])
        try await expectUsable(other)
    }
}
