public import Postgres

/// A name as an identifier. The quoting itself is done in one place, by `PostgresQuery`.
func quoted(_ name: String) -> String { PostgresQuery("\(identifier: name)").sql }

/// The same judgement that a query makes of its identifiers; here it has to be known while a text is made.
func checkIdentifier(_ name: String) -> PostgresError? {
    if name.isEmpty { return .upsert("an identifier is empty") }
    if name.utf8.contains(0) { return .upsert("an identifier contains a NUL character") }
    if name.utf8.count > 63 {
        return .upsert(
            "the identifier \"\(name)\" has \(name.utf8.count) bytes; the server keeps 63", hint: "use a shorter name")
    }
    return nil
}

extension PostgresError {
    /// A mistake in a declaration or an upsert, found before anything is sent.
    static func upsert(_ message: String, hint: String? = nil) -> PostgresError {
        PostgresError(code: .invalidArgument, message: message, hint: hint)
    }
}

extension PostgresQuery {
    /// A query that only fails, when it is run, and before anything is sent.
    @usableFromInline @inline(never)
    static func failing(_ error: PostgresError) -> PostgresQuery {
        PostgresQuery(failureText, parameterCount: 1) { encoder in
            encoder.appendParameter(of: .unspecified) { (_: inout PostgresEncoder) throws(PostgresError) in throw error
            }
        }
    }
}

private let failureText = PostgresQuery.Text(unsafeSQL: "-- not sent")
