import TestTurns
import Testing

@testable import Postgres
@testable import PostgresTesting

/// The extended query protocol against a server that plays by the rules.
@Suite(.inTurn, .timeLimit(.minutes(1)))
struct MockQueryTests {
    @Test func `a query is prepared once and then executed by its name`() async throws {
        try await withMock([.answer(42), .answerAgain(43), .answerAgain(44)]) { db, server in
            try await expectNumber(42, db)
            try await expectNumber(43, db)
            try await expectNumber(44, db)
            #expect(server.messages()[1].strings == ["s1", "SELECT 1 AS n"])
        }
    }
}
