import Postgres
import Testing

@testable import PostgresUpsert

/// Answers put beside the rows that were given.
@Suite struct UpsertMatchingTests {
    private func reports(_ written: [Int?]) -> [UpsertMatching.Report] {
        written.enumerated().map { UpsertMatching.Report(ordinal: $0 + 1, written: $1) }
    }

    @Test func answersGoBackToTheOrderOfTheInput() {
        #expect(UpsertMatching.positions(count: 3, order: nil) == [0, 1, 2])
        // Sent were inputs 2, 0, 1: input 0 is answered second.
        #expect(UpsertMatching.positions(count: 3, order: [2, 0, 1]) == [1, 2, 0])
        let order = Array(0..<100).shuffled()
        let positions = UpsertMatching.positions(count: 100, order: order)
        #expect((0..<100).allSatisfy { order[positions[$0]] == $0 })
    }

    @Test func rowsWithoutAWrittenOneWereLeftOut() throws {
        #expect(try UpsertMatching.writtenFlags(reports([1, nil, 2]), sent: 3, total: 2) == [true, false, true])
        #expect(try UpsertMatching.writtenFlags([], sent: 0, total: 0) == [])
    }

    @Test func ofKeysThatOnlyTheServerHoldsEqualTheFirstWasWritten() throws {
        #expect(try UpsertMatching.writtenFlags(reports([1, 1, 2]), sent: 3, total: 2) == [true, false, true])
    }

    @Test(
        arguments: [
            // A row was written whose key nobody sent.
            ([1, nil], 2, 2),
            // An answer is missing, or there is one too many.
            ([1], 2, 1),
            ([1, 2, 3], 2, 3),
        ] as [([Int?], Int, Int)])
    func whatDoesNotAddUpIsAnError(_ written: [Int?], _ sent: Int, _ total: Int) {
        #expect {
            _ = try UpsertMatching.writtenFlags(reports(written), sent: sent, total: total)
        } throws: {
            // It cannot be told, but it took effect.
            ($0 as? PostgresError)?.outcome == .succeeded
        }
    }

    @Test func aForeignOrdinalIsAnError() {
        let reports = [UpsertMatching.Report(ordinal: 2, written: 1), UpsertMatching.Report(ordinal: 1, written: 2)]
        #expect(throws: PostgresError.self) { try UpsertMatching.writtenFlags(reports, sent: 2, total: 2) }
    }

    @Test func u23TheReasonForLeavingARowOut() {
        var shape = UpsertShape()
        #expect(shape.leftOutOutcome(.update) == .notWritten)
        shape.onlyIfChanged = true
        #expect(shape.leftOutOutcome(.update) == .unchanged)
        shape.filter = "true"
        #expect(shape.leftOutOutcome(.update) == .notWritten)
        shape.onlyIfChanged = false
        #expect(shape.leftOutOutcome(.update) == .skipped)
        #expect(shape.leftOutOutcome(.nothing) == .skipped)
    }

    @Test func resultsAreReadAsCollections() throws {
        let both = UpsertResult(
            rows: [UpsertedRow(outcome: .inserted, returned: 1), UpsertedRow(outcome: .skipped, returned: nil)],
            affected: 1)
        #expect(both.outcomes == [.inserted, .skipped])
        #expect(both.returned() == [1])
        #expect(both.map(\.returned) == [1, nil])
        let returned = UpsertResult<Int?>(rows: [5, nil], affected: 1)
        #expect(returned.returned() == [5])
        #expect(try UpsertResult<Int?>(rows: [5], affected: 1).one() == 5)
        #expect(throws: PostgresError.self) { try UpsertResult<Int?>(rows: [nil], affected: 0).one() as Int }
        #expect(try UpsertResult<UpsertOutcome>(rows: [.updated], affected: 1).one() == .updated)
        #expect(throws: PostgresError.self) { try UpsertResult<UpsertOutcome>(rows: [], affected: 0).one() }
    }
}

/// Errors of the server in the words of an upsert.
@Suite struct ExplanationTests {
    private func server(_ state: String, routine: String? = nil) -> PostgresError {
        var server = PostgresError.Server(severity: "ERROR", sqlState: state, message: "original")
        server.routine = routine
        return PostgresError(code: .init(state), message: "original", outcome: .rejected, server: server)
    }

    private func explain(
        _ error: PostgresError, _ upsert: Upsert<Hostname, some Any> = Hostname.upsert
    ) -> PostgresError { upsert.definition.explain(error) }

    @Test func aMissingUniqueIndexIsNamed() {
        let error = explain(server("42P10"))
        #expect(error.message.contains("table \"hosts\" has no unique index over exactly (\"name\")"))
        #expect(error.hint?.contains("CREATE UNIQUE INDEX ON \"hosts\" (\"name\")") == true)
        #expect(error.code == .init("42P10"))
        #expect(error.server?.message == "original")
        #expect(error.outcome == .rejected)
        #expect(explain(server("42P10"), Hostname.upsert.onIndex("lower(name)")).message.contains("expressions"))
    }

    @Test func aRowWrittenTwiceIsToldFromOtherCardinalityErrors() {
        #expect(explain(server("21000", routine: "ExecOnConflictUpdate")).message.contains("same key for the server"))
        #expect(explain(server("21000", routine: "ExecSubPlan")).message == "original")
    }

    @Test(
        arguments: [
            ("0A000", "tts_virtual_getsysattr", ""), ("42P01", "", "missing FROM-clause entry for table \"old\""),
            ("42703", "", "column \"xmax\" does not exist"), ("42703", "", "column old.tableoid does not exist"),
        ])
    func u24FactsThatWereWrongAreNamed(_ state: String, _ routine: String, _ message: String) {
        var server = PostgresError.Server(severity: "ERROR", sqlState: state, message: message)
        server.routine = routine
        let error = PostgresError(code: .init(state), message: message, outcome: .rejected, server: server)
        #expect(explain(error, Hostname.upsert.outcomes()).message.contains("outcomes were prepared for"))
        #expect(explain(error).message == message)
    }

    @Test func u10ADuplicateKeyNamesTheConstraintThatIsNoTarget() {
        var found = PostgresError.Server(severity: "ERROR", sqlState: "23505", message: "duplicate key value")
        found.constraint = "hosts_n_key"
        let error = PostgresError(code: .uniqueViolation, message: "m", outcome: .rejected, server: found)
        let explained = explain(error)
        #expect(explained.message.contains("conflicts by \"hosts_n_key\", which is not the conflict target"))
        #expect(explained.message.contains("duplicate key value"))
        #expect(explained.constraint == "hosts_n_key")
        // That of another table, which a trigger wrote to.
        found.table = "audit"
        let foreign = PostgresError(code: .uniqueViolation, message: "m", outcome: .rejected, server: found)
        #expect(explain(foreign).message == "m")
    }

    @Test func u8AConstraintThatIsMissingIsNamed() {
        var found = PostgresError.Server(
            severity: "ERROR", sqlState: "42704", message: "constraint \"c\" for table \"hosts\" does not exist")
        let error = PostgresError(code: .undefinedObject, message: "m", outcome: .rejected, server: found)
        #expect(explain(error, Hostname.upsert.onConstraint("c")).hint?.contains("onConflict(...)") == true)
        #expect(explain(error).message == "m")
        found.message = "type \"x\" does not exist"
        let other = PostgresError(code: .undefinedObject, message: "m", outcome: .rejected, server: found)
        #expect(explain(other, Hostname.upsert.onConstraint("c")).message == "m")
    }

    @Test func u7WhatKindOfConstraintItIsOnlyTheServerKnows() {
        var found = PostgresError.Server(
            severity: "ERROR", sqlState: "42809",
            message: "ON CONFLICT DO UPDATE not supported with exclusion constraints")
        func explained(_ upsert: Upsert<Hostname, some Any>) -> PostgresError {
            explain(PostgresError(code: .wrongObjectType, message: "m", outcome: .rejected, server: found), upsert)
        }
        // Not about the conflict target.
        #expect(explained(Hostname.upsert.onConstraint("c")).message == "m")
        found.routine = "infer_arbiter_indexes"
        let exclusion = explained(Hostname.upsert.onConstraint("c"))
        #expect(exclusion.message.contains("\"c\", by which the upsert conflicts, is an exclusion constraint"))
        #expect(exclusion.hint == "doNothing(onExclusionConstraint: \"c\")")
        // Another kind, or another language.
        found.message = "constraint in ON CONFLICT clause has no associated index"
        let other = explained(Hostname.upsert.onConstraint("c"))
        #expect(other.message.contains("cannot conflict by the constraint \"c\": constraint in ON CONFLICT clause"))
        #expect(explained(Hostname.upsert).message == "m")
    }

    @Test func aTypeThatHasToBeDeclared() {
        #expect(explain(server("42804")).hint?.contains("type: \"jsonb\"") == true)
        #expect(explain(server("428C9")).hint?.contains(".generated") == true)
    }

    @Test func everythingElseStaysAsItIs() {
        #expect(explain(server("23503")).message == "original")
        #expect(explain(PostgresError(code: .cancelled, message: "m")).message == "m")
    }
}

struct Hostname: PostgresTable {
    var name: String
    var n: Int

    static let table = Table<Self>("hosts") {
        Column("name", \.name, .primaryKey)
        Column("n", \.n)
    }
}
