import Postgres

// Rows have the types that were asked for, through every way to run a query.

struct NoColumn {}

struct User: Decodable, PostgresRowDecodable {
    var id: Int
    var name: String?
}

struct Plain: Decodable {
    var id: Int
}

func columns(_ db: PostgresConnection) async throws {
    for try await (id, name) in try await db.query("SELECT 1, 'a'", as: (Int, String).self) {
        let right: (Int, String) = (id, name)
        // error: cannot convert value of type '(Int, String)' to specified type '(String, String)'
        let wrong: (String, String) = (id, name)
        _ = (right, wrong)
    }
    // error: no exact matches in call to instance method 'query'
    _ = try await db.query("SELECT 1", as: (Int, NoColumn).self)
}

func endings(_ db: PostgresConnection) async throws {
    let number: Int = try await db.query("SELECT 1", as: Int.self).one()
    // error: cannot convert value of type 'Int' to specified type 'String'
    let text: String = try await db.query("SELECT 1", as: Int.self).one()
    let numbers: [Int] = try await db.query("SELECT 1", as: Int.self).all()
    // error: cannot assign value of type '[Int]' to type '[String]'
    let texts: [String] = try await db.query("SELECT 1", as: Int.self).all()
    // error: cannot convert value of type 'Int?' to specified type 'Int'
    let first: Int = try await db.query("SELECT 1", as: Int.self).first()
    _ = (number, text, numbers, texts, first)
}

func types(_ db: PostgresConnection) async throws {
    _ = try await db.query("SELECT 1 AS id", as: User.self)
    // error: no exact matches in call to instance method 'query'
    _ = try await db.query("SELECT 1 AS id", as: Plain.self)
}

func pipelines(_ db: PostgresConnection) async throws {
    let users = PostgresQuery("SELECT 1, 'a'").as((Int, String).self)
    let total = PostgresQuery("SELECT 1").as(Int.self)
    let (rows, count) = try await db.pipeline(users, total)
    let right: Int = try count.one()
    // error: cannot convert value of type 'Int' to specified type 'String'
    let wrong: String = try count.one()
    // error: cannot assign value of type '[(Int, String)]' to type '[(Int, Int)]'
    let pairs: [(Int, Int)] = try rows.all()
    _ = (right, wrong, pairs)

    var flight = PostgresPipeline(.atomic)
    let ticket = flight.add(total)
    let results = try await db.run(flight)
    let one: Int = try results[ticket].one()
    // error: cannot convert value of type 'Int' to specified type 'String'
    let other: String = try results[ticket].one()
    _ = (one, other)
}

func byName(_ row: PostgresRow) throws {
    let id: Int = try row["id"]
    // error: requires that 'NoColumn' conform to 'PostgresDecodable'
    let none: NoColumn = try row["id"]
    _ = (id, none)
}

func copies(_ db: PostgresConnection) async throws {
    try await db.copy(into: "visits", columns: ["page", "hits"], rows: [("/", 1)])
    // error: no exact matches in call to instance method 'copy'
    try await db.copy(into: "visits", columns: ["page", "hits"], rows: [("/", NoColumn())])
}

// Rows are made where their bytes are, on any thread.

struct Anywhere: PostgresRowDecodable {
    init(row: PostgresRow) throws(PostgresError) {}
}

// error: cannot form main actor-isolated conformance of 'OnTheMainActor'
@MainActor struct OnTheMainActor: @MainActor PostgresRowDecodable {
    init(row: PostgresRow) throws(PostgresError) {}
}
