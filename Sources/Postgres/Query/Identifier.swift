/// The only place where identifiers are quoted (manual, "Identifiers and Key Words").
enum Identifier {
    /// NAMEDATALEN - 1: the server cuts a longer name off, silently, and then may mean another object.
    static let maximumBytes = 63

    static func quoted(_ name: String) -> String {
        var quoted = "\""
        for scalar in name.unicodeScalars {
            if scalar == "\"" { quoted.unicodeScalars.append("\"") }
            quoted.unicodeScalars.append(scalar)
        }
        quoted.unicodeScalars.append("\"")
        return quoted
    }

    static func check(_ name: String) -> PostgresError? {
        if name.isEmpty { return PostgresError(code: .invalidArgument, message: "an identifier is empty") }
        if name.utf8.contains(0) {
            return PostgresError(code: .invalidArgument, message: "an identifier contains a NUL character")
        }
        let count = name.utf8.count
        if count > maximumBytes {
            return PostgresError(
                code: .invalidArgument,
                message: "the identifier \"\(name)\" has \(count) bytes; the server keeps \(maximumBytes)",
                hint: "use a shorter name")
        }
        return nil
    }
}
