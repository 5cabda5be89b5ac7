import Foundation
import PostgresTesting
import TestTurns
import Testing

@testable import Postgres

/// What the environment says of the length of the long pipelines.
private enum LongPipelines {
    static let count = ProcessInfo.processInfo.environment["POSTGRES_TEST_PIPELINE_COUNT"].flatMap { Int($0) }
}

/// Pipelines each of whose statements has a savepoint, and what an error does to a pipeline inside a transaction.
@Suite(
    .inTurn, .enabled(if: PostgresEphemeralServer.isAvailable, "PostgreSQL is not installed"),
    .timeLimit(.minutes(LongPipelines.count == nil ? 5 : 60)))
struct SavepointPipelineTests {
    private func outcomes(_ results: PostgresPipeline.Results) -> [PostgresError.Outcome] {
        results.errors.map { $0?.outcome ?? .succeeded }
    }

    /// Inserts the numbers; the failing ones divide by zero.
    private func inserting(
        _ numbers: Range<Int>, failing: Set<Int>, _ sync: PostgresPipeline.Sync, _ table: String
    ) -> PostgresPipeline {
        var pipeline = PostgresPipeline(sync)
        for number in numbers {
            pipeline.add(
                "INSERT INTO \(identifier: table) VALUES (\(number) / \(failing.contains(number) ? 0 : 1))")
        }
        return pipeline
    }

    @Test(arguments: [[], [0], [2], [4], [0, 1], [3, 4], [0, 2, 4], [0, 1, 2, 3, 4]] as [Set<Int>])
    func aFailureStaysWithItsStatement(_ failing: Set<Int>) async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        let expected = (0..<5).map { failing.contains($0) ? PostgresError.Outcome.rejected : .succeeded }
        let kept = (0..<5).filter { !failing.contains($0) }
        for round in 1...2 {
            let before = db.statistics
            let results = try await db.run(inserting(0..<5, failing: failing, .savepoints, table))
            #expect((db.statistics - before).roundTrips == 1)
            #expect(outcomes(results) == expected)
            #expect(results.errors.compactMap { $0 }.allSatisfy { $0.code == .divisionByZero })
            #expect(try await numbers(db, table) == kept.flatMap { Array(repeating: $0, count: round) })
        }
    }

    @Test func insideATransactionTheTransactionGoesOn() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        for first in [true, false] {
            let before = db.statistics
            try await db.transaction { tx in
                if !first { try await tx.execute("INSERT INTO \(identifier: table) VALUES (10)") }
                let results = try await tx.run(inserting(0..<3, failing: [1], .savepoints, table))
                #expect(outcomes(results) == [.succeeded, .rejected, .succeeded])
                try await tx.execute("INSERT INTO \(identifier: table) VALUES (11)")
            }
            #expect((db.statistics - before).roundTrips == (first ? 3 : 4))
        }
        #expect(try await numbers(db, table) == [0, 0, 2, 2, 10, 11, 11])
    }

    // What it undoes with an outer savepoint, and that it leaves none of its own behind.
    @Test func insideANestedTransactionItBelongsToThat() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        try await db.transaction { tx in
            _ = try? await tx.transaction { inner in
                try await inner.run(inserting(0..<3, failing: [1], .savepoints, table)).check()
            }
            let lost = await failure {
                try await tx.transaction { _ = try await $0.execute("ROLLBACK TO SAVEPOINT postgres_swift_item") }
            }
            #expect(lost?.code == .invalidSavepointSpecification)
            try await tx.run(inserting(3..<4, failing: [], .savepoints, table)).check()
        }
        #expect(try await numbers(db, table) == [3])
    }

    @Test func anAtomicFailureFailsTheTransaction() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        for sync in [PostgresPipeline.Sync.atomic, .isolated] {
            for first in [true, false] {
                let error = await failure {
                    try await db.transaction { tx in
                        if !first { try await tx.execute("INSERT INTO \(identifier: table) VALUES (10)") }
                        let results = try await tx.run(inserting(0..<3, failing: [1], sync, table))
                        if sync == .atomic {
                            #expect(outcomes(results) == [.aborted, .rejected, .aborted])
                        } else {
                            #expect(outcomes(results) == [.succeeded, .rejected, .rejected])
                            #expect(results.errors[2]?.code == .inFailedSqlTransaction)
                        }
                    }
                }
                #expect(error?.code == .inFailedSqlTransaction)
                #expect(error?.outcome == .aborted)
            }
        }
        #expect(try await numbers(db, table) == [])
    }

    @Test func aStatementThatEndsTheTransactionLetsNothingRunOutside() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        var pipeline = PostgresPipeline(.savepoints)
        pipeline.add("INSERT INTO \(identifier: table) VALUES (1)")
        pipeline.add("ROLLBACK")
        pipeline.add("INSERT INTO \(identifier: table) VALUES (2)")
        let results = try await db.run(pipeline)
        #expect(results.errors[2] != nil)
        #expect(try await numbers(db, table) == [])
        try await expectUsable(db)
    }

    @Test func nothingIsSentOfAPipelineThatCannotBeSent() async throws {
        let db = try await connect()
        var pipeline = PostgresPipeline(.savepoints)
        pipeline.add("SELECT 1")
        pipeline.add("SELECT \("a\0b")")
        let before = db.statistics
        let error = await failure { try await db.run(pipeline) }
        #expect(error?.outcome == .notSent)
        #expect(error?.message.hasPrefix("statement 2 of the pipeline") == true)
        #expect(db.statistics == before)
        let empty = try await db.run(PostgresPipeline(.savepoints))
        #expect(empty.count == 0)
        #expect(db.statistics == before)
    }

    @Test func aCancelledPipelineIsWholeOrNothing() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        var pipeline = inserting(0..<3, failing: [], .savepoints, table)
        pipeline.add("SELECT pg_sleep(0.2)")
        let toSend = pipeline
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await db.run(toSend)
        }
        let error = await failure { try await task.value }
        #expect(error?.code == .cancelled)
        #expect(try await numbers(db, table) == [])
    }

    @Test func aStatementThatCannotBeParsedFailsInTheSameWayEachTime() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        for _ in 0..<2 {
            var pipeline = PostgresPipeline(.savepoints)
            for _ in 0..<2 {
                pipeline.add("INSERT INTO \(identifier: table) VALUES (1)")
                pipeline.add("SELEC 1")
                pipeline.add("INSERT INTO no_such_table VALUES (1)")
            }
            let codes = try await db.run(pipeline).errors.map { $0?.code }
            #expect(codes == [nil, .syntaxError, .undefinedTable, nil, .syntaxError, .undefinedTable])
        }
        #expect(try await numbers(db, table) == [1, 1, 1, 1])
    }

    @Test func manyStatementsWithManyFailuresInOnePipeline() async throws {
        let db = try await connect()
        let table = try await makeTable(db)
        let failing = Set((0..<5000).filter { $0 % 7 == 3 })
        let results = try await db.run(inserting(0..<5000, failing: failing, .savepoints, table))
        #expect(outcomes(results) == (0..<5000).map { failing.contains($0) ? .rejected : .succeeded })
        #expect(try await numbers(db, table) == (0..<5000).filter { !failing.contains($0) })
    }

    // Both sides' buffers are full nearly all the time: whoever stops reading until it has written hangs.
    @Test(arguments: [PostgresPipeline.Sync.isolated, .atomic, .savepoints])
    func tenThousandLargeQueriesFinishOnTinySocketBuffers(_ sync: PostgresPipeline.Sync) async throws {
        let count = LongPipelines.count ?? 10_000
        let db = try await connect { $0.socketBufferBytes = 4096 }
        // What comes back of a group stays in memory until its end; a fifth fills the buffers many times over, too.
        let size = sync == .isolated ? 10_000 : 2_000
        // A few queries, many times: the parameters of all together would be 640 MB on this side.
        let queries = (0..<16).map { number in
            let text = String(repeating: "p", count: 65_536)
            return PostgresQuery("SELECT \(number)::int8, length(\(text)), repeat('r', \(Int32(size)))")
                .as((Int, Int32, String).self)
        }
        var pipeline = PostgresPipeline(sync)
        pipeline.reserveCapacity(count)
        let tickets = (0..<count).map { pipeline.add(queries[$0 % 16]) }
        let results = try await db.run(pipeline)
        for (number, ticket) in tickets.enumerated() {
            let (back, length, text) = try results[ticket].one()
            if back != number % 16 || length != 65_536 || text.utf8.count != size {
                Issue.record("statement \(number) got \(back), \(length), \(text.utf8.count) bytes")
                break
            }
        }
        try await expectUsable(db)
    }
}
