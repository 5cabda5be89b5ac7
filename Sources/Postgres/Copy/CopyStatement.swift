/// Writes COPY statements. Names are quoted as identifiers, options as string literals; nothing else of a user's gets into the
/// text but a query of their own.
enum CopyStatement {
    static func into(
        _ table: String, schema: String?, columns: [String], _ format: PostgresCopyFormat
    ) throws(PostgresError) -> String {
        "COPY " + (try relation(table, schema, columns)) + " FROM STDIN" + (try options(format))
    }

    static func from(
        _ table: String, schema: String?, columns: [String], _ format: PostgresCopyFormat
    ) throws(PostgresError) -> String {
        "COPY " + (try relation(table, schema, columns)) + " TO STDOUT" + (try options(format))
    }

    static func rows(of query: PostgresQuery, _ format: PostgresCopyFormat) throws(PostgresError) -> String {
        if let problem = query.problem { throw problem }
        guard query.parameterCount == 0 else {
            throw PostgresError(
                code: .invalidArgument,
                message: "COPY takes no parameters, and this query has \(query.parameterCount)", sql: query.sql,
                hint: "use stream(), or put the rows into a temporary table first")
        }
        // On a line of its own, in case the query ends in a comment.
        return "COPY (\(query.sql)\n) TO STDOUT" + (try options(format))
    }

    /// What to describe to learn the columns' types.
    static func select(
        _ table: String, schema: String?, columns: [String]
    ) throws(PostgresError) -> PostgresQuery {
        let list = columns.isEmpty ? "*" : try names(columns).joined(separator: ", ")
        let relation = try relation(table, schema, [])
        return "SELECT \(unsafeSQL: list) FROM \(unsafeSQL: relation)"
    }

    private static func relation(
        _ table: String, _ schema: String?, _ columns: [String]
    ) throws(PostgresError) -> String {
        var text = try name(table)
        if let schema { text = try name(schema) + "." + text }
        if !columns.isEmpty { text += " (" + (try names(columns).joined(separator: ", ")) + ")" }
        return text
    }

    private static func name(_ name: String) throws(PostgresError) -> String {
        if let error = Identifier.check(name) { throw error }
        return Identifier.quoted(name)
    }

    private static func names(_ names: [String]) throws(PostgresError) -> [String] {
        var quoted: [String] = []
        for each in names { quoted.append(try name(each)) }
        return quoted
    }

    private static func options(_ format: PostgresCopyFormat) throws(PostgresError) -> String {
        if format == .text { return "" }
        var options = ["FORMAT \(format.kind.rawValue)"]
        for option in format.options {
            switch option.value {
            case .flag: options.append(option.name)
            case .literal(let text): options.append("\(option.name) " + (try literal(text)))
            case .character(let character):
                guard character.isASCII, character.unicodeScalars.count == 1 else {
                    throw PostgresError(
                        code: .invalidArgument, message: "\(option.name) of a COPY must be one character of one byte")
                }
                options.append("\(option.name) " + (try literal(String(character))))
            case .columns(let columns):
                options.append("\(option.name) (" + (try names(columns).joined(separator: ", ")) + ")")
            }
        }
        return " WITH (" + options.joined(separator: ", ") + ")"
    }

    /// A string constant (manual, "String Constants"): with a backslash in the form that means the same whatever
    /// `standard_conforming_strings` is.
    private static func literal(_ text: String) throws(PostgresError) -> String {
        if text.utf8.contains(0) {
            throw PostgresError(code: .invalidArgument, message: "an option of a COPY contains a NUL character")
        }
        var quoted = text.utf8.contains(UInt8(ascii: "\\")) ? "E'" : "'"
        for scalar in text.unicodeScalars {
            if scalar == "'" || scalar == "\\" { quoted.unicodeScalars.append(scalar) }
            quoted.unicodeScalars.append(scalar)
        }
        return quoted + "'"
    }
}
