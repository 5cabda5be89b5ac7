import Testing

@testable import Postgres

/// What a query literal becomes: text, parameters, and the reasons not to send it.
struct PostgresQueryTests {
    // MARK: Values

    @Test func aLiteralIsItsOwnText() {
        let query: PostgresQuery = "SELECT 1"
        #expect(query.sql == "SELECT 1")
        #expect(query.parameterCount == 0)
        #expect(query.problem == nil)
    }

    @Test func anEmptyLiteralIsAnEmptyText() {
        let query: PostgresQuery = ""
        #expect(query.sql == "")
        #expect(query.problem == nil)
    }

    @Test func aLiteralOfOneScalarIsItsOwnText() {
        let queries: [PostgresQuery] = [";", "é", "\("a"),\("b")"]
        #expect(queries.map(\.sql) == [";", "é", "$1,$2"])
        #expect(queries.allSatisfy { $0.problem == nil })
    }

    @Test func valuesBecomeNumberedParameters() {
        let name = "'; DROP TABLE users; --"
        let query: PostgresQuery = "SELECT \(1), \(name) FROM t WHERE a = \(true) AND b = \(2.5)"
        #expect(query.sql == "SELECT $1, $2 FROM t WHERE a = $3 AND b = $4")
        #expect(query.parameterCount == 4)
        #expect(query.problem == nil)
    }

    @Test func nilIsAParameterToo() {
        let nothing: Int? = nil
        let query: PostgresQuery = "SELECT \(nothing), \(Int?.some(1)), \([Int?.none])"
        #expect(query.sql == "SELECT $1, $2, $3")
        #expect(query.parameterCount == 3)
    }

    @Test func moreThanTenParametersKeepCounting() {
        let query: PostgresQuery =
            "\(1) \(2) \(3) \(4) \(5) \(6) \(7) \(8) \(9) \(10) \(11) \(12)"
        #expect(query.sql == "$1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11 $12")
        #expect(query.parameterCount == 12)
    }

    // MARK: Fragments

    @Test func aFragmentIsRenumbered() {
        let filter: PostgresQuery = "age > \(18) AND city = \("Turin")"
        let query: PostgresQuery = "SELECT \(1) FROM users WHERE \(filter) LIMIT \(10)"
        #expect(query.sql == "SELECT $1 FROM users WHERE age > $2 AND city = $3 LIMIT $4")
        #expect(query.parameterCount == 4)
    }

    @Test func fragmentsNestAndRepeat() {
        let inner: PostgresQuery = "\(identifier: "a b") = \(1)"
        let middle: PostgresQuery = "(\(inner) OR \(inner))"
        let outer: PostgresQuery = "SELECT \(unsafeSQL: "now()") WHERE \(middle) AND \(inner)"
        #expect(inner.sql == #""a b" = $1"#)
        #expect(outer.sql == #"SELECT now() WHERE ("a b" = $1 OR "a b" = $2) AND "a b" = $3"#)
        #expect(outer.parameterCount == 3)
    }

    @Test func anEmptyFragmentLeavesNoTrace() {
        let nothing: PostgresQuery = ""
        let query: PostgresQuery = "SELECT \(1)\(nothing), \(2)"
        #expect(query.sql == "SELECT $1, $2")
    }

    @Test func fragmentsAreJoinedByASeparator() {
        let conditions: [PostgresQuery] = ["a = \(1)", "b = \(2)", "c IS NULL"]
        let query: PostgresQuery = "SELECT 1 WHERE \(list: conditions, separator: " AND ")"
        #expect(query.sql == "SELECT 1 WHERE a = $1 AND b = $2 AND c IS NULL")
        let none: PostgresQuery = "SELECT 1 \(list: [PostgresQuery]())"
        #expect(none.sql == "SELECT 1 ")
    }

    @Test func aFragmentThatCannotBeSentSpoilsTheWhole() {
        let fragment: PostgresQuery = "name = \("a\u{0}b")"
        let query: PostgresQuery = "SELECT 1 WHERE \(fragment)"
        #expect(query.problem?.code == .invalidArgument)
    }

    @Test func aFinishedTextCannotBeAFragment() {
        let text = PostgresQuery.Text(unsafeSQL: "SELECT $1")
        let finished = PostgresQuery(text, parameterCount: 1) { $0.appendParameter(1) }
        #expect(finished.sql == "SELECT $1")
        #expect(finished.parameterCount == 1)
        #expect(finished.problem == nil)
        let query: PostgresQuery = "WITH x AS (\(finished)) SELECT \(2)"
        #expect(query.problem?.code == .invalidArgument)
    }

    // MARK: Lists

    @Test(arguments: [([], "NULL", 0), ([7], "$1", 1), ([7, 8, 9], "$1, $2, $3", 3)])
    func aListIsOneParameterAValue(values: [Int], expected: String, count: Int) {
        let query: PostgresQuery = "SELECT 1 WHERE 7 IN (\(list: values))"
        #expect(query.sql == "SELECT 1 WHERE 7 IN (\(expected))")
        #expect(query.parameterCount == count)
    }

    @Test func anArrayIsOneParameter() {
        let query: PostgresQuery = "SELECT 1 WHERE 7 = ANY(\([7, 8, 9]))"
        #expect(query.sql == "SELECT 1 WHERE 7 = ANY($1)")
        #expect(query.parameterCount == 1)
    }

    // MARK: Names

    static let names: [(name: String, quoted: String)] = [
        ("users", #""users""#),
        ("Users", #""Users""#),
        ("select", #""select""#),
        ("a.b", #""a.b""#),
        ("a b", #""a b""#),
        (#"a"b"#, #""a""b""#),
        (#"""#, #""""""#),
        (#"x"; DROP TABLE users; --"#, #""x""; DROP TABLE users; --""#),
        (#"a\"#, #""a\""#),
        ("a'b$1", #""a'b$1""#),
        ("naïve 🐘", #""naïve 🐘""#),
        // A quote with a combining mark is one Character, and still a quote for the server.
        ("a\"\u{301}b", "\"a\"\"\u{301}b\""),
        ("a\r\nb", "\"a\r\nb\""),
    ]

    @Test(arguments: names)
    func aNameIsQuoted(name: String, quoted: String) {
        let query: PostgresQuery = "SELECT * FROM \(identifier: name)"
        #expect(Array(query.sql.utf8) == Array("SELECT * FROM \(quoted)".utf8))
        #expect(query.parameterCount == 0)
        #expect(query.problem == nil)
    }

    @Test func aNameMayHave63BytesAndNoMore() {
        let fits: PostgresQuery = "SELECT \(identifier: String(repeating: "x", count: 63))"
        #expect(fits.problem == nil)
        let long: PostgresQuery = "SELECT \(identifier: String(repeating: "x", count: 64))"
        #expect(long.problem?.code == .invalidArgument)
        #expect(long.problem?.message.contains("64 bytes") == true)
        // Bytes count, not characters.
        let wide: PostgresQuery = "SELECT \(identifier: String(repeating: "ä", count: 32))"
        #expect(wide.problem?.code == .invalidArgument)
    }

    @Test(arguments: ["", "a\u{0}b"])
    func aNameThatNoServerHasIsRefused(_ name: String) {
        let query: PostgresQuery = "SELECT \(identifier: name)"
        #expect(query.problem?.code == .invalidArgument)
        #expect(query.problem?.outcome == .notSent)
    }

    // MARK: Text from elsewhere

    @Test func unsafeTextIsPutInAsItIs() {
        let order = "name DESC"
        let query: PostgresQuery = "SELECT \(1) ORDER BY \(unsafeSQL: order) LIMIT \(2)"
        #expect(query.sql == "SELECT $1 ORDER BY name DESC LIMIT $2")
    }

    // MARK: Problems

    @Test func aNULInTheTextIsRefused() {
        let queries: [PostgresQuery] = ["SELECT '\u{0}'", "SELECT \(1) \u{0}", "SELECT \(unsafeSQL: "\u{0}")", "\u{0}"]
        let finished = PostgresQuery(PostgresQuery.Text(unsafeSQL: "SELECT '\u{0}'"), parameterCount: 0) { _ in }
        for query in queries + [finished] {
            var state = ConnectionState(statementCacheCapacity: 16, rowByteLimit: 1000)
            let problem = state.problem(of: query)
            #expect(problem?.code == .invalidArgument)
            #expect(problem?.outcome == .notSent)
        }
    }

    @Test func aValueThatCannotBeEncodedIsRefusedWithoutItsValue() throws {
        let query: PostgresQuery = "INSERT INTO users (name) VALUES (\("hunter2\u{0}"))"
        let problem = try #require(query.problem)
        #expect(problem.code == .invalidArgument)
        #expect(problem.sql == "INSERT INTO users (name) VALUES ($1)")
        #expect(!problem.debugDescription.contains("hunter2"))
    }

    @Test func theFirstOfSeveralProblemsIsTold() {
        let query: PostgresQuery = "SELECT \(identifier: "") WHERE \("\u{0}") = \("")"
        #expect(query.problem?.message == "an identifier is empty")
    }

    @Test(arguments: [(65_535, true), (65_536, false)])
    func moreParametersThanTheProtocolTakesAreRefused(count: Int, isGood: Bool) {
        let query: PostgresQuery = "SELECT \(list: repeatElement(Int16(1), count: count))"
        #expect(query.parameterCount == count)
        if isGood {
            #expect(query.problem == nil)
        } else {
            #expect(query.problem?.code == .invalidArgument)
            #expect(query.problem?.message.contains("65,535") == true)
        }
    }

    // MARK: The statement cache's key

    private static func byID(_ id: Int) -> PostgresQuery { "SELECT name FROM users WHERE id = \(id)" }
    private static func all(_ table: String) -> PostgresQuery { "SELECT * FROM \(identifier: table)" }
    private static func raw(_ text: String) -> PostgresQuery { "SELECT \(unsafeSQL: text)" }
    private static func filtered(_ filter: PostgresQuery) -> PostgresQuery { "SELECT 1 WHERE \(filter)" }
    private static func value<Value: PostgresEncodable>(_ value: Value) -> PostgresQuery { "SELECT \(value)" }

    /// Whether the second is found as the same query as the first.
    private func areOneStatement(_ first: PostgresQuery, _ second: PostgresQuery) -> Bool {
        var known = KnownQueries(capacity: 16)
        let one = known.find(first)
        return known.find(second) === one
    }

    @Test func oneLiteralWithOtherValuesIsOneStatement() {
        #expect(areOneStatement(Self.byID(1), Self.byID(2)))
        #expect(areOneStatement(Self.all("users"), Self.all("users")))
        let filters = [1, 2].map { number -> PostgresQuery in "a = \(number)" }
        #expect(areOneStatement(Self.filtered(filters[0]), Self.filtered(filters[1])))
    }

    @Test func anotherNameTextOrTypeIsAnotherStatement() {
        #expect(!areOneStatement(Self.all("users"), Self.all("orders")))
        #expect(!areOneStatement(Self.raw("1"), Self.raw("2")))
        #expect(!areOneStatement(Self.value(1), Self.value(Int32(1))))
        #expect(!areOneStatement(Self.value(1), Self.value("1")))
        // The server holds the composed and the decomposed form apart; Swift's == does not.
        #expect("\u{E4}" == "a\u{308}")
        #expect(!areOneStatement(Self.all("\u{E4}"), Self.all("a\u{308}")))
        #expect(!areOneStatement(Self.raw("'\u{E4}'"), Self.raw("'a\u{308}'")))
    }

    @Test func aNameIsNotTakenForTextOfTheSameSpelling() {
        #expect(!areOneStatement(Self.all("users"), Self.filtered("users")))
        let name: (String) -> PostgresQuery = { "\(identifier: $0)" }
        let text: (String) -> PostgresQuery = { "\(unsafeSQL: $0)" }
        #expect(!areOneStatement(name("a"), text("a")))
    }

    @Test func aFinishedTextIsKnownByItsNumber() {
        let one = PostgresQuery.Text(unsafeSQL: "SELECT 1")
        let two = PostgresQuery.Text(unsafeSQL: "SELECT 1")
        func query(_ text: PostgresQuery.Text) -> PostgresQuery { PostgresQuery(text, parameterCount: 0) { _ in } }
        #expect(areOneStatement(query(one), query(one)))
        #expect(!areOneStatement(query(one), query(two)))
        // The second level knows that the text is the same.
        #expect(KnownQuery(query(one)).key == KnownQuery(query(two)).key)
    }
}
