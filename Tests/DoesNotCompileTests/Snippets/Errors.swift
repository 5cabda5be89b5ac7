import Postgres

// Errors are typed: no cast, and nothing else to catch.

func typedErrors(_ db: PostgresConnection) async {
    do throws(PostgresError) {
        try await db.execute("SELECT 1")
    } catch {
        let right: PostgresError.Code = error.code
        // error: cannot convert value of type 'PostgresError.Code' to specified type 'PostgresError.Outcome'
        let wrong: PostgresError.Outcome = error.code
        _ = (right, wrong)
    }
}

func passedOn(_ db: PostgresConnection) async throws(PostgresError) {
    try await db.execute("SELECT 1")
    // error: thrown expression type 'NotOurs' cannot be converted to error type 'PostgresError'
    throw NotOurs()
}

struct NotOurs: Error {}
