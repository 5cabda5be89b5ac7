import Postgres

// A query is a literal, and its holes take what PostgreSQL has a type for.

struct NoParameter {}

func texts(_ db: PostgresConnection, _ text: String) async throws {
    try await db.execute("SELECT \(text)")
    // error: cannot convert value of type 'String' to expected argument type 'PostgresQuery'
    try await db.execute(text)
    // error: cannot convert value of type 'String' to expected argument type 'PostgresQuery'
    try await db.execute("SELECT " + text)
    // error: cannot convert value of type 'String' to expected argument type 'StaticString'
    _ = PostgresQuery(stringLiteral: text)
    try await db.execute("SELECT 1 \(unsafeSQL: text)")
}

func parameters(_ db: PostgresConnection, _ number: Int?, _ bytes: PostgresBytes, _ octets: [UInt8]) async throws {
    try await db.execute("SELECT \(number)")
    // error: requires that 'NoParameter' conform to 'PostgresEncodable'
    try await db.execute("SELECT \(NoParameter())")
    // error: 'nil' is not compatible
    try await db.execute("SELECT \(nil)")
    try await db.execute("SELECT \(bytes)")
    // error: cannot convert value of type '[UInt8]'
    try await db.execute("SELECT \(octets)")
    try await db.execute("SELECT \(list: [1, 2])")
    // error: cannot convert value of type 'NoParameter'
    try await db.execute("SELECT \(list: [NoParameter()])")
}
