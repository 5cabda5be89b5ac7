import PostgresProtocol
import Testing

@testable import Postgres

/// What an error shows, and what it keeps to itself.
struct PostgresErrorTests {
    private static var server: PostgresError.Server {
        var server = PostgresError.Server(
            severity: "ERROR", sqlState: "23505",
            message: "duplicate key value violates unique constraint \"users_email_key\"")
        server.detail = "Key (email)=(ada@example.org) already exists."
        server.schema = "public"
        server.table = "users"
        server.constraint = "users_email_key"
        server.routine = "_bt_check_unique"
        return server
    }

    private static var duplicate: PostgresError {
        PostgresError(
            code: .uniqueViolation, message: server.message, outcome: .rejected, server: server,
            sql: "INSERT INTO users (email) VALUES ($1)")
    }

    // MARK: Texts

    @Test func theDescriptionIsOneLineWithEverythingButTheDetail() {
        #expect(
            "\(Self.duplicate)"
                == #"ERROR 23505 (unique_violation): duplicate key value violates unique constraint "users_email_key"; "#
                + #"constraint "users_email_key"; table "users"; in: INSERT INTO users (email) VALUES ($1) "#
                + "[rejected by the server]")
    }

    @Test func onlyTheDebugDescriptionQuotesRowData() {
        let error = Self.duplicate
        #expect(!"\(error)".contains("ada@example.org"))
        #expect(error.debugDescription.hasPrefix("\(error)\n"))
        #expect(error.debugDescription.contains("detail: Key (email)=(ada@example.org) already exists."))
        #expect(error.debugDescription.contains("routine: _bt_check_unique"))
        #expect(String(reflecting: error) == error.debugDescription)
    }

    @Test func anErrorOfThisSideShowsItsCode() {
        let error = PostgresError(
            code: .cannotConnect, message: "connection refused", hint: "is the server running?",
            underlying: CancellationError())
        #expect("\(error)" == "client.cannotConnect: connection refused; hint: is the server running? [not sent]")
        #expect(error.debugDescription.contains("underlying: CancellationError()"))
        #expect(error.server == nil)
        #expect(error.sqlState == nil)
    }

    @Test(
        arguments: [
            (.notSent, "[not sent]"),
            (.rejected, "[rejected by the server]"),
            (.aborted, "[not run: an earlier statement of its group failed]"),
            (.succeeded, "[the statement took effect]"),
            (.unknown, "[effect unknown]"),
        ] as [(PostgresError.Outcome, String)])
    func theDescriptionEndsWithWhatIsKnownOfTheEffect(outcome: PostgresError.Outcome, text: String) {
        let error = PostgresError(code: .cancelled, message: "cancelled", outcome: outcome)
        #expect(error.description.hasSuffix(text))
    }

    @Test func aLongTextIsCutInTheDescriptionOnly() {
        let sql = "SELECT " + String(repeating: "x", count: 1000)
        let error = PostgresError(code: .syntaxError, message: "no", sql: sql)
        #expect(error.sql == sql)
        #expect(error.description.count < 400)
        #expect(error.description.contains("xxx... ["))
    }

    // MARK: Codes

    @Test func aCodeIsAPattern() {
        func name(_ error: PostgresError) -> String {
            do throws(PostgresError) { throw error } catch .uniqueViolation { return "taken" } catch .cancelled {
                return "cancelled"
            } catch {
                return "other"
            }
        }
        #expect(name(Self.duplicate) == "taken")
        #expect(name(PostgresError(code: .cancelled, message: "")) == "cancelled")
        #expect(name(PostgresError(code: .foreignKeyViolation, message: "")) == "other")
    }

    @Test func aCodeIsAnOpenSetOfSQLSTATEs() {
        #expect(PostgresError.Code("23505") == .uniqueViolation)
        #expect(PostgresError.Code.uniqueViolation.description == "23505 (unique_violation)")
        #expect(PostgresError.Code("X1234").description == "X1234")
        #expect(PostgresError.Code.timedOut.description == "client.timedOut")
    }

    // MARK: Fields

    @Test func theServersFieldsAreAtHand() {
        let error = Self.duplicate
        #expect(error.constraint == "users_email_key")
        #expect(error.table == "users")
        #expect(error.column == nil)
        #expect(error.detail == "Key (email)=(ada@example.org) already exists.")
        #expect(error.sqlState == "23505")
    }

    @Test func ourHintGoesBeforeTheServers() {
        var server = Self.server
        server.hint = "the server's"
        let plain = PostgresError(code: .uniqueViolation, message: "", server: server)
        #expect(plain.hint == "the server's")
        #expect(plain.with(hint: "ours").hint == "ours")
    }

    @Test func withChangesTheCircumstancesAndKeepsTheRest() {
        let changed = Self.duplicate.with(outcome: .unknown, message: "new", sql: "SELECT 1", hint: "do that")
        #expect(changed.outcome == .unknown)
        #expect(changed.message == "new")
        #expect(changed.sql == "SELECT 1")
        #expect(changed.hint == "do that")
        #expect(changed.code == .uniqueViolation)
        #expect(changed.server == Self.server)
        let same = Self.duplicate.with()
        #expect("\(same)" == "\(Self.duplicate)")
    }

    // MARK: Secrets

    @Test func aValueThatCannotBeReadIsNotQuoted() throws {
        let row = try makeRow(text: [("token", .text, "hunter2")])
        let wrong = #expect(throws: PostgresError.self) { try row.decode("token", as: Int.self) }
        #expect(wrong?.code == .typeMismatch)
        #expect(wrong?.debugDescription.contains("hunter2") == false)
        let number = try makeRow(text: [("age", .int4, "hunter2")])
        let broken = #expect(throws: PostgresError.self) { try number.decode("age", as: Int32.self) }
        #expect(broken?.code == .cannotDecode)
        #expect(broken?.debugDescription.contains("hunter2") == false)
    }

    @Test func aNotSentErrorOfAParameterDoesNotQuoteIt() throws {
        let query: PostgresQuery = "SELECT \("hunter2\u{0}")"
        let error = try #require(query.problem)
        #expect(error.outcome == .notSent)
        #expect(!error.debugDescription.contains("hunter2"))
    }
}
